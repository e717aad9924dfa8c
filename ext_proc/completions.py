"""What became of calls, on its way to the trail: written at once, and together with what comes in meanwhile.

Nobody waits for it: the decision was on disk before the call went on. While one write is under way the next collects,
so that the calls of a busy process share the cost and those of an idle one are recorded without delay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from rankgate.audit import CompletionEvent
from rankgate.clients import logs
from rankgate.errors import GateError

__all__ = ["Completions"]

# At the end: how long to wait for records that are being written.
RECORDS_S = 5.0


class Trail(Protocol):
    """Where events are recorded."""

    async def append_all(self, events: Sequence[CompletionEvent]) -> Sequence[GateError | None]:
        """Return, once it is known, what keeps each of `events` from being on disk: None where nothing does."""
        ...


class Completions:
    """Records the completions of one process."""

    def __init__(self, trail: Trail) -> None:
        self._trail = trail
        self._collected: list[CompletionEvent] = []
        self._writing: asyncio.Task[None] | None = None
        self._log = logs.logger("ext_proc")

    def add(self, event: CompletionEvent) -> None:
        """Take an event in, never waiting; from the thread of the event loop."""
        self._collected.append(event)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())

    async def flush(self) -> None:
        """Return once all that was taken in is on disk or refused, or after RECORDS_S."""
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=RECORDS_S)

    async def _write(self) -> None:
        try:
            while self._collected:
                events, self._collected = self._collected, []
                for event, refusal in zip(events, await self._trail.append_all(events), strict=True):
                    if refusal is not None:  # the decision is on record; readers see it as unconfirmed
                        self._log.error(
                            "completion_not_recorded", decision_id=event.decision_id, reason=refusal.reason.value
                        )
        finally:
            self._writing = None
