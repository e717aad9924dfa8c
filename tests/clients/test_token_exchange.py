"""The exchange broker lends what the token endpoint gives for the caller's token, and nothing else."""

import asyncio
import json
import time

import pytest
from certificates import identity
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from fakes.lending import FORM, KEY, grant
from fakes.token_endpoint import CLIENT_ID, CLIENT_SECRET, TokenEndpoint
from fakes.waiting import until

from rankgate.clients.breaker import Breaker
from rankgate.clients.credentials import broker_for
from rankgate.clients.token_exchange import CACHE_ENTRIES, FLIGHTS, MARGIN_S, ExchangeBroker
from rankgate.credentials import Secret, contains
from rankgate.demo.issuer import DevIssuer
from rankgate.errors import GateError, Reason, SettingsError
from rankgate.minting import MintingKeys, new_key
from rankgate.settings import CredentialSettings, ExchangeSettings


class Time:
    def __init__(self):
        self.now = time.time()

    def __call__(self):
        return self.now


@pytest.fixture
async def issuer():
    one = DevIssuer(algorithm="ES256", lifetime_s=3600)
    await one.start()
    yield one
    await one.stop()


@pytest.fixture
async def endpoint(issuer):
    async with TokenEndpoint(issuer) as one:
        yield one


@pytest.fixture
def secret_file(tmp_path):
    path = tmp_path / "secret"
    path.write_text(f"{CLIENT_SECRET}\n")
    return path


@pytest.fixture
async def make(endpoint, secret_file):
    made = []

    def build(*, clock=time.time, timeout_s=5.0, breaker=None, **changes):
        usual = {
            "token_url": endpoint.url,
            "insecure_http": endpoint.url.startswith("http:"),
            "client_id": CLIENT_ID,
            "client_secret_file": secret_file,
            "audiences": ("https://engine.example",),
        }
        settings = ExchangeSettings.model_validate({**usual, **changes})
        made.append(ExchangeBroker(settings, FORM, clock=clock, timeout_s=timeout_s, breaker=breaker))
        return made[-1]

    yield build
    for one in made:
        await one.stop()


def asked(issuer, subject="search", **changes):
    return grant(token=Secret(issuer.mint(sub=subject)), **changes)


async def refused(broker, one):
    with pytest.raises(GateError) as caught:
        await broker.lease(one)
    assert caught.value.reason is Reason.CREDENTIAL_UNAVAILABLE
    assert one.token.reveal() not in f"{caught.value!r} {caught.value.detail} {caught.value.public}"
    return caught.value.detail


async def test_the_lease_is_the_issued_token_with_its_fingerprint(make, issuer, endpoint):
    one = asked(issuer)
    lease = await make().lease(one)
    assert lease.value.reveal() == f"Bearer {endpoint.issued[0]}"
    assert contains(KEY, lease.fingerprint, endpoint.issued[0].encode())
    assert not contains(KEY, lease.fingerprint, one.token.reveal().encode())


async def test_the_request_is_that_of_rfc_8693_for_every_audience_and_resource(make, issuer, endpoint):
    one = asked(issuer)
    targets = {"audiences": ("a", "b c"), "resources": ("https://r.example/v2?x=1",), "scopes": ("rank", "read")}
    await make(**targets).lease(one)
    kind = "urn:ietf:params:oauth:token-type:access_token"
    assert endpoint.forms == [
        {
            "grant_type": ["urn:ietf:params:oauth:grant-type:token-exchange"],
            "subject_token": [one.token.reveal()],
            "subject_token_type": [kind],
            "requested_token_type": [kind],
            "audience": ["a", "b c"],
            "resource": ["https://r.example/v2?x=1"],
            "scope": ["rank read"],
        }
    ]


async def test_a_key_proves_the_client_anew_with_each_request(make, issuer, endpoint, tmp_path):
    key_file = tmp_path / "client.pem"
    key_file.write_bytes(new_key())
    (public,) = MintingKeys.read(key_file.read_bytes()).public
    endpoint._client_key = dict(public)
    broker = make(client_secret_file=None, client_key_file=key_file)
    for subject in ("a", "b"):
        await broker.lease(asked(issuer, subject))
    assert len(endpoint.issued) == 2
    assert "authorization" not in {name.lower() for name in endpoint.request_headers[0]}


async def test_a_changed_secret_is_used_with_the_next_request(make, issuer, endpoint, secret_file):
    broker = make()
    await broker.lease(asked(issuer, "a"))
    endpoint.secret = "another secret".replace(" ", "-")
    assert await refused(broker, asked(issuer, "b")) == "exchange: invalid_client"
    secret_file.with_name("new").write_text(endpoint.secret)
    secret_file.with_name("new").replace(secret_file)
    await broker.lease(asked(issuer, "b"))
    secret_file.unlink()
    assert await refused(broker, asked(issuer, "c")) == "exchange: client proof"


async def test_a_token_is_exchanged_once_until_shortly_before_it_ends(make, issuer, endpoint):
    clock = Time()
    broker, one = make(clock=clock), asked(issuer)
    first = await broker.lease(one)
    clock.now += endpoint.lifetime_s - MARGIN_S - 1
    assert await broker.lease(one) is first
    clock.now += 1
    assert await broker.lease(one) is not first
    assert len(endpoint.forms) == 2


