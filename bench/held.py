"""Callers that wait at a gate for people, and the people: what bench.waiting measures with."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from bench.bodies import body, requests
from bench.ground import Contender, Ground
from bench.http1 import body_start, complete
from bench.load import Connection
from bench.people import GROUP, People
from rankgate.approvals import State, Stored
from rankgate.clients.approvals import ApprovalStore
from rankgate.settings import ApprovalSettings

__all__ = ["DOCUMENTS", "POLICY", "Held", "Scene", "ask", "held_body", "scene_at", "until"]

DOCUMENTS = 20
POLICY = f"""package rankgate

import rego.v1

decision := {{"allowed": true, "rankgate": needs}}

default needs := {{}}

needs := {{"approval": {{"groups": ["{GROUP}"]}}}} if startswith(input.rerank.model, "held")
"""
SETTLED_S = 20.0


class Held:
    """Callers on connections of their own, each with a request that nobody else makes."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._token = token
        self._connections: dict[Connection, int] = {}
        self.answered: dict[int, tuple[int, float]] = {}
        """By number: the status (0: broken off) and when it came, in time.perf_counter() seconds."""

    async def send(self, numbers: Sequence[int], rate: float) -> None:
        """Let a caller come for each of `numbers`, `rate` a second."""
        loop, began = asyncio.get_running_loop(), time.perf_counter()
        for place, number in enumerate(numbers):
            await asyncio.sleep(began + place / rate - time.perf_counter())
            _, connection = await loop.create_connection(lambda: Connection(self._answered), "127.0.0.1", self._port)
            self._connections[connection] = number
            connection.send(requests([held_body(number)], self._token)[0], time.perf_counter())

    async def all_answered(self) -> bool:
        """Tell whether every caller was answered."""
        return len(self.answered) >= len(self._connections)

    def close(self) -> None:
        """Leave, all at once."""
        for connection in self._connections:
            connection.close()

    def _answered(self, connection: Connection, status: int, _begun: float) -> None:
        self.answered.setdefault(self._connections[connection], (status, time.perf_counter()))


class Scene:
    """The gate, what it keeps approvals in, and everybody around it."""

    def __init__(self, shared: Ground, gate: Contender, people: People, store: ApprovalStore, redis: Redis) -> None:
        self.shared, self.gate, self.people, self.store, self.redis = shared, gate, people, store, redis

    async def waiters(self) -> int:
        """Return how many callers the store takes for waiting."""
        return len([key async for key in self.redis.scan_iter("*:approvals:waiters:*", count=10_000)])

    async def empty(self) -> bool:
        """Tell whether the store takes nobody for waiting."""
        return await self.waiters() == 0

    async def pending(self, callers: int) -> dict[int, Stored]:
        """Return the newest pending approvals by the number of their caller."""
        found: dict[int, Stored] = {}
        for stored in await self.store.listing({State.PENDING}, callers):
            found[int((stored.ask.model or "").removeprefix("held").partition("-")[0])] = stored
        return found

    async def agree(self, stored: Stored) -> float:
        """Put a vote that decides into the store; return when."""
        person, statement = self.people.consent(stored)
        when = time.perf_counter()
        await self.store.settle(stored, State.APPROVED, kind="approved", person=person, statement=statement)
        return when

    async def arrived(self) -> Mapping[str, int]:
        """Return how many held requests reached the reranker, and how many different ones."""
        answer = await ask(self.shared.upstream_port, b"GET /held HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n")
        counted: dict[str, int] = json.loads(answer[body_start(answer) :])
        return counted


@asynccontextmanager
async def scene_at(shared: Ground, name: str, callers: int) -> AsyncIterator[Scene]:
    """Hold a gate with seats for `callers`, and everybody around it."""
    people, socket = People(shared.folder), shared.folder / name / "valkey.sock"
    section = people.settings(f"unix://{socket}")
    section |= {"waiters": callers, "hold_s": 200.0, "pending_per_subject": 1000, "pending_per_tenant": 10_000}
    gate = await shared.gate(name, {"approvals": section}, policy=POLICY)
    store = ApprovalStore.connect(ApprovalSettings.model_validate(section), "default", 3600)
    try:
        async with Redis(unix_socket_path=str(socket)) as redis:
            yield Scene(shared, gate, people, store, redis)
    finally:
        await store.close()


async def until(truth: Callable[[], Awaitable[bool]]) -> None:
    """Wait until `truth()` holds, for so long as that may take; what does not come true shows in what is counted."""
    deadline = time.monotonic() + SETTLED_S
    while not await truth() and time.monotonic() < deadline:  # noqa: ASYNC110 - nothing signals it
        await asyncio.sleep(0.02)


async def ask(port: int, request: bytes) -> bytes:
    """Return the whole answer to one request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = b""
    while not complete(answer) and (part := await reader.read(65_536)):
        answer += part
    writer.close()
    return answer


def held_body(number: int) -> bytes:
    """Return the body of the caller `number`, which needs a person."""
    return body(DOCUMENTS, number, model=f"held{number}")
