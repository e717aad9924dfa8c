"""Metrics count each thing once, from the values that are recorded, under words that no caller can choose."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from certificates import identity
from fakes.events import completion, decision, lifecycle
from fakes.issuer import FakeIssuer
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from rankgate.audit import Outcome, What
from rankgate.clients import gauges
from rankgate.clients.certificates import Expiry
from rankgate.clients.identity import Verifier
from rankgate.clients.metrics import ABORTS, AuditMetrics, DecisionMetrics, ProcessingMetrics, TimedPolicy, new_registry
from rankgate.clients.offload import INLINE, Offload
from rankgate.clients.recording import Recording
from rankgate.clients.rego import EmbeddedEngine
from rankgate.clients.shipper import ShipperState
from rankgate.clients.slot import Slot
from rankgate.decision import Allow, Deny
from rankgate.detect import Detector
from rankgate.errors import GateError, Reason
from rankgate.masking import Keys
from rankgate.settings import PolicySettings, load

NOW = 1_800_000_000
ROUTES = ["cohere-v2", "rerank"]


@pytest.fixture
def registry() -> CollectorRegistry:
    return new_registry(Slot("ext_authz", 0))


def samples(registry: CollectorRegistry, name: str) -> dict[tuple[str, ...], float]:
    """Return the samples of one name as a scrape shows them, by label values in the order of the label names."""
    found = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            if sample.name == name:
                found[tuple(value for _, value in sorted(sample.labels.items()))] = sample.value
    return found


def counted(registry: CollectorRegistry, name: str) -> dict[tuple[str, ...], float]:
    return {labels: value for labels, value in samples(registry, name).items() if value}


def denial(reason: Reason) -> Deny:
    return Deny("dec-1", reason, reason.status, (), b"{}")


# -- decisions --------------------------------------------------------------------------------------------------------


def test_every_decision_is_counted_once_under_its_reason_and_route(registry: CollectorRegistry) -> None:
    metrics = DecisionMetrics(registry, ROUTES)
    metrics.decided(denial(Reason.POLICY_DENIED), "rerank", 0.002)
    metrics.decided(denial(Reason.POLICY_DENIED), "rerank", 0.002)
    metrics.decided(Allow("dec-2", None, None), "cohere-v2", 0.0002)  # type: ignore[arg-type]
    assert counted(registry, "rankgate_decisions_total") == {
        ("false", "policy_denied", "rerank"): 2,
        ("true", "allowed", "cohere-v2"): 1,
    }
    assert samples(registry, "rankgate_check_seconds_count") == {(): 3}


def test_a_route_of_no_settings_counts_as_none(registry: CollectorRegistry) -> None:
    metrics = DecisionMetrics(registry, ROUTES)
    metrics.decided(denial(Reason.TOKEN_INVALID), "/acme/secret", 0.001)
    assert counted(registry, "rankgate_decisions_total") == {("false", "token_invalid", ""): 1}


def test_every_reason_of_every_route_is_there_before_it_happens(registry: CollectorRegistry) -> None:
    DecisionMetrics(registry, ROUTES)
    found = samples(registry, "rankgate_decisions_total")
    assert {(reason, route) for _, reason, route in found} == {(r.value, n) for r in Reason for n in (*ROUTES, "")}
    assert {labels for labels in found if labels[0] == "true"} == {("true", "allowed", name) for name in (*ROUTES, "")}


def test_buckets_begin_at_a_tenth_of_a_millisecond(registry: CollectorRegistry) -> None:
    DecisionMetrics(registry, []).decided(denial(Reason.TOKEN_MISSING), "", 0.00009)
    buckets = samples(registry, "rankgate_check_seconds_bucket")
    assert buckets[("0.0001",)] == 1


class Answers:
    """A policy engine that answers or raises what it is given."""

    revision, ready = "r1", True

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def decide(self, question: str) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_the_policy_engine_is_timed_also_where_it_refuses(registry: CollectorRegistry) -> None:
    metrics = DecisionMetrics(registry, [])
    assert await TimedPolicy(Answers({"allowed": True}), metrics).decide("{}") == {"allowed": True}
    with pytest.raises(GateError):
        await TimedPolicy(Answers(GateError(Reason.POLICY_TIMEOUT)), metrics).decide("{}")
    assert samples(registry, "rankgate_policy_seconds_count") == {(): 2}


# -- what is recorded -------------------------------------------------------------------------------------------------


def test_findings_and_replacements_are_counted_from_the_events(registry: CollectorRegistry) -> None:
    metrics = AuditMetrics(registry)
    metrics.appended(decision(findings={"EMAIL_ADDRESS": 2, "IBAN_CODE": 1}), 0.0004)
    metrics.appended(decision(2, findings={"EMAIL_ADDRESS": 1}), 0.0004)
    metrics.appended(completion(masked_request={"EMAIL_ADDRESS": 3}, masked_response={"JWT": 1}), 0.0004)
    metrics.appended(completion(2, outcome=Outcome.REFUSED, reason=Reason.UPSTREAM_INVALID, masked_request={}), 0.0004)
    metrics.appended(lifecycle(), 0.0004)
    assert counted(registry, "rankgate_findings_total") == {("EMAIL_ADDRESS",): 3, ("IBAN_CODE",): 1}
    assert counted(registry, "rankgate_masked_total") == {("request", "EMAIL_ADDRESS"): 3, ("response", "JWT"): 1}
    assert counted(registry, "rankgate_completions_total") == {("complete", ""): 1, ("refused", "upstream_invalid"): 1}
    assert samples(registry, "rankgate_audit_append_seconds_count") == {(): 5}


def test_nothing_of_a_caller_becomes_a_label(registry: CollectorRegistry) -> None:
    metrics = AuditMetrics(registry)
    metrics.appended(decision(), 0.0004)
    metrics.appended(completion(), 0.0004)
    text = generate_latest(registry).decode()
    assert [
        word for word in ("indexer", "acme", "rerank-v3.5", "/v2/rerank", "10.0.0.7", "decision-1") if word in text
    ] == []


def test_an_alarm_is_counted_by_its_word_and_shown_before_its_first_time(registry: CollectorRegistry) -> None:
    metrics = AuditMetrics(registry)
    assert samples(registry, "rankgate_audit_alarms_total")[("stream_forked",)] == 0
    metrics.alarm("stream_forked", {"stream": "s"})
    assert counted(registry, "rankgate_audit_alarms_total") == {("stream_forked",): 1}


def test_a_call_that_broke_the_glass_is_an_alarm_once_it_is_on_disk(registry: CollectorRegistry) -> None:
    metrics = AuditMetrics(registry)
    assert samples(registry, "rankgate_audit_alarms_total")[("break_glass",)] == 0
    metrics.appended(lifecycle(What.ALARM, word="break_glass"), 0.001)
    metrics.appended(lifecycle(What.APPROVAL_USE), 0.001)
    assert counted(registry, "rankgate_audit_alarms_total") == {("break_glass",): 1}


def test_steps_and_aborts_are_counted_by_a_few_words(registry: CollectorRegistry) -> None:
    metrics = ProcessingMetrics(registry)
    metrics.stepped("request", 0.001)
    metrics.answered(0.02)
    metrics.aborted("internal")
    assert samples(registry, "rankgate_process_seconds_count") == {("request",): 1, ("response",): 0}
    assert samples(registry, "rankgate_upstream_seconds_count") == {(): 1}
    found = samples(registry, "rankgate_process_aborts_total")
    assert found == {(word,): float(word == "internal") for word in ABORTS}


# -- what is read -----------------------------------------------------------------------------------------------------


def configured(folder: Path, **audit: Any) -> Any:
    (folder / "key").write_bytes(b"k" * 32)
    return load(
        None,
        upstream={"url": "http://127.0.0.1:9"},
        issuers=[{"issuer": "https://issuer.example", "audiences": ["a"]}],
        masking={"key_file": folder / "key"},
        audit={"directory": folder / "audit", "cap_bytes": 1_048_576, **audit},
        sockets={"directory": folder / "sockets"},
    )


async def test_the_trail_tells_how_far_shipping_is_behind(registry: CollectorRegistry, tmp_path: Path) -> None:
    settings = configured(tmp_path, redis_url=f"unix://{tmp_path}/nobody.sock")
    one = await Recording.open(settings, Slot("ext_authz", 0), Keys(b"k" * 32, "1"), AuditMetrics(registry))
    gauges.register(registry, gauges.recording(one))
    try:
        before = samples(registry, "rankgate_audit_lag_entries")[()]
        await one.append(decision())
        assert samples(registry, "rankgate_audit_lag_entries")[()] > before
        held = samples(registry, "rankgate_audit_lag_bytes")[()]
        assert samples(registry, "rankgate_audit_log_ratio")[()] == pytest.approx(held / 1_048_576)
        states = samples(registry, "rankgate_shipper_state")
        assert {word for (word,) in states} == {state.value for state in ShipperState}
        assert sum(states.values()) == 1
    finally:
        await one.close()
    with pytest.raises(GateError):
        await one.append(decision(2))
    assert samples(registry, "rankgate_audit_refused_total") == {(): 1}


async def test_a_token_seen_before_is_a_hit(registry: CollectorRegistry) -> None:
    async with FakeIssuer(clock=lambda: NOW) as issuer:
        verifier = Verifier([issuer.settings()])
        await verifier.start()
        gauges.register(registry, gauges.issuers(verifier))
        token = issuer.mint(sub="search", aud="rerank")
        for _ in range(3):
            await verifier.verify(token, (), NOW)
        await verifier.stop()
        assert samples(registry, "rankgate_issuer_usable") == {(issuer.url,): 1}
        assert samples(registry, "rankgate_issuer_fault") == {(issuer.url,): 0}
    assert samples(registry, "rankgate_identity_cache_hits_total") == {(): 2}
    assert samples(registry, "rankgate_identity_cache_misses_total") == {(): 1}


def test_a_text_seen_before_is_a_hit(registry: CollectorRegistry) -> None:
    detector = Detector(["EMAIL_ADDRESS"], phone_regions=(), cache_bytes=1_000_000)
    gauges.register(registry, gauges.detector(detector))
    for tenant in ("acme", "acme", "other"):
        detector.detect("write to ada@example.com", cache=tenant)
    detector.detect("write to ada@example.com")  # kept nowhere, so neither
    assert samples(registry, "rankgate_detection_cache_hits_total") == {(): 1}
    assert samples(registry, "rankgate_detection_cache_misses_total") == {(): 2}
    assert samples(registry, "rankgate_detection_cache_bytes")[()] > 0


async def test_a_large_body_without_a_place_is_counted(registry: CollectorRegistry) -> None:
    work = Offload(workers=1, places=1)
    gauges.register(registry, gauges.offload(work))
    during: list[float] = []

    def read() -> None:
        during.append(samples(registry, "rankgate_offload_in_use")[()])

    first = work.run(INLINE + 1, "acme", read)
    held = asyncio.ensure_future(first)
    await asyncio.sleep(0)
    with pytest.raises(GateError):
        await work.run(INLINE + 1, "acme", read)
    await held
    work.close()
    assert during == [1]
    assert samples(registry, "rankgate_offload_refused_total") == {(): 1}


async def test_a_policy_that_does_not_load_is_stale_until_the_folder_is_right_again(
    registry: CollectorRegistry, tmp_path: Path
) -> None:
    file = tmp_path / "policy.rego"
    good = "package rankgate\n\nimport rego.v1\n\ndecision := true\n"
    file.write_text(good)
    engine = EmbeddedEngine(PolicySettings.model_validate({}), tmp_path)
    await engine.reload()
    gauges.register(registry, gauges.policy(engine))
    assert samples(registry, "rankgate_policy_stale") == {(): 0}
    revision = samples(registry, "rankgate_policy_info")
    file.write_text(good + "decision := {")
    await engine.reload()
    assert samples(registry, "rankgate_policy_stale") == {(): 1}
    assert samples(registry, "rankgate_policy_info") == revision
    file.write_text(good)
    await engine.reload()
    assert samples(registry, "rankgate_policy_stale") == {(): 0}


def test_a_chain_ends_with_its_first_and_a_bundle_with_its_last(tmp_path: Path) -> None:
    early, late = identity(tmp_path / "a", "early.example", hours=1), identity(tmp_path / "b", "late.example", hours=99)
    both = tmp_path / "both.pem"
    both.write_bytes(early.certificate.read_bytes() + late.certificate.read_bytes())
    settings = load(
        None,
        listen={"certificate_file": both, "key_file": early.key},
        upstream={"url": "https://reranker.example", "trusted_ca": both},
        issuers=[{"issuer": "https://issuer.example", "audiences": ["a"]}],
        masking={"key_file": tmp_path / "key"},
        audit={"directory": tmp_path / "audit"},
        sockets={"directory": tmp_path / "sockets"},
    )
    ends = dict(Expiry(settings).read())
    apart = ends["upstream.trusted_ca"] - ends["listen.certificate_file"]
    assert apart == pytest.approx(98 * 3600, abs=60)
    both.unlink()
    assert dict(Expiry(settings).read()) == {}


def test_what_is_read_is_read_at_the_scrape_and_not_before(registry: CollectorRegistry) -> None:
    calls: list[int] = []

    def read() -> Any:
        calls.append(1)
        return iter(())

    gauges.register(registry, read)
    assert calls == []
    generate_latest(registry)
    assert calls == [1]
