"""Who waited goes on a few at a time, and nobody for long at the others' expense."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

from fakes.waiting import until

from rankgate.clients import waiting
from rankgate.clients.waiting import WaitingRoom


class Store:
    """Keeps what it is told."""

    def __init__(self):
        self.told = []

    async def wait(self, waiting):
        self.told.append(list(waiting))

    async def leave(self, approval, decision_id):
        pass

    async def events(self, after="$"):
        while True:
            yield []
            await asyncio.sleep(1)


def room(store=None):
    return WaitingRoom(store, waiters=256, memory=1_000_000)


async def test_the_store_hears_of_everybody_again_and_again_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr(waiting, "TURN_S", 0.1)
    store = Store()
    one = room(store)
    everybody = [(f"apr-{number}", f"dec-{number}") for number in range(100)]
    async with AsyncExitStack() as scope:
        for approval, decision in everybody:
            await scope.enter_async_context(one.present(approval, decision))
        store.told.clear()
        await one.start()
        await until(lambda: sum(map(len, store.told)) >= 200)
        told = [pair for batch in store.told for pair in batch]
        assert told[:100] == told[100:200] == everybody
        assert max(map(len, store.told)) == waiting.TOLD
    store.told.clear()
    # A round that had begun says nothing of those who left meanwhile.
    await asyncio.sleep(0.3)
    assert not any(store.told)
    await one.stop()


class Failing(Store):
    """Is away once, in a way nobody thought of, and then tells of nothing: what happened meanwhile is missed."""

    def __init__(self):
        super().__init__()
        self.asked = 0

    async def events(self, after="$"):
        self.asked += 1
        if self.asked == 1:
            raise RuntimeError("unforeseen")
        async for events in super().events(after):
            yield events


async def test_what_happened_while_nobody_listened_is_looked_up_by_everybody(monkeypatch):
    monkeypatch.setattr(waiting, "RETRY_S", 0.01)
    store = Failing()
    one, woken = room(store), 0
    async with one.present("apr-1", "dec-1") as changed:
        await one.start()
        while woken < 2:
            async with asyncio.timeout(5):
                await changed.wait()
            changed.clear()
            woken += 1
        # Once because the store was away, once because it is listened to again.
        assert store.asked == 2
    await one.stop()


async def test_seats_are_bounded_by_callers_and_by_what_they_take():
    one = WaitingRoom(Store(), waiters=2, memory=100)
    with one.seat(60) as first, one.seat(50) as too_much, one.seat(40) as second, one.seat(0) as third:
        assert (first, too_much, second, third) == (True, False, True, False)
        assert (one.seated, one.held_bytes, one.refused) == (2, 100, 2)
    assert (one.seated, one.held_bytes) == (0, 0)


async def test_closing_sends_everybody_away_and_seats_nobody():
    one = room(Store())
    async with one.present("apr-1", "dec-1") as changed:
        waits = asyncio.create_task(one.sleep(changed, asyncio.Event(), 60))
        await asyncio.sleep(0)
        one.close()
        await asyncio.wait_for(waits, 5)
        with one.seat(1) as seated:
            assert not seated


async def test_a_few_go_on_at_once_and_the_next_as_soon_as_one_is_done():
    one, now, most, order = room(), 0, 0, []

    async def go(number):
        nonlocal now, most
        async with one.turn(5.0):
            now += 1
            most = max(most, now)
            order.append(number)
            await asyncio.sleep(0.001)
            now -= 1

    began = time.monotonic()
    await asyncio.gather(*(go(number) for number in range(50)))
    assert most == waiting.TURNS
    assert order == list(range(50))
    assert time.monotonic() - began < 5


async def test_who_is_kept_by_another_part_keeps_nobody_else():
    one, went = room(), []
    stuck = asyncio.Event()

    async def slow():
        async with one.turn(5.0):
            await stuck.wait()

    async def quick():
        async with one.turn(5.0):
            went.append(True)

    held = [asyncio.create_task(slow()) for _ in range(waiting.TURNS)]
    await asyncio.sleep(0)
    began = time.monotonic()
    await quick()
    assert waiting.LONGEST_TURN_S * 0.9 <= time.monotonic() - began < 2
    stuck.set()
    await asyncio.gather(*held)
    # What each gave back once was not given back again.
    assert one._turns._value == waiting.TURNS


async def test_who_has_no_more_time_goes_on_out_of_turn():
    one, stuck = room(), asyncio.Event()

    async def slow():
        async with one.turn(5.0):
            await stuck.wait()

    held = [asyncio.create_task(slow()) for _ in range(waiting.TURNS)]
    await asyncio.sleep(0)
    began = time.monotonic()
    async with one.turn(0.01):
        assert time.monotonic() - began < waiting.LONGEST_TURN_S
    stuck.set()
    await asyncio.gather(*held)
    assert one._turns._value == waiting.TURNS


async def test_who_gives_up_while_waiting_for_a_turn_takes_none():
    one, stuck = room(), asyncio.Event()

    async def slow():
        async with one.turn(5.0):
            await stuck.wait()

    held = [asyncio.create_task(slow()) for _ in range(waiting.TURNS + 1)]
    await asyncio.sleep(0)
    held.pop().cancel()
    stuck.set()
    await asyncio.gather(*held)
    assert one._turns._value == waiting.TURNS
