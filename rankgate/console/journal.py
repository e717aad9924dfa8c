"""The console's own record of what people did, on disk before it takes effect.

It is a log like a gate's (numbered, synced, never continued past damage), in a folder of the console. What a token or
a preview holds is never written. A full disk refuses the action.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from typing import Self

from rankgate.audit.event import LifecycleEvent, What
from rankgate.clients.audit import FileLog, Tools
from rankgate.console.refusals import Refusal, RefusedError
from rankgate.console.settings import JournalSettings
from rankgate.errors import GateError
from rankgate.settings import AuditSettings
from rankgate.version import VERSION

__all__ = ["Journal"]

ROLE = "console"


class Journal:
    """Appends entries; each is on disk once `write` returns."""

    def __init__(self, log: FileLog, clock_ms: Callable[[], int]) -> None:
        self._log = log
        self._now_ms = clock_ms

    @classmethod
    async def open(
        cls, settings: JournalSettings, deployment: str, *,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000, tools: Tools | None = None,
    ) -> Self:  # fmt: skip
        """Open the journal and note the start; raises SettingsError where the folder cannot be used."""
        place = AuditSettings.model_validate({"directory": settings.directory, "cap_bytes": settings.cap_bytes})
        log = await asyncio.to_thread(
            FileLog.open, place, ROLE, 0, deployment=deployment, digest=_digest, version=VERSION, tools=tools
        )
        journal = cls(log, clock_ms)
        await journal.write("started", "")
        return journal

    @property
    def ready(self) -> bool:
        """Tell whether an entry would be accepted now."""
        return self._log.ready

    async def write(self, kind: str, person: str, **detail: str | int) -> None:
        """Return once the entry is on disk; raises RefusedError(JOURNAL_UNAVAILABLE) where it is not."""
        given = {"person": person, **detail} if person else detail
        try:
            await self._log.append(LifecycleEvent(What.CONSOLE, self._now_ms(), ROLE, kind, given))
        except GateError:
            raise RefusedError(Refusal.JOURNAL_UNAVAILABLE) from None

    async def close(self) -> None:
        """Write what was accepted and free the folder."""
        await self._log.close()


def _digest(data: bytes) -> str:
    # Names the rest of a text that was cut. The console holds no key of the trail, and hides nothing from itself.
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
