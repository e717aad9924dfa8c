"""One process's audit log with its shipper: opened together, closed together, and what is counted about them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rankgate.audit import AuditEvent, LifecycleEvent, Receipt, What
from rankgate.clients.audit import FileLog, Tools
from rankgate.clients.metrics import AuditMetrics
from rankgate.clients.shipper import Shipper, ShipperStatus
from rankgate.clients.signing import open_seal
from rankgate.clients.slot import Slot
from rankgate.errors import GateError
from rankgate.masking import Keys, keyed_digest
from rankgate.settings import Settings
from rankgate.version import VERSION

__all__ = ["Recording", "RecordingStatus"]

# At an orderly end, how long to wait for Redis to take the rest; what it does not take is shipped after the next start.
SHIP_REST_S = 3.0
FAULT_CHARS = 300


@dataclass(frozen=True, slots=True)
class RecordingStatus:
    """What no stream is known to hold, in entries and bytes, and the bytes at which calls are refused.

    `shipper` is None where nothing is shipped.
    """

    lag_entries: int
    lag_bytes: int
    cap_bytes: int
    shipper: ShipperStatus | None


class Recording:
    """An AuditLog that ships what it holds where `audit.redis_url` says so."""

    def __init__(self, log: FileLog, shipper: Shipper | None, cap_bytes: int, metrics: AuditMetrics) -> None:
        self._log = log
        self._shipper = shipper
        self._cap_bytes = cap_bytes
        self._metrics = metrics

    @classmethod
    async def open(cls, settings: Settings, slot: Slot, keys: Keys, metrics: AuditMetrics) -> Recording:
        """Open the slot's log where the last process left it. Raises SettingsError."""
        seal = open_seal(settings.audit, settings.deployment)
        # Records of calls without a verified tenant are digested with the empty tenant's key.
        log = await asyncio.to_thread(
            FileLog.open,
            settings.audit,
            slot.role,
            slot.number,
            deployment=settings.deployment,
            digest=lambda data: keyed_digest(keys.digest(""), data),
            version=VERSION,
            tools=Tools(alarm=metrics.alarm),
            seal=seal,
        )
        shipper = None
        if settings.audit.redis_url is not None:
            shipper = Shipper(log, settings.audit, deployment=settings.deployment)
            shipper.start()
        return cls(log, shipper, settings.audit.cap_bytes, metrics)

    @property
    def ready(self) -> bool:
        """Tell whether an event would be accepted now."""
        return self._log.ready

    def status(self) -> RecordingStatus:
        """Tell how far shipping is behind what is on disk."""
        history = self._log.history()
        return RecordingStatus(
            lag_entries=sum(files.next - files.mark for files in history),
            lag_bytes=self._log.undelivered_bytes,
            cap_bytes=self._cap_bytes,
            shipper=self._shipper.status() if self._shipper else None,
        )

    async def append(self, event: AuditEvent) -> Receipt:
        """Return once the event is on disk; raises GateError(AUDIT_UNAVAILABLE)."""
        began = time.perf_counter()
        try:
            receipt = await self._log.append(event)
        except BaseException:
            self._metrics.refused()
            raise
        self._metrics.appended(event, time.perf_counter() - began)
        return receipt

    async def append_all(self, events: Sequence[AuditEvent]) -> list[GateError | None]:
        """Append events together; return what keeps each from being on disk, None where nothing does."""
        began = time.perf_counter()
        refusals = await self._log.append_all(events)
        for event, refusal in zip(events, refusals, strict=True):
            if refusal is None:
                self._metrics.appended(event, time.perf_counter() - began)
            else:
                self._metrics.refused()
        return refusals

    async def lifecycle(self, what: What, component: str, now: float, detail: Mapping[str, str | int]) -> None:
        """Append an event about the gate itself at `now`, in seconds; raises GateError(AUDIT_UNAVAILABLE)."""
        await self.append(LifecycleEvent(what=what, time=int(now * 1000), component=component, detail=detail))

    def policy_changed(self, revision: str, fault: str) -> None:
        """Note that the policy was loaded again, or that it was not and the old one stays in force."""
        self._metrics.policy_changed(fault)
        word, what = ("policy_reload_failed", What.ALARM) if fault else ("", What.POLICY_RELOAD)
        detail = {"policy_revision": revision} | ({"fault": fault[:FAULT_CHARS]} if fault else {})
        with contextlib.suppress(GateError):  # the process's own log has it too
            self._log.record(LifecycleEvent(what, time.time_ns() // 1_000_000, "ext_authz", word, detail))

    def shadowed(self, word: str, detail: Mapping[str, str | int]) -> None:
        """Note what a candidate policy would have decided, or how it fares, without waiting and without fail."""
        with contextlib.suppress(GateError):  # it is counted, and nobody's call hangs on it
            self._log.record(LifecycleEvent(What.SHADOW, time.time_ns() // 1_000_000, "ext_authz", word, detail))

    async def close(self) -> None:
        """Ship what can be shipped, write what was appended, accept nothing more."""
        if self._shipper is not None:
            # Before the log: closing frees the slot for the next process, which ships its own.
            await asyncio.to_thread(self._shipper.stop, SHIP_REST_S)
        await self._log.close()
