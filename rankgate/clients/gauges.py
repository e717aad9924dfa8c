"""What is read from the parts whenever somebody scrapes, instead of being counted a second time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

from rankgate.clients.offload import Offload
from rankgate.clients.recording import Recording
from rankgate.clients.shipper import ShipperState
from rankgate.detect import Detector
from rankgate.policy import PolicyEngine

if TYPE_CHECKING:
    # A filter loads only the parts it has.
    from rankgate.clients.certificates import Expiry
    from rankgate.clients.identity import Verifier
    from rankgate.clients.waiting import WaitingRoom

__all__ = [
    "Family",
    "Read",
    "certificates",
    "detector",
    "issuers",
    "offload",
    "policy",
    "recording",
    "register",
    "waiting",
]


@runtime_checkable
class _Reloads(Protocol):
    """A policy engine that loads its policy by itself."""

    @property
    def fault(self) -> str | None:
        """Return why the newest policy is not in force."""
        ...


Family = GaugeMetricFamily | CounterMetricFamily
Read = Callable[[], Iterator[Family]]


def register(registry: CollectorRegistry, *reads: Read) -> None:
    """Let every scrape of `registry` call `reads`."""
    registry.register(_Reader(reads))


class _Reader(Collector):
    def __init__(self, reads: tuple[Read, ...]) -> None:
        self._reads = reads

    def collect(self) -> Iterable[Family]:
        for read in self._reads:
            yield from read()

    def describe(self) -> Iterable[Family]:
        """Return nothing, so that registering reads nothing yet."""
        return ()


def recording(one: Recording) -> Read:
    """Return how far the trail is behind, and what is shipping it."""

    def read() -> Iterator[Family]:
        status = one.status()
        yield _gauge("audit_lag_entries", "Entries on disk that no stream is known to hold.", status.lag_entries)
        yield _gauge("audit_lag_bytes", "Bytes on disk that no stream is known to hold.", status.lag_bytes)
        yield _gauge(
            "audit_log_ratio",
            "Share of audit.cap_bytes taken; at 1 calls are refused.",
            status.lag_bytes / status.cap_bytes,
        )
        if status.shipper is not None:
            state = _gauges("shipper_state", "What ships the trail: 1 for the state it is in.", "state")
            for word in ShipperState:
                state.add_metric([word.value], float(word is status.shipper.state))
            yield state

    return read


def issuers(one: Verifier) -> Read:
    """Return the state of every issuer's keys, and what the memory of verified tokens saved."""

    def read() -> Iterator[Family]:
        usable = _gauges("issuer_usable", "1 while tokens of the issuer can be verified.", "issuer")
        fault = _gauges("issuer_fault", "1 while the issuer's keys cannot be loaded; the last ones serve.", "issuer")
        count = _gauges("issuer_keys", "Keys in use.", "issuer")
        age = _gauges("keys_age_seconds", "Time since the issuer's keys were last loaded.", "issuer")
        for status in one.status():
            usable.add_metric([status.issuer], float(status.usable))
            fault.add_metric([status.issuer], float(bool(status.fault)))
            count.add_metric([status.issuer], status.keys)
            if status.age_s is not None:
                age.add_metric([status.issuer], status.age_s)
        yield from (usable, fault, count, age)
        yield _counter("identity_cache_hits", "Tokens that had been verified before.", one.hits)
        yield _counter("identity_cache_misses", "Tokens that had to be verified.", one.misses)

    return read


def detector(one: Detector) -> Read:
    """Return the memory of inspected texts."""

    def read() -> Iterator[Family]:
        yield _gauge("detection_cache_bytes", "Size of the memory of inspected texts.", one.cached_bytes)
        yield _counter("detection_cache_hits", "Texts that had been inspected before.", one.cache_hits)
        yield _counter("detection_cache_misses", "Texts that had to be inspected.", one.cache_misses)

    return read


def offload(one: Offload) -> Read:
    """Return what large bodies take of the places there are."""

    def read() -> Iterator[Family]:
        yield _gauge("offload_in_use", "Large bodies being worked on or waiting.", one.in_use)
        yield _gauge("offload_places", "Large bodies there is room for.", one.places)
        yield _counter("offload_refused", "Large bodies refused for want of room.", one.refused)

    return read


def waiting(one: WaitingRoom) -> Read:
    """Return who waits for a person."""

    def read() -> Iterator[Family]:
        yield _gauge("waiting_callers", "Callers kept waiting for an approval.", one.seated)
        yield _gauge("waiting_bytes", "Memory of their calls, in bytes, as estimated.", one.held_bytes)
        yield _counter("waiting_refused", "Callers that could not be kept waiting for want of room.", one.refused)

    return read


def policy(one: PolicyEngine) -> Read:
    """Return the policy in force: of all its revisions only the present one has a series."""

    def read() -> Iterator[Family]:
        info = _gauges("policy_info", "The policy in force; always 1.", "revision")
        info.add_metric([one.revision], 1)
        yield info
        if isinstance(one, _Reloads):
            stale = one.fault is not None
            yield _gauge("policy_stale", "1 while the folder holds a policy that does not load.", float(stale))

    return read


def certificates(one: Expiry) -> Read:
    """Return when what the settings name runs out."""

    def read() -> Iterator[Family]:
        ends = _gauges("certificate_expiry_timestamp_seconds", "When it ends, since 1970.", "setting")
        for setting, end in one.read():
            ends.add_metric([setting], end)
        yield ends

    return read


def _gauge(name: str, about: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"rankgate_{name}", about, value=value)


def _gauges(name: str, about: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"rankgate_{name}", about, labels=labels)


def _counter(name: str, about: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"rankgate_{name}", about, value=value)
