"""The file broker lends what the file holds now, and lends nothing where that cannot be a credential."""

import pytest
from fakes.lending import KEY, grant

from rankgate.clients.credentials import broker_for
from rankgate.credentials import contains
from rankgate.errors import GateError, Reason, SettingsError
from rankgate.settings import CredentialSettings

GRANT = grant()


def broker(path, **settings):
    return broker_for(CredentialSettings(broker="file", file=path, **settings), KEY)


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "key"
    path.write_text("sk-upstream-00001\n")
    return path


async def test_a_lease_carries_the_scheme_the_key_and_its_fingerprint(key_file):
    lease = await broker(key_file).lease(GRANT)
    assert (lease.header, lease.value.reveal()) == ("authorization", "Bearer sk-upstream-00001")
    assert contains(KEY, lease.fingerprint, b"... sk-upstream-00001 ...")


async def test_an_api_key_header_needs_no_scheme(key_file):
    lease = await broker(key_file, header="api-key", scheme="").lease(GRANT)
    assert (lease.header, lease.value.reveal()) == ("api-key", "sk-upstream-00001")


async def test_a_changed_file_is_lent_at_the_next_request(key_file):
    one = broker(key_file)
    await one.lease(GRANT)
    replacement = key_file.with_name("new")
    replacement.write_text("sk-upstream-00002")
    replacement.replace(key_file)
    assert (await one.lease(GRANT)).value.reveal() == "Bearer sk-upstream-00002"


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"two words", b"line\nline", "schlüssel".encode(), b"\x00", b"x" * 9000, b"x" * 15]
)
async def test_what_cannot_be_a_credential_is_not_lent_and_refused_at_start(key_file, content):
    one = broker(key_file)
    key_file.write_bytes(content)
    with pytest.raises(SettingsError, match="holds no credential"):
        broker(key_file)
    with pytest.raises(GateError) as caught:
        await one.lease(GRANT)
    assert caught.value.reason is Reason.CREDENTIAL_UNAVAILABLE


async def test_a_file_that_vanishes_is_not_lent_from_memory(key_file):
    one = broker(key_file)
    await one.lease(GRANT)
    key_file.unlink()
    with pytest.raises(GateError) as caught:
        await one.lease(GRANT)
    assert caught.value.reason is Reason.CREDENTIAL_UNAVAILABLE


async def test_a_credential_kind_the_broker_does_not_have_is_refused(key_file):
    for one in (broker(key_file), broker_for(CredentialSettings(), KEY)):
        with pytest.raises(GateError) as caught:
            await one.lease(grant(kind="minted"))
        assert caught.value.reason is Reason.CREDENTIAL_UNAVAILABLE


async def test_no_broker_lends_nothing():
    assert await broker_for(CredentialSettings(), KEY).lease(GRANT) is None


def test_a_missing_file_is_refused_at_start_with_the_remedy(tmp_path):
    with pytest.raises(SettingsError, match=r"credentials\.file .* does not exist; write"):
        broker(tmp_path / "absent")
