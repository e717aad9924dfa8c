"""Keys arrive over HTTP, rotate, go bad and go missing; good ones go on serving for as long as configured."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from fakes.clock import Clock
from fakes.issuer import FakeIssuer, Fault, signing_key

from rankgate.clients.jwks import JwksClient
from rankgate.errors import GateError, Reason, SettingsError

REFRESH_S, COOLDOWN_S, STALE_S, TIMEOUT_S = 300, 30, 3600, 5.0


@asynccontextmanager
async def client_of(
    issuer: FakeIssuer, clock: Clock, *, timeout_s: float = TIMEOUT_S, **changes: Any
) -> AsyncIterator[JwksClient]:
    usual = {"refresh_s": REFRESH_S, "cooldown_s": COOLDOWN_S, "stale_s": STALE_S}
    client = JwksClient(issuer.settings(**(usual | changes)), clock=clock, sleep=clock.sleep, timeout_s=timeout_s)
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Let the background work until `condition` holds; the limit only ends a test that would hang."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # the server under test has no event to wait for
            await asyncio.sleep(0.001)


async def next_refresh(issuer: FakeIssuer, clock: Clock) -> None:
    """Move to the next background refresh and wait until it is over."""
    await until(lambda: len(clock.waits) == 1)
    clock.advance(clock.waits[0])
    await until(lambda: len(clock.waits) == 1)


def ids(client: JwksClient) -> set[str | None]:
    return {key.key_id for key in client.current().keys}


async def seek_and_look(client: JwksClient, key_id: str) -> bool:
    await client.seek(key_id)
    return client.current().knows(key_id)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def issuer() -> AsyncIterator[FakeIssuer]:
    async with FakeIssuer() as fake:
        yield fake


async def test_keys_are_found_by_discovery(issuer: FakeIssuer, clock: Clock) -> None:
    async with client_of(issuer, clock) as client:
        assert ids(client) == {"fake-0"}
        status = client.status()
        assert (status.issuer, status.usable, status.keys, status.age_s, status.fault) == (issuer.url, True, 1, 0.0, "")
        assert issuer.requests == {"discovery": 1, "jwks": 1}


async def test_a_configured_key_set_needs_no_discovery(issuer: FakeIssuer, clock: Clock) -> None:
    async with client_of(issuer, clock, jwks_uri=f"{issuer.url}/jwks") as client:
        assert ids(client) == {"fake-0"}
        assert issuer.requests == {"jwks": 1}


async def test_an_issuer_without_openid_discovery_is_found_by_rfc_8414(issuer: FakeIssuer, clock: Clock) -> None:
    issuer.discovery_fault = "404"
    async with client_of(issuer, clock) as client:
        assert ids(client) == {"fake-0"}
        assert issuer.requests["oauth_metadata"] == 1


async def test_requests_carry_nothing_of_ours(
    issuer: FakeIssuer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    async with client_of(issuer, clock) as client:
        assert ids(client) == {"fake-0"}
        for headers in issuer.request_headers:
            assert {name.lower() for name in headers} == {
                "host",
                "accept",
                "accept-encoding",
                "user-agent",
                "connection",
            }


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://other.example"},
        {"issuer": None},
        {"jwks_uri": None},
        {"jwks_uri": ["x"]},
        {"jwks_uri": "https://keys.attacker.example/jwks"},
        {"jwks_uri": "http://169.254.169.254/latest"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "https://127.0.0.1/jwks"},
        {"jwks_uri": "http://127.0.0.1:99999/jwks"},
        {"jwks_uri": "https://127.0.0.1\\@attacker.example/jwks"},
        {"jwks_uri": "https://user@127.0.0.1/jwks"},
        {"jwks_uri": ""},
    ],
    ids=repr,
)
async def test_discovery_that_leads_elsewhere_is_refused(
    issuer: FakeIssuer, clock: Clock, metadata: dict[str, Any]
) -> None:
    issuer.metadata = metadata
    async with client_of(issuer, clock) as client:
        with pytest.raises(GateError) as refusal:
            client.current()
        assert refusal.value.reason is Reason.KEYS_UNAVAILABLE
        assert client.status().fault in {"discovery names another issuer", "jwks_uri not trusted"}
        assert issuer.requests["jwks"] == 0


async def test_a_trusted_host_may_serve_the_keys(issuer: FakeIssuer, clock: Clock) -> None:
    async with FakeIssuer("keys") as other:
        issuer.metadata = {"jwks_uri": f"{other.url}/jwks"}
        async with client_of(issuer, clock) as client:
            assert client.status().fault == "jwks_uri not trusted"
        async with client_of(issuer, clock, trusted_hosts=(urlsplit(other.url).netloc,)) as client:
            assert ids(client) == {"keys-0"}


async def test_a_configured_key_set_elsewhere_must_be_trusted_at_the_start(issuer: FakeIssuer) -> None:
    with pytest.raises(SettingsError, match=r"issuers\.trusted_hosts"):
        JwksClient(issuer.settings(jwks_uri="https://keys.example/jwks"))
    JwksClient(issuer.settings(jwks_uri="https://keys.example/jwks", trusted_hosts=("keys.example",)))
    with pytest.raises(SettingsError, match=r"issuers\.trusted_hosts"):
        JwksClient(issuer.settings(trusted_hosts=("keys.example:port",)))


FAULTS: dict[Fault, str] = {
    "html": "key set malformed",
    "500": "status 500",
    "404": "status 404",
    "redirect": "status 302",
    "huge": "too large",
    "slow": "timeout",
    "hang": "timeout",
    "empty": "key set empty",
    "not json": "key set malformed",
    "array": "key set malformed",
    "gzip": "content-encoding",
}


@pytest.mark.parametrize(("fault", "word"), FAULTS.items())
async def test_scenario_11_a_broken_key_set_leaves_the_last_good_one(
    issuer: FakeIssuer, clock: Clock, fault: Fault, word: str
) -> None:
    async with client_of(issuer, clock, timeout_s=1.0) as client:
        issuer.fault = fault
        await next_refresh(issuer, clock)
        assert issuer.requests["jwks"] == 2
        assert issuer.requests["elsewhere"] == 0
        assert client.status().fault == word
        assert ids(client) == {"fake-0"}
        issuer.fault = None
        await next_refresh(issuer, clock)
        assert client.status().fault == ""


@pytest.mark.parametrize("fault", ["html", "500", "redirect", "huge", "hang"])
async def test_scenario_11_broken_discovery_leaves_the_last_good_set(
    issuer: FakeIssuer, clock: Clock, fault: Fault
) -> None:
    async with client_of(issuer, clock, timeout_s=1.0) as client:
        issuer.discovery_fault = fault
        await next_refresh(issuer, clock)
        assert client.status().fault != ""
        assert ids(client) == {"fake-0"}


async def test_scenario_11_an_outage_ends_the_set_at_its_limit_and_recovery_needs_no_restart(clock: Clock) -> None:
    issuer = FakeIssuer()
    await issuer.start()
    port = urlsplit(issuer.url).port
    async with client_of(issuer, clock) as client:
        await issuer.stop()
        limit_s = REFRESH_S + 2 * TIMEOUT_S + STALE_S
        await next_refresh(issuer, clock)
        assert client.status().fault == "connection"
        clock.advance(limit_s - REFRESH_S)
        assert client.status().usable
        clock.advance(0.001)
        with pytest.raises(GateError) as refusal:
            client.current()
        assert refusal.value.reason is Reason.KEYS_UNAVAILABLE
        assert not client.status().usable
        issuer = FakeIssuer()
        await issuer.start(port or 0)
        await next_refresh(issuer, clock)
        assert ids(client) == {"fake-0"}
        await issuer.stop()


async def test_keys_that_were_never_loaded_are_unavailable_until_they_are(issuer: FakeIssuer, clock: Clock) -> None:
    issuer.fault = "500"
    async with client_of(issuer, clock) as client:
        with pytest.raises(GateError) as refusal:
            client.current()
        assert refusal.value.reason is Reason.KEYS_UNAVAILABLE
        assert client.status().age_s is None
        issuer.fault = None
        await next_refresh(issuer, clock)
        assert ids(client) == {"fake-0"}


async def test_retries_back_off_up_to_the_cool_down(issuer: FakeIssuer, clock: Clock) -> None:
    issuer.fault = "500"
    async with client_of(issuer, clock):
        waited = []
        for _ in range(7):
            await until(lambda: len(clock.waits) == 1)
            waited.append(clock.waits[0])
            await next_refresh(issuer, clock)
        assert waited == [2, 4, 8, 16, 30, 30, 30]


async def test_scenario_12_dropped_keys_are_counted_in_the_status(issuer: FakeIssuer, clock: Clock) -> None:
    secret = {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"}
    issuer.document = {"keys": [secret, {"kty": "OKP", "kid": "new"}, issuer.keys[0].public]}
    async with client_of(issuer, clock) as client:
        assert ids(client) == {"fake-0"}
        assert dict(client.status().dropped) == {"symmetric": 1, "kty": 1}


async def test_scenario_13_a_rotated_key_is_found_by_one_extra_fetch(issuer: FakeIssuer, clock: Clock) -> None:
    async with client_of(issuer, clock) as client:
        issuer.rotate()
        await asyncio.gather(*(client.seek("fake-1") for _ in range(50)))
        assert ids(client) == {"fake-0", "fake-1"}
        assert issuer.requests["jwks"] == 2


async def test_scenario_13_a_removed_key_ends_with_the_next_refresh(issuer: FakeIssuer, clock: Clock) -> None:
    async with client_of(issuer, clock) as client:
        issuer.rotate(keep=0)
        await next_refresh(issuer, clock)
        assert ids(client) == {"fake-1"}


async def test_scenario_04_ten_thousand_random_key_ids_cause_one_fetch_a_cool_down(
    issuer: FakeIssuer, clock: Clock
) -> None:
    async with client_of(issuer, clock) as client:
        for windows in (1, 2):
            await asyncio.gather(*(client.seek(secrets.token_hex(8)) for _ in range(5_000)))
            assert issuer.requests["jwks"] == 1 + windows
            clock.advance(COOLDOWN_S - 0.001)
            await client.seek(secrets.token_hex(8))
            assert issuer.requests["jwks"] == 1 + windows
            clock.advance(0.001)
        # A key rotated in after the flood is found at once, because the cool-down is over.
        issuer.rotate()
        await client.seek("fake-1")
        assert client.current().knows("fake-1")


async def test_who_waits_shares_the_fetch_under_way_and_may_leave(issuer: FakeIssuer, clock: Clock) -> None:
    async with client_of(issuer, clock) as client:
        issuer.rotate()
        issuer.gate.clear()
        impatient = asyncio.create_task(client.seek("fake-1"))
        await until(lambda: issuer.requests["jwks"] == 2)
        patient = asyncio.create_task(client.seek("fake-1"))
        impatient.cancel()
        await asyncio.gather(impatient, return_exceptions=True)
        issuer.gate.set()
        await patient
        assert client.current().knows("fake-1")
        assert issuer.requests["jwks"] == 2


async def test_a_key_rotated_in_during_a_refresh_is_still_found(issuer: FakeIssuer, clock: Clock) -> None:
    async with client_of(issuer, clock) as client:
        issuer.gate.clear()
        await until(lambda: len(clock.waits) == 1)
        clock.advance(REFRESH_S)
        await until(lambda: issuer.requests["jwks"] == 2)
        issuer.rotate()
        found = [asyncio.create_task(seek_and_look(client, "fake-1")) for _ in range(20)]
        issuer.gate.set()
        assert all(await asyncio.gather(*found))
        assert issuer.requests["jwks"] == 3


async def test_stop_ends_a_fetch_under_way(issuer: FakeIssuer, clock: Clock) -> None:
    issuer.gate.clear()
    client = JwksClient(issuer.settings(), clock=clock, sleep=clock.sleep)
    starting = asyncio.create_task(client.start())
    await until(lambda: issuer.requests["jwks"] == 1)
    seeking = asyncio.create_task(client.seek("fake-1"))
    await asyncio.sleep(0)
    await client.stop()
    await asyncio.gather(starting, seeking)
    assert client.status().fault == "not loaded"
    assert clock.waits == []


async def test_logs_hold_no_library_text(issuer: FakeIssuer, clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    issuer.document = {"keys": [{**signing_key("odd").public, "n": "secret-modulus"}]}
    async with client_of(issuer, clock):
        assert "secret-modulus" not in capsys.readouterr().out
