"""What is counted while calls go through, for Prometheus.

Every label value is a bounded word: a reason, a type, a route of the settings, never anything a caller can write.
What a list of words makes is there from the start, so that the first failure shows as an increase.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

from rankgate.audit import AuditEvent, CompletionEvent, DecisionEvent, Outcome, What
from rankgate.clients.audit import log_alarm
from rankgate.clients.slot import Slot
from rankgate.decision import Allow, Decision
from rankgate.errors import Reason
from rankgate.policy import PolicyEngine
from rankgate.version import VERSION

__all__ = [
    "AuditMetrics",
    "DecisionMetrics",
    "ProcessingMetrics",
    "ShadowMetrics",
    "TimedPolicy",
    "histogram",
    "new_registry",
]

# In seconds. The library's own begin at 5 ms, where most of what is measured here has ended.
BUCKETS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
NAMESPACE = "rankgate"

# The words of docs/audit.md and of the exchange; a word that is missing here is counted from its second time on.
ALARMS = (
    "break_glass", "broken", "cap_near", "cap_reached", "checkpoint_failed", "checkpoints_forked", "checkpoints_late",
    "log_damaged", "log_resumed", "log_unlike", "ship_failed", "stream_forked", "stream_gap", "stream_shortened",
    "stream_trimmed", "sync_failed", "tail_cut", "write_failed",
)  # fmt: skip
ABORTS = (
    "body_mode", "handoff_mismatch", "handoff_missing", "internal", "response_without_request", "unexpected_message",
)  # fmt: skip

SHADOW_OUTCOMES = ("same", "different", "failed", "dropped")


def new_registry(slot: Slot) -> CollectorRegistry:
    """Return the registry of one process, with what it is and what it uses of the machine."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    build = Gauge("build_info", "What runs here; always 1.", ("version", "role"), NAMESPACE, registry=registry)
    build.labels(VERSION, slot.role).set(1)
    return registry


def histogram(registry: CollectorRegistry, name: str, about: str, *labels: str) -> Histogram:
    """Return a histogram of seconds with the project's buckets."""
    return Histogram(name, about, labels, NAMESPACE, registry=registry, buckets=BUCKETS)


class _Counts:
    """A counter whose children are looked up once: `labels` costs more than counting."""

    __slots__ = ("_children", "_family")

    def __init__(self, registry: CollectorRegistry, name: str, about: str, *labels: str) -> None:
        self._family = Counter(name, about, labels, NAMESPACE, registry=registry)
        self._children: dict[tuple[str, ...], Any] = {}

    def add(self, *words: str, count: int = 1) -> None:
        child = self._children.get(words)
        if child is None:
            child = self._children[words] = self._family.labels(*words) if words else self._family
        child.inc(count)


class DecisionMetrics:
    """The decisions of ext_authz."""

    def __init__(self, registry: CollectorRegistry, routes: Iterable[str]) -> None:
        self._routes = frozenset(("", *routes))
        self._seconds = histogram(registry, "check_seconds", "From a Check's arrival to its answer.")
        self._policy = histogram(registry, "policy_seconds", "From a question to the policy engine's answer.")
        self._failures = _Counts(registry, "check_failures", "Checks without an answer; Envoy refuses the call.")
        self._decisions = _Counts(
            registry, "decisions", "Checks answered; route is empty where none matched.", "allowed", "reason", "route"
        )
        for route in self._routes:
            for reason in Reason:
                self._decisions.add(_ALLOWED[reason is Reason.ALLOWED], reason, route, count=0)

    def decided(self, decision: Decision, route: str, seconds: float) -> None:
        """Count one answered Check. `route` is what Envoy named; an unknown one counts as none."""
        allowed = isinstance(decision, Allow)
        reason = Reason.ALLOWED if isinstance(decision, Allow) else decision.reason
        self._decisions.add(_ALLOWED[allowed], reason, route if route in self._routes else "")
        self._seconds.observe(seconds)

    def failed(self) -> None:
        """Count a Check that was not answered."""
        self._failures.add()

    def asked(self, seconds: float) -> None:
        """Count one question to the policy engine."""
        self._policy.observe(seconds)


_ALLOWED = {True: "true", False: "false"}