async def test_what_was_lent_is_lent_no_longer_than_the_callers_token_lives(make, issuer, endpoint):
    clock = Time()
    broker, one = make(clock=clock), asked(issuer, expires=int(time.time()) + 20)
    await broker.lease(one)
    clock.now += 11
    await broker.lease(one)
    assert len(endpoint.forms) == 2


async def test_a_clock_that_went_back_ends_what_is_remembered(make, issuer, endpoint):
    clock = Time()
    broker, one = make(clock=clock), asked(issuer)
    await broker.lease(one)
    clock.now -= 5
    await broker.lease(one)
    assert len(endpoint.forms) == 2


@pytest.mark.parametrize("members", [{"expires_in": None}, {"expires_in": 5}])
async def test_a_token_without_an_end_or_with_a_near_one_is_lent_and_not_remembered(make, issuer, endpoint, members):
    endpoint.changes = members
    broker, one = make(), asked(issuer)
    await broker.lease(one)
    await broker.lease(one)
    assert len(endpoint.forms) == 2


async def test_other_tokens_and_other_routes_are_exchanged_on_their_own(make, issuer, endpoint):
    broker = make()
    one = asked(issuer)
    leases = [
        await broker.lease(each) for each in (one, asked(issuer, "other"), grant(token=one.token, route="rerank"))
    ]
    assert len({lease.value.reveal() for lease in leases}) == 3


async def test_calls_with_one_token_share_one_exchange_and_one_that_leaves_ends_nothing(make, issuer, endpoint):
    endpoint.gate.clear()
    broker, one = make(), asked(issuer)
    calls = [asyncio.create_task(broker.lease(one)) for _ in range(5)]
    await until(lambda: len(endpoint.forms) == 1)
    calls[0].cancel()
    endpoint.gate.set()
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    assert len({id(lease) for lease in done[1:]}) == 1
    assert len(endpoint.forms) == 1


async def test_a_refusal_is_shared_but_never_remembered(make, issuer, endpoint):
    endpoint.changes = {"expires_in": -1}
    broker, one = make(), asked(issuer)
    assert await refused(broker, one) == "exchange: expired"
    endpoint.changes = {}
    await broker.lease(one)


UNFIT = {
    "another kind of token": ({"issued_token_type": "urn:ietf:params:oauth:token-type:id_token"}, "issued_token_type"),
    "no kind": ({"issued_token_type": None}, "issued_token_type"),
    "not usable as an access token": ({"token_type": "N_A"}, "token_type"),
    "bound to a key": ({"token_type": "DPoP"}, "token_type"),
    "no token type": ({"token_type": None}, "malformed"),
    "no token": ({"access_token": None}, "malformed"),
    "a number": ({"access_token": 1}, "malformed"),
    "ended": ({"expires_in": 0}, "expired"),
    "no time": ({"expires_in": "120"}, "malformed"),
    "true": ({"expires_in": True}, "malformed"),
    "more than was asked for": ({"scope": "rank admin"}, "scope"),
    "scopes in a list": ({"scope": ["rank"]}, "malformed"),
    "too short": ({"access_token": "short"}, "content"),
    "with a space": ({"access_token": "Bearer " + "x" * 32}, "content"),
    "with a line": ({"access_token": "x" * 32 + "\r\nx: y"}, "content"),
    "a jwt that ended": (
        {"access_token": "eyJhbGciOiJFUzI1NiJ9.eyJleHAiOjEwMDB9.c2lnbmF0dXJlc2lnbmF0dXJl"},
        "expired",
    ),
}


@pytest.mark.parametrize(("members", "word"), UNFIT.values(), ids=UNFIT)
async def test_a_token_that_is_not_what_was_asked_for_is_not_lent(make, issuer, endpoint, members, word):
    endpoint.changes = members
    assert await refused(make(scopes=("rank",)), asked(issuer)) == f"exchange: {word}"


async def test_the_callers_own_token_given_back_is_not_lent(make, issuer, endpoint):
    one = asked(issuer)
    endpoint.changes = {"access_token": one.token.reveal()}
    assert await refused(make(), one) == "exchange: same token"


FAULTS = {
    "500": "status 500",
    "429": "status 429",
    "redirect": "status 307",
    "close": "connection",
    "huge": "too large",
    "gzip": "content-encoding",
    "not json": "malformed",
    "html 200": "malformed",
}


@pytest.mark.parametrize(("fault", "word"), FAULTS.items())
async def test_a_broken_endpoint_lends_nothing_and_nobody_else_is_asked(make, issuer, endpoint, fault, word):
    endpoint.fault = fault
    assert await refused(make(), asked(issuer)) == f"exchange: {word}"
    assert len(endpoint.forms) == 1


async def test_a_slow_endpoint_is_not_waited_for(make, issuer, endpoint):
    endpoint.fault = "hang"
    assert await refused(make(timeout_s=0.05), asked(issuer)) == "exchange: late"


