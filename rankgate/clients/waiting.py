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
# Of how many at a time.
TOLD = 32
RETRY_S = 0.5
# How many of those who waited go on at once, and for how long one of them counts: what they take of the processor is
# not missed by other callers, and who is kept by another part keeps nobody else.
TURNS = 4
LONGEST_TURN_S = 0.1
# A process remembers what it spent for as long as anybody could spend it again, and at most so many.
SPENT = 100_000


class WaitingRoom:
    """The callers of one process that wait: at most `waiters`, and `memory` bytes of calls.

    Who does not get a seat is not kept waiting. `stop` sends everybody away.
    """

    def __init__(self, store: GateStore, *, waiters: int, memory: int) -> None:
        self._store = store
        self._waiters = waiters
        self._memory = memory
        self._log = logs.logger("approvals")
        self._sleepers: dict[str, set[asyncio.Event]] = {}
        self._present: Counter[tuple[str, str]] = Counter()
        self._spent: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._tasks: list[asyncio.Task[None]] = []
        self._turns = asyncio.Semaphore(TURNS)
        self.closed = False
        """Whether nobody can wait any more."""
        self.seated = 0
        """Callers waiting now."""
        self.held_bytes = 0
        """Memory of their calls, in bytes, as estimated."""
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
        """Hold a seat for a call that takes `size` bytes of memory; give False where there is none."""
        if self.closed or self.seated >= self._waiters or self.held_bytes + size > self._memory:
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

    def crowd(self, approval: str) -> int:
        """Return how many callers of one request wait here."""
        return len(self._sleepers.get(approval, ()))

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

    @contextlib.asynccontextmanager
    async def turn(self, seconds: float) -> AsyncIterator[None]:
        """Go on after waiting, a few at once; after `seconds` in any case.

        What wakes one caller may wake all: a refusal of the store, a vote for many, a client that ends. Side by side
        they would keep the loop, and with it every other call, from going on until the last one is done.
        """
        taken = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                taken = await self._turns.acquire()
        if not taken:
            yield
            return
        place = _Place(self._turns)
        over = asyncio.get_running_loop().call_later(LONGEST_TURN_S, place.free)
        try:
            yield
        finally:
            over.cancel()
            place.free()

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
        cursor, away = "$", False
        while True:
            heard = False
            try:
                async for events in self._store.events(cursor):
                    if not heard:
                        # From here on nothing is missed. What happened before is looked up by everybody.
                        heard, away = True, False
                        self._wake(*self._sleepers)
                    for event in events:
                        cursor = event.cursor
                        self._wake(event.approval)
            except Exception as error:  # noqa: BLE001 - whatever goes wrong, it is listened again
                if not away:
                    away = True
                    self._log.warning("approvals_not_heard", **_fault(error))
            # Who waits hears by looking that the store is away.
            self._wake(*self._sleepers)
            await asyncio.sleep(RETRY_S)

    async def _tell(self) -> None:
        while True:
            present = list(self._present)
            # Spread over the second: one message about all would hold up every call of that moment.
            batches = [present[place : place + TOLD] for place in range(0, len(present), TOLD)] or [[]]
            for batch in batches:
                await asyncio.sleep(TURN_S / len(batches))
                try:
                    await self._store.wait([waiting for waiting in batch if waiting in self._present])
                except GateError:
                    pass  # who listens tells of it
                except Exception as error:  # noqa: BLE001 - whatever goes wrong, it is told again
                    self._log.warning("waiters_not_told", **_fault(error))

    def _wake(self, *approvals: str) -> None:
        for approval in approvals:
            for changed in self._sleepers.get(approval, ()):
                changed.set()


def _fault(error: Exception) -> dict[str, str]:
    """Return what may be logged of a failure."""
    if isinstance(error, GateError):
        return {"reason": error.reason.value, "detail": error.detail}
    return {"error": type(error).__name__}


class _Place:
    """One of the places of a semaphore, freed once."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places
        self._freed = False

    def free(self) -> None:
        if not self._freed:
            self._freed = True
            self._places.release()
