"""A local log for tests: collected alarms, small events, and what is stored."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from fakes.events import DIGEST

from rankgate.audit import LifecycleEvent, What
from rankgate.clients.audit import FileLog, Tools
from rankgate.clients.sealing import Seal
from rankgate.settings import AuditSettings

__all__ = ["CAP", "WAIT_S", "Alarms", "open_log", "small", "stored", "until"]

CAP = 1_048_576
WAIT_S = 15.0


class Alarms(list[tuple[str, dict[str, str | int]]]):
    """Collects alarms instead of logging them."""

    def __call__(self, word: str, detail: Mapping[str, str | int]) -> None:
        self.append((word, dict(detail)))

    @property
    def words(self) -> list[str]:
        """Return the words alone."""
        return [word for word, _ in self]


def small(number: int = 0, size: int = 10) -> LifecycleEvent:
    """Return an event of about 500 bytes and `size`."""
    return LifecycleEvent(What.START, 1, "authz", detail={"number": number, "filler": "x" * size})


def open_log(
    directory: Path, alarms: Alarms | None = None, *, cap: int = CAP, seal: Seal | None = None, **tools: object
) -> FileLog:
    """Open the log of slot 0; `tools` replace what it takes from the machine."""
    made = replace(Tools(), alarm=alarms if alarms is not None else Alarms(), **tools)  # type: ignore[arg-type]
    settings = AuditSettings(directory=directory, cap_bytes=cap)
    return FileLog.open(settings, "authz", 0, deployment="default", digest=DIGEST, version="0.1", tools=made, seal=seal)


def stored(log: FileLog, position: int = -1) -> list[bytes]:
    """Return the leaves one of the slot's logs holds."""
    files = log.history()[position]
    found: list[bytes] = []
    while page := files.read(files.first + len(found), 100):
        found += [frame.leaf for frame in page]
    return found


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` is true, for a time no working machine needs."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.01)
