"""Where callers wait for a person: seats are few, and whatever happens while nobody listens is not missed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Sequence

import pytest
from fakes.waiting import until

from rankgate.approvals import Event
from rankgate.clients import waiting
from rankgate.clients.waiting import WaitingRoom
from rankgate.errors import GateError, Reason

LONG_S = 30.0
AWAY = GateError(Reason.APPROVAL_STORE_UNAVAILABLE, "test")


class Store:
    """What a waiting room needs of a store. Events are told to whoever listens at that moment, and kept for nobody."""

    def __init__(self) -> None:
        self.away = False
        self.listeners: list[asyncio.Queue[Event | GateError]] = []
        self.waiting: list[tuple[str, str]] = []
        self.left: list[tuple[str, str]] = []
        self.told = 0

    def tell(self, what: Event | GateError) -> None:
        for queue in self.listeners:
            queue.put_nowait(what)

    async def wait(self, waiting: Collection[tuple[str, str]]) -> None:
        self.told += 1
        self.waiting = [*waiting]
        if self.away:
            raise AWAY

    async def leave(self, approval: str, decision_id: str) -> None:
        self.left.append((approval, decision_id))
        if self.away:
            raise AWAY

    async def events(self, _: str = "$") -> AsyncIterator[Sequence[Event]]:
        if self.away:
            raise AWAY
        queue: asyncio.Queue[Event | GateError] = asyncio.Queue()
        self.listeners.append(queue)
        try:
            yield []
            while True:
                found = await queue.get()
                if isinstance(found, GateError):
                    raise found
                yield [found]
        finally:
            self.listeners.remove(queue)


def event(approval: str) -> Event:
    return Event("1-0", "approved", approval, 1)


@contextlib.asynccontextmanager
async def room(store: Store, **bounds: int) -> AsyncIterator[WaitingRoom]:
    one = WaitingRoom(store, **{"waiters": 2, "memory": 100, **bounds})  # type: ignore[arg-type]
    await one.start()
    try:
        yield one
    finally:
        await one.stop()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "RETRY_S", 0.0)
    monkeypatch.setattr(waiting, "TURN_S", 0.01)


async def sleeping(one: WaitingRoom, approval: str) -> None:
    """Sleep once on `approval`, far longer than a test has."""
    async with one.present(approval, "dec-1") as changed:
        await one.sleep(changed, asyncio.Event(), LONG_S)


async def test_who_waits_is_woken_by_what_happens_to_its_approval_and_by_nothing_else() -> None:
    store = Store()
    async with asyncio.timeout(5), room(store) as one:
        await until(lambda: bool(store.listeners))
        mine, other = (asyncio.create_task(sleeping(one, f"apr-{number}")) for number in (1, 2))
        await until(lambda: len(one._sleepers) == 2)
        store.tell(event("apr-1"))
        await mine
        assert not other.done()
        store.tell(event("apr-2"))
        await other


async def test_what_happened_while_nobody_listened_wakes_whoever_waits() -> None:
    store = Store()
    async with asyncio.timeout(5), room(store) as one:
        await until(lambda: bool(store.listeners))
        async with one.present("apr-1", "dec-1") as changed:
            store.away = True
            store.tell(AWAY)
            # Woken by the fault, it looks, finds nothing decided, and sleeps again.
            await one.sleep(changed, asyncio.Event(), LONG_S)
            waiting_on = asyncio.create_task(one.sleep(changed, asyncio.Event(), LONG_S))
            await asyncio.sleep(0)
            changed.clear()
            # What is decided now is told to nobody.
            store.away = False
            await waiting_on


@pytest.mark.parametrize("ends", ["left", "closed", "time"])
async def test_waiting_ends_with_the_caller_the_room_and_the_time(ends: str) -> None:
    store, left = Store(), asyncio.Event()
    async with asyncio.timeout(5), room(store) as one:
        await until(lambda: bool(store.listeners))
        async with one.present("apr-1", "dec-1") as changed:
            waits = asyncio.create_task(one.sleep(changed, left, 0.01 if ends == "time" else LONG_S))
            await asyncio.sleep(0)
            if ends == "left":
                left.set()
            elif ends == "closed":
                one.close()
            await waits


async def test_seats_are_bounded_in_number_and_in_bytes_and_given_back() -> None:
    async with room(Store(), waiters=2, memory=100) as one:
        with one.seat(60) as first:
            with one.seat(41) as too_large, one.seat(40) as second, one.seat(0) as too_many:
                assert (first, too_large, second, too_many) == (True, False, True, False)
                assert (one.seated, one.held_bytes, one.refused) == (2, 100, 2)
            assert (one.seated, one.held_bytes) == (1, 60)
        assert (one.seated, one.held_bytes) == (0, 0)
        one.close()
        with one.seat(1) as after:
            assert not after


async def test_the_store_hears_who_waits_again_and_again_and_who_left() -> None:
    store = Store()
    async with asyncio.timeout(5), room(store) as one:
        async with one.present("apr-1", "dec-1"):
            await until(lambda: store.told > 2)
            assert store.waiting == [("apr-1", "dec-1")]
        assert store.left == [("apr-1", "dec-1")]


async def test_a_store_that_goes_away_ends_nothing_and_lets_nobody_in() -> None:
    store = Store()
    async with asyncio.timeout(5), room(store) as one:
        async with one.present("apr-1", "dec-1"):
            store.away = True
            told = store.told
            await until(lambda: store.told > told + 2)
            assert not any(task.done() for task in one._tasks)
            with pytest.raises(GateError):
                async with one.present("apr-2", "dec-2"):
                    pass
        assert not one._present and not one._sleepers


async def test_what_was_spent_is_remembered_until_nobody_could_spend_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "SPENT", 2)
    async with room(Store()) as one:
        one.remember("apr-1", "dec-1", 4e9)
        assert one.spent_by("apr-1") == "dec-1" and one.spent_by("apr-2") == ""
        one.remember("apr-2", "dec-2", 1.0)
        one.remember("apr-3", "dec-3", 4e9)
        one.remember("apr-4", "dec-4", 4e9)
        assert [one.spent_by(f"apr-{n}") for n in (1, 2, 3, 4)] == ["", "", "dec-3", "dec-4"]
