"""The audit trail as the story follows it: read from the streams while the calls are made."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, Self

from redis import asyncio as redis

from rankgate.audit.names import stream_pattern
from rankgate.settings import AuditSettings

__all__ = ["Trail"]

PATIENCE_S = 5.0
# A stream appears with its first entry, so the reader looks for new ones this often.
BLOCK_MS = 100


class Trail:
    """Follows every stream of a deployment from the beginning. An async context manager.

    `events` holds what Redis had so far, in the order it arrived: the `unmapped.rankgate` part of each body.
    """

    def __init__(self, settings: AuditSettings, deployment: str) -> None:
        if settings.redis_url is None:
            raise ValueError("there is no trail to follow without audit.redis_url")
        # Any: redis-py types every answer as everything it could be.
        self._redis: Any = redis.from_url(settings.redis_url)
        self._pattern = stream_pattern(deployment)
        self._news = asyncio.Condition()
        self._follower: asyncio.Task[None] | None = None
        self.events: list[dict[str, Any]] = []

    async def __aenter__(self) -> Self:
        self._follower = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
        await self._redis.aclose()

    async def decision(self, decision_id: str) -> dict[str, Any] | None:
        """Wait for the decision with this id; None where it does not come within five seconds."""

        def found() -> list[dict[str, Any]]:
            return [event for event in self.events if event.get("decision_id") == decision_id and "allowed" in event]

        await self._until(lambda: bool(found()))
        return next(iter(found()), None)

    async def completions(self, count: int) -> None:
        """Wait until `count` calls have their completion, at most five seconds."""
        await self._until(lambda: sum(event.get("kind") == "completion" for event in self.events) >= count)

    async def _until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        async with self._news:
            while not condition() and (left := deadline - time.monotonic()) > 0:
                try:
                    await asyncio.wait_for(self._news.wait(), left)
                except TimeoutError:
                    return

    async def _follow(self) -> None:
        seen: dict[str, str] = {}
        while True:
            for key in [key.decode() async for key in self._redis.scan_iter(match=self._pattern)]:
                if not key.endswith(":checkpoints"):
                    seen.setdefault(key, "0")
            if not seen:
                await asyncio.sleep(BLOCK_MS / 1000)
                continue
            for key, entries in await self._redis.xread(seen, block=BLOCK_MS) or []:
                seen[key.decode()] = entries[-1][0].decode()
                await self._add([json.loads(fields[b"body"])["unmapped"]["rankgate"] for _, fields in entries])

    async def _add(self, events: list[dict[str, Any]]) -> None:
        async with self._news:
            self.events += events
            self._news.notify_all()
