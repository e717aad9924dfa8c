"""A clock that moves only when a test says so, with a sleep that wakes by it."""

from __future__ import annotations

import asyncio


class Clock:
    """Call it for the time in seconds; `sleep` ends once `advance` has moved past its end."""

    def __init__(self, now: float = 1_000.0) -> None:
        self._now = now
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def __call__(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        self._sleepers.append((self._now + seconds, woken))
        await woken.wait()

    @property
    def waits(self) -> list[float]:
        """Return how long each sleeper still has to wait, shortest first."""
        return sorted(until - self._now for until, _ in self._sleepers)

    def advance(self, seconds: float) -> None:
        """Move on and wake whoever is due."""
        self._now += seconds
        due = [sleeper for sleeper in self._sleepers if sleeper[0] <= self._now]
        self._sleepers = [sleeper for sleeper in self._sleepers if sleeper not in due]
        for _, woken in due:
            woken.set()
