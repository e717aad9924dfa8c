"""What became of calls, on its way to the trail: gathered for a moment, because nobody waits for it.

The decision was on disk before the call went on. Its completion shares a write with those of other calls, which is
most of what writing one costs; a process that is killed loses at most this moment, and readers see those decisions as
unconfirmed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from rankgate.audit import CompletionEvent
from rankgate.clients import logs
from rankgate.errors import GateError

__all__ = ["Completions"]

GATHER_S = 0.05
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
        self._gathered: list[CompletionEvent] = []
        self._timer: asyncio.TimerHandle | None = None
        self._writing: set[asyncio.Task[None]] = set()
        self._log = logs.logger("ext_proc")

    def add(self, event: CompletionEvent) -> None:
        """Take an event in, never waiting; from the thread of the event loop."""
        self._gathered.append(event)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_S, self._write)

    async def flush(self) -> None:
        """Record what was gathered, and return once all of it is on disk or refused."""
        if self._timer is not None:
            self._timer.cancel()
            self._write()
        if self._writing:
            await asyncio.wait(self._writing, timeout=RECORDS_S)

    def _write(self) -> None:
        events, self._gathered, self._timer = self._gathered, [], None
        task = asyncio.create_task(self._append(events))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _append(self, events: list[CompletionEvent]) -> None:
        for event, refusal in zip(events, await self._trail.append_all(events), strict=True):
            if refusal is not None:  # the decision is on record; readers see it as unconfirmed
                self._log.error("completion_not_recorded", decision_id=event.decision_id, reason=refusal.reason.value)
