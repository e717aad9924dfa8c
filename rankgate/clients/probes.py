"""Is this process alive, and ready for calls? pages.py says so over HTTP, serving.py by grpc.health.v1.

Alive: the event loop turns; only a restart helps where it does not. Ready: every part that a call needs works; calls
are refused where one does not, so others should get them. A process that ends is no longer ready once it takes no more
calls, and alive until its last call is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from prometheus_client import CollectorRegistry, Gauge

from rankgate.clients import logs
from rankgate.clients.metrics import histogram

__all__ = ["Ask", "Health"]

LOOK_S = 1.0
TURN_S = 0.25
# A loop that came back after longer than this is in trouble; one that does not come back answers nothing at all.
STUCK_S = 10.0

Ask = Callable[[], Awaitable[Mapping[str, bool]]]
"""Tells of every part that a call needs whether it works, by name."""


class Health:
    """Looks at the parts once a second and at the event loop four times; `told` hears whether calls can be served."""

    def __init__(
        self,
        ask: Ask,
        told: Callable[[bool], Awaitable[object]],
        registry: CollectorRegistry,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._told = told
        self._monotonic = monotonic
        self._log = logs.logger("health")
        self._lag = histogram(registry, "loop_lag_seconds", "How late the event loop wakes what is due.")
        self._gauge = Gauge(
            "ready", "1 while the part works; `all` for calls.", ("part",), "rankgate", registry=registry
        )
        self._turned = monotonic()
        self.parts: Mapping[str, bool] = {"started": False}
        self.draining = False

    @property
    def ready(self) -> bool:
        """Tell whether calls can be served, as of the last look."""
        return not self.draining and all(self.parts.values())

    @property
    def alive(self) -> bool:
        """Tell whether the event loop turns as it should."""
        return self._monotonic() - self._turned < STUCK_S

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Look once, then keep looking until the end."""
        await self.look()
        tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._turn())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def drain(self) -> None:
        """Say that no more calls are wanted."""
        self.draining = True
        await self._tell()

    async def look(self) -> None:
        """Ask every part now."""
        try:
            async with asyncio.timeout(LOOK_S):
                parts = await self._ask()
        except Exception as error:  # noqa: BLE001 - what cannot be told is not ready
            parts = dict.fromkeys(self.parts, False)
            self._log.error("parts_not_told", error=type(error).__name__)
        if parts != self.parts:
            self._log.info("parts", **parts)
        self.parts = parts
        await self._tell()

    async def _tell(self) -> None:
        for part, works in self.parts.items():
            self._gauge.labels(part).set(works)
        self._gauge.labels("all").set(self.ready)
        await self._told(self.ready)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look()

    async def _turn(self) -> None:
        while True:
            due = self._monotonic() + TURN_S
            await asyncio.sleep(TURN_S)
            self._turned = self._monotonic()
            self._lag.observe(max(0.0, self._turned - due))