async def test_a_stopped_endpoint_is_left_alone_after_failures_and_asked_again_later(make, issuer, endpoint):
    clock = Time()
    port = int(endpoint.url.split(":")[2].split("/")[0])
    await endpoint.stop()
    broker = make(breaker=Breaker(failures=2, clock=clock))
    words = [await refused(broker, asked(issuer, str(number))) for number in range(3)]
    assert words == ["exchange: connection", "exchange: connection", "exchange: resting"]
    await endpoint.start(port)
    clock.now += 2
    await broker.lease(asked(issuer))


async def test_a_token_that_is_refused_does_not_close_the_gate_to_others(make, issuer, endpoint):
    broker = make(breaker=Breaker(failures=1))
    stranger = DevIssuer(algorithm="ES256")
    stranger.url = issuer.url
    assert await refused(broker, asked(stranger)) == "exchange: invalid_grant"
    await broker.lease(asked(issuer))


async def test_a_target_that_is_refused_is_told_by_its_word(make, issuer):
    assert await refused(make(audiences=("https://forbidden.example",)), asked(issuer)) == "exchange: invalid_target"


async def test_more_exchanges_at_a_time_than_there_is_room_for_are_refused_at_once(make, issuer, endpoint):
    endpoint.gate.clear()
    broker = make()
    calls = [asyncio.create_task(broker.lease(asked(issuer, str(number)))) for number in range(FLIGHTS)]
    await asyncio.sleep(0)
    assert await refused(broker, asked(issuer)) == "exchange: too many"
    endpoint.gate.set()
    await asyncio.gather(*calls)


async def test_what_is_remembered_is_bounded(make, issuer, endpoint):
    broker, one = make(), asked(issuer)
    first = await broker.lease(one)
    for number in range(CACHE_ENTRIES):
        broker._remember((bytes([number % 256]), str(number)), time.time(), time.time() + 100, first)
    await broker.lease(one)
    assert len(broker._lent) == CACHE_ENTRIES
    assert len(endpoint.forms) == 2


async def test_stopping_ends_an_exchange_under_way_as_a_refusal(make, issuer, endpoint):
    endpoint.gate.clear()
    broker = make()
    call = asyncio.create_task(broker.lease(asked(issuer)))
    await until(lambda: len(endpoint.forms) == 1)
    await broker.stop()
    with pytest.raises(GateError) as caught:
        await call
    assert caught.value.detail == "exchange: stopped"


async def test_no_proxy_and_no_cookie_come_between(make, issuer, endpoint, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    broker = make()
    for subject in ("a", "b"):
        await broker.lease(asked(issuer, subject))
    assert all("Cookie" not in headers for headers in endpoint.request_headers)
    assert endpoint.request_headers[0]["User-Agent"] == "rankgate"


@pytest.mark.parametrize("trusted", [True, False])
async def test_over_tls_only_an_endpoint_that_proves_its_name_sees_a_token(issuer, secret_file, tmp_path, trusted):
    own, other = identity(tmp_path / "a", "127.0.0.1"), identity(tmp_path / "b", "127.0.0.1")
    async with TokenEndpoint(issuer, tls=own.server()) as endpoint:
        settings = ExchangeSettings.model_validate(
            {
                "token_url": endpoint.url,
                "ca_file": (own if trusted else other).certificate,
                "client_id": CLIENT_ID,
                "client_secret_file": secret_file,
                "audiences": ("a",),
            }
        )
        broker = ExchangeBroker(settings, FORM, timeout_s=5.0)
        if trusted:
            assert (await broker.lease(asked(issuer))).value.reveal() == f"Bearer {endpoint.issued[0]}"
        else:
            assert await refused(broker, asked(issuer)) == "exchange: connection"
            assert not endpoint.forms
        await broker.stop()


P384 = ec.generate_private_key(ec.SECP384R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("client_secret_file", None),
        ("client_secret_file", b""),
        ("client_secret_file", b"two words"),
        ("client_secret_file", "schlüssel".encode()),
        ("client_key_file", None),
        ("client_key_file", b"no key"),
        ("client_key_file", P384),
        ("ca_file", b"no certificate"),
    ],
)
def test_a_file_that_proves_nothing_is_refused_at_start(tmp_path, secret_file, name, content):
    file = tmp_path / "file"
    if content is not None:
        file.write_bytes(content)
    proof = {} if name.startswith("client") else {"client_secret_file": secret_file}
    exchange = {"token_url": "https://idp.example/token", "client_id": "gate", "audiences": ["a"], name: file, **proof}
    settings = CredentialSettings.model_validate({"broker": "exchange", "exchange": exchange})
    with pytest.raises(SettingsError, match=rf"credentials\.exchange\.{name} .*; "):
        broker_for(settings, KEY)


async def test_nothing_that_was_sent_shows_in_a_text_form_of_the_broker(make, issuer):
    one = asked(issuer)
    broker = make()
    await broker.lease(one)
    text = f"{vars(broker)!r} {one!r} {json.dumps(str(broker._lent))}"
    assert one.token.reveal() not in text
    assert CLIENT_SECRET not in text
