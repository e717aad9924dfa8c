"""A client fast enough not to be what is measured: raw HTTP/1.1 over connections that stay open.

Closed loop: every connection sends as soon as it was answered. Open loop: calls begin at a fixed rate, whatever
became of those before, and are timed from when they should have begun. Run as a process: a Job as JSON on standard
input; `begin` and `end` on standard output mark the measured time, then the Result follows as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import cast

import uvloop

from bench.bodies import bodies, requests
from bench.http1 import complete

__all__ = ["Connection", "Job", "Result"]

# The longest time for as many answers as there are connections, and for the last calls under way.
LONGEST_S = 30.0
DRAIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Job:
    """What to send. `rate` in calls a second makes the loop open; `pool` is the number of different bodies."""

    port: int
    token: str
    documents: int
    model: str
    pool: int
    connections: int
    warm_s: float
    measure_s: float
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it in the measured time: answers by status (0: the connection broke), times in microseconds."""

    seconds: float
    statuses: dict[str, int]
    times_us: list[int]


class Connection(asyncio.Protocol):
    """One connection, with at most one call under way."""

    def __init__(self, answered: Callable[[Connection, int, float], None]) -> None:
        self._answered = answered
        self._transport: asyncio.Transport | None = None
        self._data = b""
        self._begun = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports have the methods and not the base class.
        self._transport = cast("asyncio.Transport", transport)

    def send(self, request: bytes, begun: float) -> None:
        """Send a call that counts from `begun`."""
        assert self._transport is not None
        self._begun = begun
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Report an answer once it is whole."""
        self._data = self._data + data if self._data else data
        if complete(self._data):
            status, self._data = int(self._data[9:12]), b""
            self._answered(self, status, self._begun)

    def connection_lost(self, _error: Exception | None) -> None:
        """Report a broken call."""
        self._transport = None
        self._answered(self, 0, self._begun)

    def close(self) -> None:
        """Leave, whatever is under way."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def open(self) -> bool:
        """Tell whether it can be sent over."""
        return self._transport is not None


class Load:
    """One job being done."""

    def __init__(self, job: Job, sent: list[bytes]) -> None:
        self._job = job
        self._sent = sent
        self._next = 0
        self._measuring = False
        self._stopped = False
        self._under_way = 0
        self._idle: deque[Connection] = deque()
        self._late: deque[float] = deque()
        self._statuses: Counter[int] = Counter()
        self._times: list[int] = []

    async def run(self, tell: Callable[[str], None]) -> Result:
        """Do the job; `tell` hears where the measured time begins and ends."""
        loop = asyncio.get_running_loop()
        for _ in range(self._job.connections):
            _, connection = await loop.create_connection(
                lambda: Connection(self._answered), "127.0.0.1", self._job.port
            )
            self._idle.append(connection)
        generator = asyncio.create_task(self._begin())
        await asyncio.sleep(self._job.warm_s)
        tell("begin")
        self._measuring, started = True, time.perf_counter()
        await asyncio.sleep(self._job.measure_s)
        # Where calls take longer than the measured time, it lasts until each connection was answered once.
        async with asyncio.timeout(LONGEST_S):
            while len(self._times) < self._job.connections:  # noqa: ASYNC110 - rarely, and nothing signals each answer
                await asyncio.sleep(0.005)
        self._measuring, seconds = False, time.perf_counter() - started
        tell("end")
        self._stopped = True
        generator.cancel()
        async with asyncio.timeout(DRAIN_S):
            while self._under_way:  # noqa: ASYNC110 - once, after what is measured
                await asyncio.sleep(0.005)
        return Result(seconds, {str(status): count for status, count in self._statuses.items()}, self._times)

    async def _begin(self) -> None:
        rate = self._job.rate
        if rate is None:
            while self._idle:
                self._send(self._idle.popleft(), time.perf_counter())
            return
        started, count = time.perf_counter(), 0
        while True:
            due = started + count / rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            count += 1
            if self._idle:
                self._send(self._idle.popleft(), due)
            else:
                self._late.append(due)

    def _send(self, connection: Connection, begun: float) -> None:
        if not connection.open:
            return
        self._under_way += 1
        self._next = (self._next + 1) % len(self._sent)
        connection.send(self._sent[self._next], begun)

    def _answered(self, connection: Connection, status: int, begun: float) -> None:
        if not self._under_way:
            return
        self._under_way -= 1
        if self._measuring:
            self._statuses[status] += 1
            self._times.append(int((time.perf_counter() - begun) * 1_000_000))
        if self._stopped or not status:
            return
        if self._job.rate is None:
            self._send(connection, time.perf_counter())
        elif self._late:
            self._send(connection, self._late.popleft())
        else:
            self._idle.append(connection)


def main() -> None:
    """Do the job on standard input."""
    job = Job(**json.loads(sys.stdin.readline()))
    sent = requests(bodies(job.documents, job.pool, model=job.model), job.token)
    result = uvloop.run(Load(job, sent).run(lambda word: print(word, flush=True)))
    print(json.dumps(asdict(result)), flush=True)


if __name__ == "__main__":
    main()
