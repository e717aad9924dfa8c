"""Long work leaves the loop free, waits in a bounded line, and is told when its time is over."""

import asyncio
import threading

import pytest

from rankgate.clients.offload import INLINE, Offload, deadline
from rankgate.errors import GateError, Reason

LONG = INLINE + 1


@pytest.fixture
async def work():
    offload = Offload(workers=1, places=4)
    yield offload
    offload.close()


async def test_short_work_is_done_where_it_is_and_long_work_in_a_thread(work):
    assert await work.run(INLINE, "a", threading.get_ident) == threading.get_ident()
    assert await work.run(LONG, "a", threading.get_ident) != threading.get_ident()


async def test_what_work_raises_comes_out(work):
    def broken():
        raise GateError(Reason.BODY_INVALID)

    with pytest.raises(GateError) as caught:
        await work.run(LONG, "a", broken)
    assert caught.value.reason is Reason.BODY_INVALID


async def test_no_tenant_takes_more_than_half_of_the_places_and_nobody_more_than_there_are(work):
    gate = threading.Event()
    running = [asyncio.create_task(work.run(LONG, tenant, gate.wait)) for tenant in ("a", "a", "b", "b")]
    await asyncio.sleep(0)
    for tenant in ("a", "c"):
        with pytest.raises(GateError) as caught:
            await work.run(LONG, tenant, int)
        assert caught.value.reason is Reason.BUSY
    gate.set()
    await asyncio.gather(*running)
    await asyncio.sleep(0)
    assert await work.run(LONG, "c", int) == 0


async def test_a_caller_that_gives_up_frees_its_place_only_when_the_work_is_done():
    work = Offload(workers=1, places=1)
    gate, begun = threading.Event(), threading.Event()

    def hold():
        begun.set()
        gate.wait()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await work.run(LONG, "a", hold)
    assert begun.is_set()
    with pytest.raises(GateError):
        await work.run(LONG, "a", int)
    gate.set()
    async with asyncio.timeout(10):
        while True:
            try:
                await work.run(LONG, "a", int)
                break
            except GateError:
                await asyncio.sleep(0.001)
    work.close()


def test_a_deadline_passes_silently_until_it_is_over():
    deadline(60.0)()
    with pytest.raises(GateError) as caught:
        deadline(-1.0)()
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED
