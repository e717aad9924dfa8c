"""Completions are recorded together, in order, and none is left behind at the end."""

import asyncio

from structlog.testing import capture_logs

from ext_proc.completions import Completions
from rankgate.audit import CompletionEvent, Outcome
from rankgate.errors import GateError, Reason


def event(number):
    return CompletionEvent(f"dec-{number}", 1, Outcome.COMPLETE)


class Trail:
    def __init__(self):
        self.appends = []
        self.appended = asyncio.Event()
        self.held = None

    async def append_all(self, events):
        self.appends.append(tuple(events))
        self.appended.set()
        if self.held:
            await self.held.wait()
        return [None] * len(events)


class Full:
    async def append_all(self, events):
        return [None, *(GateError(Reason.AUDIT_UNAVAILABLE) for _ in events[1:])]


async def test_calls_that_end_together_share_one_write():
    trail = Trail()
    completions = Completions(trail)
    for number in range(3):
        completions.add(event(number))
    await completions.flush()
    assert trail.appends == [(event(0), event(1), event(2))]


async def test_a_call_that_ends_alone_waits_for_no_other():
    trail = Trail()
    Completions(trail).add(event(1))
    await asyncio.wait_for(trail.appended.wait(), 5)
    assert trail.appends == [(event(1),)]


async def test_what_comes_in_during_a_write_is_written_next_in_order():
    trail = Trail()
    trail.held = asyncio.Event()
    completions = Completions(trail)
    completions.add(event(1))
    await asyncio.wait_for(trail.appended.wait(), 5)
    completions.add(event(2))
    completions.add(event(3))
    assert trail.appends == [(event(1),)]
    trail.held.set()
    await completions.flush()
    assert trail.appends == [(event(1),), (event(2), event(3))]


async def test_there_may_be_nothing_to_flush():
    await Completions(Trail()).flush()


async def test_every_completion_that_cannot_be_recorded_is_named_in_the_log():
    completions = Completions(Full())
    with capture_logs() as written:
        for number in range(3):
            completions.add(event(number))
        await completions.flush()
    assert [line["decision_id"] for line in written] == ["dec-1", "dec-2"]
