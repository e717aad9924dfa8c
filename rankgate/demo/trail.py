"""The audit trail as the story follows it: read from the streams while the calls are made."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Self

from rankgate.audit.entry import differing
from rankgate.audit.names import StreamId
from rankgate.clients.audit_redis import connect
from rankgate.clients.trail import Item
from rankgate.clients.trail import Trail as Streams

__all__ = ["Trail"]

PATIENCE_S = 5.0
# A stream appears with its first entry, so new ones are looked for this often.
BLOCK_MS = 50


class Trail:
    """Follows every stream of a deployment from its beginning. An async context manager.

    `events` holds what arrived so far, in order: the `unmapped.rankgate` part of each body. `doubtful` counts
    entries whose flat fields or place do not agree with their body.
    """

    def __init__(self, redis_url: str, deployment: str) -> None:
        self._client = connect(redis_url)
        self._streams = Streams(self._client, deployment)
        self._news = asyncio.Condition()
        self._follower: asyncio.Task[None] | None = None
        self.events: list[dict[str, Any]] = []
        self.doubtful = 0

    async def __aenter__(self) -> Self:
        self._follower = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._follower is not None:
            self._follower.cancel()
            with suppress(asyncio.CancelledError):
                await self._follower
        self._client.close()

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
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S), self._news:
                await self._news.wait_for(condition)

    async def _follow(self) -> None:
        behind: dict[str, StreamId] = {}
        while True:
            behind |= dict.fromkeys(await asyncio.to_thread(self._streams.discover), StreamId(0, 0))
            if not behind:
                await asyncio.sleep(BLOCK_MS / 1000)
                continue
            items = await asyncio.to_thread(self._streams.next, behind, BLOCK_MS)
            behind |= {item.key: item.id for item in items}
            await self._add(items)

    async def _add(self, items: Iterable[Item]) -> None:
        async with self._news:
            for item in items:
                self.doubtful += bool(differing(item.fields, item.body, item.key, str(item.id)))
                self.events.append(json.loads(item.body)["unmapped"]["rankgate"])
            self._news.notify_all()
