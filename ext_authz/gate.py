"""What a decision is made with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from rankgate.audit import AuditLog
from rankgate.credentials import Broker
from rankgate.detect import Detector
from rankgate.identity import Principal
from rankgate.masking import Keys, Masker, Plan
from rankgate.policy import PolicyEngine
from rankgate.settings import Settings

__all__ = ["Gate", "Processor", "Verifier"]


class Verifier(Protocol):
    """Verifies a token for a route's audiences at a time in seconds; raises GateError."""

    async def verify(self, token: str, audiences: tuple[str, ...], now: float) -> Principal:
        """Return the principal that the token stands for."""
        ...


class Processor(Protocol):
    """The filter that will process the bodies of what is allowed here."""

    async def ready(self) -> bool:
        """Tell whether it answers."""
        ...


@dataclass(frozen=True, slots=True)
class Gate:
    """What a decision is made with; the same for every call of a process. `plans` are by profile name."""

    settings: Settings
    keys: Keys
    plans: Mapping[str, Plan]
    all_types: Plan
    detector: Detector
    verifier: Verifier
    policy: PolicyEngine
    processor: Processor
    credentials: Broker
    audit: AuditLog
    clock: Callable[[], float]

    def masker(self, tenant: str, plan: Plan) -> Masker:
        """Return what masks a tenant's texts by `plan`."""
        return Masker(self.keys, tenant, plan, phone_regions=self.settings.masking.phone_regions)
