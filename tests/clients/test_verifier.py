"""From token to principal with real issuers behind it: which issuer, which keys, and what is remembered."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes.clock import Clock
from fakes.issuer import FakeIssuer, signing_key
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rankgate.clients import identity
from rankgate.clients.identity import Verifier
from rankgate.clients.jwks import JwksClient
from rankgate.errors import GateError, Reason
from rankgate.identity import UnknownKeyError
from rankgate.keyset import KeySource, KeyStatus, admit
from rankgate.settings import IssuerSettings

NOW = 1_800_000_000


@asynccontextmanager
async def verifier_of(*trusted: IssuerSettings, clock: Clock | None = None) -> AsyncIterator[Verifier]:
    clock = clock or Clock()

    def source(settings: IssuerSettings) -> KeySource:
        return JwksClient(settings, clock=clock, sleep=clock.sleep)

    verifier = Verifier(trusted, source=source)
    await verifier.start()
    try:
        yield verifier
    finally:
        await verifier.stop()


@pytest.fixture
async def issuer() -> AsyncIterator[FakeIssuer]:
    async with FakeIssuer(clock=lambda: NOW) as fake:
        yield fake


@pytest.fixture
async def verifier(issuer: FakeIssuer) -> AsyncIterator[Verifier]:
    async with verifier_of(issuer.settings(claims={"tenant": "tenant"})) as made:
        yield made


async def refused(
    verifier: Verifier, token: str, audiences: tuple[str, ...] = (), now: float = NOW
) -> tuple[Reason, str]:
    with pytest.raises(GateError) as refusal:
        await verifier.verify(token, audiences, now)
    return refusal.value.reason, refusal.value.detail


async def test_a_token_names_its_caller(issuer: FakeIssuer, verifier: Verifier) -> None:
    made = await verifier.verify(issuer.mint(tenant="acme", groups=["eu"], scope="rerank"), (), NOW)
    assert (made.issuer, made.subject, made.tenant) == (issuer.url, "search", "acme")
    assert (made.groups, made.scopes, made.kind, made.bound) == (("eu",), ("rerank",), "service", False)
    assert made.expires == NOW + 300


async def test_scenario_03_a_token_that_brings_its_own_key_causes_no_connection(
    issuer: FakeIssuer, verifier: Verifier
) -> None:
    before = issuer.requests.total()
    attacker = signing_key("attacker")
    for header in (
        {"jku": f"{issuer.url}/elsewhere"},
        {"x5u": f"{issuer.url}/elsewhere"},
        {"jwk": attacker.public},
        {"x5c": ["MIIB"]},
    ):
        token = issuer.forge(header, key=attacker, tenant="acme")
        assert await refused(verifier, token) == (Reason.TOKEN_INVALID, "header")
    assert issuer.requests.total() == before


async def test_scenario_04_random_key_ids_cost_one_fetch_and_good_traffic_goes_on(
    issuer: FakeIssuer, verifier: Verifier
) -> None:
    good = issuer.mint(tenant="acme")
    bad = [issuer.forge({"kid": secrets.token_hex(8)}, tenant="acme") for _ in range(200)]
    answers = await asyncio.gather(*(verifier.verify(token, (), NOW) for token in [*bad, good]), return_exceptions=True)
    assert [type(answer) for answer in answers[:-1]] == [UnknownKeyError] * 200
    assert not isinstance(answers[-1], BaseException)
    assert issuer.requests["jwks"] == 2


async def test_scenario_05_each_issuers_tokens_are_verified_with_its_own_keys() -> None:
    async with (
        FakeIssuer("a", clock=lambda: NOW) as a,
        FakeIssuer("b", clock=lambda: NOW) as b,
        verifier_of(a.settings(audiences=("for-a",)), b.settings(audiences=("for-b",))) as verifier,
    ):
        assert (await verifier.verify(a.mint(aud="for-a"), (), NOW)).issuer == a.url
        assert (await verifier.verify(b.mint(aud="for-b"), (), NOW)).issuer == b.url
        for forged in (
            a.forge(key=b.keys[0], aud="for-a"),
            a.forge({"kid": "a-0"}, key=b.keys[0], aud="for-a"),
            b.forge(key=a.keys[0], aud="for-b"),
            a.mint(aud="for-b"),
            a.mint(iss="https://third.example", aud="for-a"),
        ):
            assert (await refused(verifier, forged))[0] is Reason.TOKEN_INVALID
        # A route open to b's audience stays closed to a token a wrote for it.
        assert await refused(verifier, a.mint(aud="for-b"), ("for-b",)) == (Reason.TOKEN_INVALID, "audience")


async def test_scenario_13_tokens_of_both_keys_are_accepted_through_a_rotation(
    issuer: FakeIssuer, verifier: Verifier
) -> None:
    old = [issuer.mint(tenant="acme") for _ in range(20)]
    issuer.rotate()
    new = [issuer.mint(tenant="acme") for _ in range(20)]
    made = await asyncio.gather(*(verifier.verify(token, (), NOW) for token in [*old, *new]))
    assert len(made) == 40
    assert issuer.requests["jwks"] == 2


async def test_scenario_13_a_removed_key_ends_remembered_tokens_too() -> None:
    clock = Clock()
    async with FakeIssuer(clock=lambda: NOW) as issuer, verifier_of(issuer.settings(), clock=clock) as verifier:
        token = issuer.mint()
        await verifier.verify(token, (), NOW)
        issuer.rotate(keep=0)
        await verifier.verify(issuer.mint(), (), NOW)
        assert await refused(verifier, token) == (Reason.TOKEN_INVALID, "key unknown")


async def test_scenario_11_after_the_limit_remembered_tokens_are_not_served_either() -> None:
    clock = Clock()
    async with FakeIssuer(clock=lambda: NOW) as issuer, verifier_of(issuer.settings(), clock=clock) as verifier:
        token = issuer.mint()
        await verifier.verify(token, (), NOW)
        issuer.fault = "500"
        clock.advance(100_000)
        assert await refused(verifier, token) == (Reason.KEYS_UNAVAILABLE, "key set stale")
        assert not verifier.ready


async def test_an_issuer_that_is_out_does_not_close_the_gate_to_another() -> None:
    async with FakeIssuer("a", clock=lambda: NOW) as a, FakeIssuer("b", clock=lambda: NOW) as b:
        a.fault = "500"
        async with verifier_of(a.settings(), b.settings()) as verifier:
            assert await refused(verifier, a.mint()) == (Reason.KEYS_UNAVAILABLE, "no key set yet")
            assert (await verifier.verify(b.mint(), (), NOW)).issuer == b.url
            assert verifier.ready
            assert [(status.issuer, status.usable) for status in verifier.status()] == [(a.url, False), (b.url, True)]


async def test_a_verifier_without_keys_is_not_ready(issuer: FakeIssuer) -> None:
    issuer.fault = "empty"
    async with verifier_of(issuer.settings()) as verifier:
        assert not verifier.ready


class CountingKeys:
    """A key source over fixed keys that counts how often they are asked to verify."""

    def __init__(self, settings: IssuerSettings) -> None:
        self.sought: list[str] = []
        self.issuer = settings.issuer
        self.keys = admit(json.dumps({"keys": [signing_key("fake-0").public]}).encode(), ("RS256",))

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def current(self) -> Any:
        return self.keys

    async def seek(self, key_id: str) -> None:
        self.sought.append(key_id)

    def status(self) -> KeyStatus:
        return KeyStatus(self.issuer, True, 1, {}, 0.0, "")


@pytest.fixture
def offline() -> FakeIssuer:
    fake = FakeIssuer(clock=lambda: NOW)
    fake.url = "https://issuer.example"
    return fake


@pytest.fixture
def remembering(offline: FakeIssuer) -> Verifier:
    trusted = IssuerSettings.model_validate({"issuer": offline.url, "audiences": ("rerank", "other")})
    return Verifier([trusted], source=CountingKeys)


async def test_a_good_token_is_remembered_and_a_bad_one_never(offline: FakeIssuer, remembering: Verifier) -> None:
    token = offline.mint()
    first = await remembering.verify(token, (), NOW)
    assert await remembering.verify(token, (), NOW + 299) is first
    early = offline.mint(nbf=NOW + 100)
    assert await refused(remembering, early) == (Reason.TOKEN_INVALID, "not yet valid")
    assert (await remembering.verify(early, (), NOW + 100)).subject == "search"


async def test_a_remembered_token_counts_only_for_the_audiences_it_was_verified_for(
    offline: FakeIssuer, remembering: Verifier
) -> None:
    token = offline.mint(aud="other")
    await remembering.verify(token, (), NOW)
    await remembering.verify(token, ("other",), NOW)
    assert await refused(remembering, token, ("rerank",)) == (Reason.TOKEN_INVALID, "audience")


async def test_a_remembered_token_is_forgotten_at_its_expiry_and_after_five_minutes(
    offline: FakeIssuer, remembering: Verifier
) -> None:
    short, long = offline.mint(exp=NOW + 60), offline.mint(exp=NOW + 3600)
    first = {token: await remembering.verify(token, (), NOW) for token in (short, long)}
    assert await remembering.verify(short, (), NOW + 59.9) is first[short]
    assert await remembering.verify(short, (), NOW + 60) is not first[short]
    assert await refused(remembering, short, now=NOW + 90) == (Reason.TOKEN_INVALID, "expired")
    assert await remembering.verify(long, (), NOW + 299.9) is first[long]
    assert await remembering.verify(long, (), NOW + 300) is not first[long]


async def test_scenario_14_a_clock_that_goes_back_makes_remembered_tokens_void(
    offline: FakeIssuer, remembering: Verifier
) -> None:
    token = offline.mint()
    await remembering.verify(token, (), NOW)
    assert await refused(remembering, token, now=NOW - 600) == (Reason.TOKEN_INVALID, "not yet valid")


async def test_what_is_remembered_is_bounded_and_the_oldest_goes_first(
    offline: FakeIssuer, remembering: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "CACHE_ENTRIES", 2)
    tokens = [offline.mint() for _ in range(3)]
    first, second = [await remembering.verify(token, (), NOW) for token in tokens[:2]]
    assert await remembering.verify(tokens[0], (), NOW) is first
    await remembering.verify(tokens[2], (), NOW)
    assert await remembering.verify(tokens[0], (), NOW) is first
    assert await remembering.verify(tokens[1], (), NOW) is not second


async def test_scenario_10_another_spelling_of_a_remembered_token_is_refused(
    offline: FakeIssuer, remembering: Verifier
) -> None:
    token = offline.mint()
    await remembering.verify(token, (), NOW)
    for spelling in (f"{token}==", f"{token}\n", f" {token}", token[:-1] + chr(ord(token[-1]) + 1)):
        assert (await refused(remembering, spelling))[0] is Reason.TOKEN_INVALID


async def test_scenario_01_a_refusal_takes_a_few_milliseconds(offline: FakeIssuer, remembering: Verifier) -> None:
    worst = "e30." + "e30" * 5000 + ".AAAA"
    took = []
    for _ in range(20):
        began = time.perf_counter()
        await refused(remembering, worst)
        took.append(time.perf_counter() - began)
    # The shortest, because the machine may have been busy with something else during the others.
    assert min(took) < 0.005


@given(
    st.text() | st.text(alphabet=st.characters(codec=None)) | st.lists(st.text(max_size=9), max_size=5).map(".".join)
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_token_text_only_a_gate_error_comes_out(remembering: Verifier, token: str) -> None:
    async def judge() -> tuple[Reason, str]:
        return await refused(remembering, token)

    reason, detail = asyncio.run(judge())
    assert reason is Reason.TOKEN_INVALID
    assert detail in {"too long", "not ascii", "not a signed token", "malformed", "algorithm", "issuer"}


async def test_a_static_issuer_is_verified_from_its_file(offline: FakeIssuer, tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": [key.public for key in offline.keys]}))
    trusted = IssuerSettings.model_validate(
        {"preset": "static", "issuer": offline.url, "audiences": ("rerank",), "jwks_file": file}
    )
    verifier = Verifier([trusted])
    await verifier.start()
    assert verifier.ready
    assert (await verifier.verify(offline.mint(), (), NOW)).subject == "search"
    await verifier.stop()
