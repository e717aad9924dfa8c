"""Where a filter puts what it tells of itself."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from rankgate.clients.metrics import new_registry
from rankgate.clients.slot import Slot
from rankgate.clients.traces import NO_TRACES, Tracer

__all__ = ["Telemetry"]


@dataclass(frozen=True, slots=True)
class Telemetry:
    """One process's metrics and spans."""

    registry: CollectorRegistry
    tracer: Tracer

    @classmethod
    def local(cls, slot: Slot) -> Telemetry:
        """Return metrics of their own and no spans."""
        return cls(new_registry(slot), NO_TRACES)
