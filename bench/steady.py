"""Calls at a fixed rate for as long as asked, each with an outcome that can be told apart afterwards."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from bench.http1 import body_start, complete

__all__ = ["Call", "Steady"]

RECEIPT = b"x-rankgate-decision-id: "
# The longest wait for one answer; and for a connection to be had again.
ANSWER_S = 20.0
AGAIN_S = 0.05


@dataclass(frozen=True, slots=True)
class Call:
    """One call: when it was due (time.monotonic), its status (0: no answer came), its receipt."""

    due: float
    status: int
    receipt: str
    took_s: float


class Steady:
    """Sends `request(n)` for n = 0, 1, ... over `connections` kept-alive connections, `rate` a second."""

    def __init__(self, port: int, rate: float, connections: int, request: Callable[[int], bytes]) -> None:
        self._port = port
        self._rate = rate
        self._connections = connections
        self._request = request
        self._due: deque[tuple[int, float]] = deque()
        self._wake = asyncio.Event()
        self._ended = False
        self.calls: list[Call] = []
        self.sent = 0

    async def run(self, seconds: float) -> None:
        """Send for `seconds`, then wait for the last answers."""
        workers = [asyncio.create_task(self._work()) for _ in range(self._connections)]
        started = time.monotonic()
        while (now := time.monotonic()) < started + seconds:
            while self.sent < (now - started) * self._rate:
                self._due.append((self.sent, started + self.sent / self._rate))
                self.sent += 1
            self._wake.set()
            await asyncio.sleep(0.002)
        self._ended = True
        self._wake.set()
        await asyncio.gather(*workers)

    async def _work(self) -> None:
        stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while True:
            if not self._due:
                if self._ended:
                    break
                self._wake.clear()
                await self._wake.wait()
                continue
            number, due = self._due.popleft()
            answer = b""
            try:
                async with asyncio.timeout(ANSWER_S):
                    # Closed by the other side while nothing was under way: no call of ours was cut.
                    if stream is None or stream[0].at_eof():
                        stream = await asyncio.open_connection("127.0.0.1", self._port)
                    answer = await _ask(stream, self._request(number))
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                answer = b""
            if not complete(answer) or b"connection: close" in answer[: body_start(answer)].lower():
                if stream is not None:
                    stream[1].transport.abort()
                stream = None
            if not answer:
                await asyncio.sleep(AGAIN_S)
            self.calls.append(_call(due, answer))
        if stream is not None:
            stream[1].transport.abort()


async def _ask(stream: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: bytes) -> bytes:
    reader, writer = stream
    writer.write(request)
    answer = b""
    while not complete(answer):
        part = await reader.read(65_536)
        if not part:
            raise asyncio.IncompleteReadError(answer, None)
        answer += part
    return answer


def _call(due: float, answer: bytes) -> Call:
    status = int(answer[9:12]) if answer else 0
    at = answer.find(RECEIPT)
    receipt = answer[at + len(RECEIPT) : answer.find(b"\r", at)].decode() if at > 0 else ""
    return Call(due, status, receipt, time.monotonic() - due)
