"""Where callers wait for a person: a bounded number of seats, woken by what happens in the store."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Iterator

from rankgate.approvals import GateStore
from rankgate.clients import logs
from rankgate.errors import GateError

__all__ = ["WaitingRoom"]

# How often the store hears who is still here; it takes a caller that was silent three times as long for gone.
TURN_S = 1.0
RETRY_S = 0.5
# A process remembers what it spent for as long as anybody could spend it again, and at most so many.
SPENT = 100_000


class WaitingRoom:
    """The callers of one process that wait: at most `waiters`, and `body_bytes` of bodies.

    Who does not get a seat is not kept waiting. `stop` sends everybody away.
    """

    def __init__(self, store: GateStore, *, waiters: int, body_bytes: int) -> None:
        self._store = store
        self._waiters = waiters
        self._body_bytes = body_bytes
        self._log = logs.logger("approvals")
        self._sleepers: dict[str, set[asyncio.Event]] = {}
        self._present: Counter[tuple[str, str]] = Counter()
        self._spent: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._tasks: list[asyncio.Task[None]] = []
        self.closed = False
        """Whether nobody can wait any more."""
        self.seated = 0
        """Callers waiting now."""
        self.held_bytes = 0
        """Bytes of their bodies."""
        self.refused = 0
        """Callers that found no seat."""

    async def start(self) -> None:
        """Listen to the store from now on."""
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._tell())]

    def close(self) -> None:
        """Send everybody away, and let nobody wait any more."""
        self.closed = True
        self._wake(*self._sleepers)

    async def stop(self) -> None:
        """Close, and stop listening."""
        self.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @contextlib.contextmanager
    def seat(self, size: int) -> Iterator[bool]:
        """Hold a seat for a caller with a body of `size` bytes; give False where there is none."""
        if self.closed or self.seated >= self._waiters or self.held_bytes + size > self._body_bytes:
            self.refused += 1
            yield False
            return
        self.seated += 1
        self.held_bytes += size
        try:
            yield True
        finally:
            self.seated -= 1
            self.held_bytes -= size

    @contextlib.asynccontextmanager
    async def present(self, approval: str, decision_id: str) -> AsyncIterator[asyncio.Event]:
        """Be known to wait for `approval`; give an event that is set whenever something happened to it."""
        changed = asyncio.Event()
        self._sleepers.setdefault(approval, set()).add(changed)
        self._present[approval, decision_id] += 1
        try:
            await self._store.wait([(approval, decision_id)])
            yield changed
        finally:
            self._present[approval, decision_id] -= 1
            if not self._present[approval, decision_id]:
                del self._present[approval, decision_id]
            sleepers = self._sleepers[approval]
            sleepers.discard(changed)
            if not sleepers:
                del self._sleepers[approval]
            with contextlib.suppress(GateError):  # it is taken for gone soon
                await self._store.leave(approval, decision_id)

    async def sleep(self, changed: asyncio.Event, left: asyncio.Event, seconds: float) -> None:
        """Return when something happened to the approval, the caller left, the time is over or this is closed."""
        if not self.closed and seconds > 0:
            waits = [asyncio.ensure_future(changed.wait()), asyncio.ensure_future(left.wait())]
            try:
                await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
        changed.clear()

    def remember(self, approval: str, decision_id: str, until: float) -> None:
        """Remember that `approval` was spent here, until it can be spent no more (seconds since 1970)."""
        now = time.time()
        while self._spent and (len(self._spent) >= SPENT or next(iter(self._spent.values()))[1] < now):
            self._spent.popitem(last=False)
        self._spent[approval] = decision_id, until

    def spent_by(self, approval: str) -> str:
        """Return the decision that spent `approval` here, whatever the store says; empty for none."""
        return self._spent.get(approval, ("", 0.0))[0]

    async def _listen(self) -> None:
        cursor = "$"
        while True:
            try:
                listening = False
                async for events in self._store.events(cursor):
                    if not listening:
                        # What happened before, while nobody listened, is looked up by everybody.
                        self._wake(*self._sleepers)
                        listening = True
                    for event in events:
                        cursor = event.cursor
                        self._wake(event.approval)
            except GateError as refusal:
                self._log.warning("approvals_not_heard", reason=refusal.reason.value, detail=refusal.detail)
            # They find out that the store is away.
            self._wake(*self._sleepers)
            await asyncio.sleep(RETRY_S)

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(TURN_S)
            if self._present:
                with contextlib.suppress(GateError):
                    await self._store.wait(list(self._present))

    def _wake(self, *approvals: str) -> None:
        for approval in approvals:
            for changed in self._sleepers.get(approval, ()):
                changed.set()
