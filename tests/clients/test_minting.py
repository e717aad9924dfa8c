"""The minting broker lends a token of one request, signed by what its key file holds now."""

import json

import pytest
from fakes.lending import FORM, KEY, grant
from jose import jwt

from rankgate.clients.credentials import broker_for
from rankgate.clients.minting import JWKS_PATH, MintingBroker
from rankgate.credentials import contains, length
from rankgate.errors import GateError, Reason, SettingsError
from rankgate.minting import new_key
from rankgate.settings import CredentialSettings, MintedSettings

NOW = 1_800_000_000.9


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "minting.pem"
    path.write_bytes(new_key())
    return path


def replace(path, content):
    draft = path.with_suffix(".new")
    draft.write_bytes(content)
    draft.replace(path)


def broker(path, **changes):
    settings = MintedSettings.model_validate(
        {"issuer": "https://gate.example", "audience": "engine", "key_file": path} | changes
    )
    return MintingBroker(settings, FORM, clock=lambda: NOW)


def token_of(lease):
    scheme, _, token = lease.value.reveal().partition(" ")
    assert (lease.header, scheme) == ("authorization", "Bearer")
    return token


def read(token, one):
    """Return the claims of a token, verified with what the broker publishes."""
    kid = jwt.get_unverified_header(token)["kid"]
    (key,) = (key for key in json.loads(one.published()[JWKS_PATH]())["keys"] if key["kid"] == kid)
    return jwt.decode(token, key, ["ES256"], audience="engine", options={"verify_exp": False, "verify_iat": False})


async def test_a_lease_is_a_token_of_this_request_for_seconds(key_file):
    one = broker(key_file)
    claims = read(token_of(await one.lease(grant())), one)
    assert (claims["sub"], claims["tenant"], claims["jti"]) == ("search-svc", "acme", "dec-1")
    assert (claims["iat"], claims["exp"]) == (int(NOW), int(NOW) + 30)


async def test_the_fingerprint_is_that_of_the_token_that_is_sent(key_file):
    lease = await broker(key_file).lease(grant())
    token = token_of(lease)
    assert length(lease.fingerprint) == len(token)
    assert contains(KEY, lease.fingerprint, f"you sent {token}!".encode())
    assert token not in f"{lease!r}"


async def test_the_longest_names_there_are_fit_into_a_lease(key_file):
    long = grant(subject="\U0001f600" * 256, tenant="\U0001f600" * 128, issuer="https://" + "i" * 500)
    one = broker(key_file)
    assert read(token_of(await one.lease(long)), one)["sub"] == long.subject


async def test_rotation_in_three_steps_needs_no_restart_and_breaks_no_token(key_file):
    old, new = key_file.read_bytes(), new_key()
    one = broker(key_file)
    before = token_of(await one.lease(grant()))
    replace(key_file, old + new)
    announced = token_of(await one.lease(grant()))
    replace(key_file, new + old)
    turned = token_of(await one.lease(grant()))
    assert all(read(token, one) for token in (before, announced, turned))
    replace(key_file, new)
    after = token_of(await one.lease(grant()))
    kids = [jwt.get_unverified_header(token)["kid"] for token in (before, announced, turned, after)]
    assert kids[0] == kids[1] != kids[2] == kids[3]
    with pytest.raises(ValueError):
        read(before, one)


@pytest.mark.parametrize("content", [None, b"", b"no key", new_key()[:100]])
async def test_a_key_that_is_gone_or_bad_signs_no_more_and_is_published_no_more(key_file, content):
    one = broker(key_file)
    await one.lease(grant())
    key_file.unlink()
    if content is not None:
        key_file.write_bytes(content)
    with pytest.raises(GateError) as caught:
        await one.lease(grant())
    assert caught.value.reason is Reason.CREDENTIAL_UNAVAILABLE
    with pytest.raises(GateError):
        one.published()[JWKS_PATH]()


async def test_a_ruling_that_names_a_kind_is_not_carried_out(key_file):
    with pytest.raises(GateError) as caught:
        await broker(key_file).lease(grant(kind="other"))
    assert (caught.value.reason, caught.value.detail) == (Reason.CREDENTIAL_UNAVAILABLE, "kind")


@pytest.mark.parametrize("content", [None, b"", b"no key"])
def test_a_gate_without_a_key_to_sign_with_does_not_start(tmp_path, content):
    path = tmp_path / "minting.pem"
    if content is not None:
        path.write_bytes(content)
    settings = CredentialSettings.model_validate(
        {"broker": "minted", "minted": {"issuer": "i", "audience": "a", "key_file": path}}
    )
    with pytest.raises(SettingsError, match=r"credentials\.minted\.key_file .*; make a key with: openssl"):
        broker_for(settings, KEY)


async def test_the_configured_header_and_word_carry_it(key_file):
    settings = CredentialSettings.model_validate(
        {
            "broker": "minted",
            "header": "x-engine-token",
            "scheme": "",
            "minted": {"issuer": "i", "audience": "a", "key_file": key_file},
        }
    )
    lease = await broker_for(settings, KEY).lease(grant())
    assert lease.header == "x-engine-token"
    assert jwt.get_unverified_claims(lease.value.reveal())["jti"] == "dec-1"
