"""What the rest of the gate knows of a log: append, and be told when the entry is durable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from rankgate.audit.event import AuditEvent

__all__ = ["AuditLog", "Receipt"]


@dataclass(frozen=True, slots=True)
class Receipt:
    """Names a durable entry for good; `str()` is `<log>#<index>`."""

    log: str
    index: int

    def __str__(self) -> str:
        return f"{self.log}#{self.index}"


class AuditLog(Protocol):
    """A log of one process. No call is answered before its event was appended."""

    @property
    def ready(self) -> bool:
        """Tell whether an event would be accepted now."""
        ...

    async def append(self, event: AuditEvent) -> Receipt:
        """Return once the event is on disk; raises GateError(AUDIT_UNAVAILABLE) where it is not.

        A caller that is cancelled takes nothing back: what was appended is written.
        """
        ...

    async def close(self) -> None:
        """Write what was appended, and accept nothing more."""
        ...