class ShadowMetrics:
    """What a candidate policy would have decided."""

    def __init__(self, registry: CollectorRegistry) -> None:
        about = "Decisions a candidate policy was asked for, by how it compares with the live one."
        self._decisions = _Counts(registry, "shadow_decisions", about, "outcome")
        for outcome in SHADOW_OUTCOMES:
            self._decisions.add(outcome, count=0)

    def decided(self, outcome: str) -> None:
        """Count one decision by a word of SHADOW_OUTCOMES."""
        self._decisions.add(outcome)


class ProcessingMetrics:
    """The streams of ext_proc."""

    def __init__(self, registry: CollectorRegistry) -> None:
        steps = histogram(registry, "process_seconds", "Work on one body: masking it, or inspecting it.", "body")
        self._steps = {body: steps.labels(body) for body in ("request", "response")}
        self._upstream = histogram(registry, "upstream_seconds", "From a forwarded body to the reranker's answer.")
        self._aborts = _Counts(registry, "process_aborts", "Streams ended by an error; Envoy refuses the call.", "word")
        for word in ABORTS:
            self._aborts.add(word, count=0)

    def stepped(self, body: str, seconds: float) -> None:
        """Count the work on one body: `request` or `response`."""
        self._steps[body].observe(seconds)

    def answered(self, seconds: float) -> None:
        """Count how long the reranker took."""
        self._upstream.observe(seconds)

    def aborted(self, word: str) -> None:
        """Count a stream that was ended with an error. `word` is one of a few constants."""
        self._aborts.add(word)


class AuditMetrics:
    """What was recorded, counted from the very events, and how recording goes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = histogram(registry, "audit_append_seconds", "From an event to its being on disk.")
        self._refused = _Counts(registry, "audit_refused", "Events that could not be recorded.")
        self._alarms = _Counts(registry, "audit_alarms", "Alarms of the audit trail.", "word")
        self._findings = _Counts(registry, "findings", "Findings in requests.", "type")
        self._masked = _Counts(registry, "masked", "Values replaced in bodies.", "direction", "type")
        self._ends = _Counts(registry, "completions", "Allowed calls that ended.", "outcome", "reason")
        self._reloads = _Counts(registry, "policy_reloads", "Policies put in force after the first.")
        self._reload_failures = _Counts(registry, "policy_reload_failures", "Policies that did not load.")
        for word in ALARMS:
            self._alarms.add(word, count=0)
        for outcome in Outcome:
            self._ends.add(outcome, "", count=0)

    def appended(self, event: AuditEvent, seconds: float) -> None:
        """Count an event that is on disk."""
        self._seconds.observe(seconds)
        if isinstance(event, DecisionEvent):
            for kind, count in event.findings.items():
                self._findings.add(kind, count=count)
        elif isinstance(event, CompletionEvent):
            self._ends.add(event.outcome, event.reason or "")
            for direction, counts in (("request", event.masked_request), ("response", event.masked_response)):
                for kind, count in counts.items():
                    self._masked.add(direction, kind, count=count)
        elif event.what is What.ALARM:
            # The alarm of one call; those of the trail itself come by `alarm`.
            self._alarms.add(event.word)

    def refused(self) -> None:
        """Count an event that could not be recorded."""
        self._refused.add()

    def alarm(self, word: str, detail: Mapping[str, str | int]) -> None:
        """Count an alarm and write it to the process's own log."""
        self._alarms.add(word)
        log_alarm(word, detail)

    def policy_changed(self, fault: str) -> None:
        """Count a policy that was loaded again, or with a fault was not."""
        (self._reload_failures if fault else self._reloads).add()


class TimedPolicy:
    """A policy engine whose answers are timed, refusals included."""

    def __init__(self, engine: PolicyEngine, metrics: DecisionMetrics) -> None:
        self._engine = engine
        self._metrics = metrics

    @property
    def revision(self) -> str:
        """Return the engine's."""
        return self._engine.revision

    @property
    def ready(self) -> bool:
        """Return the engine's."""
        return self._engine.ready

    async def start(self) -> None:
        """Start the engine."""
        await self._engine.start()

    async def stop(self) -> None:
        """Stop the engine."""
        await self._engine.stop()

    async def decide(self, question: str) -> Any:
        """Ask the engine."""
        began = time.perf_counter()
        try:
            return await self._engine.decide(question)
        finally:
            self._metrics.asked(time.perf_counter() - began)
