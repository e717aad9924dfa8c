"""A step is waited for as long as it may take, hears of what happens meanwhile, and late never means yes."""

import asyncio

import pytest

from ext_authz import soon as module
from ext_authz.soon import soon
from rankgate.errors import GateError, Reason


async def at_once():
    return "remembered"


async def after(turns):
    for _ in range(turns):
        await asyncio.sleep(0)
    return "asked"


async def broken(turns):
    await after(turns)
    raise GateError(Reason.KEYS_UNAVAILABLE)


async def test_what_is_remembered_is_returned_without_a_turn_of_the_loop():
    turned = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(turned.set_result, None)
    assert await soon(at_once(), Reason.KEYS_UNAVAILABLE) == "remembered"
    assert not turned.done()


@pytest.mark.parametrize("turns", [1, 2, 7])
async def test_what_must_be_asked_for_is_waited_for(turns):
    assert await soon(after(turns), Reason.KEYS_UNAVAILABLE) == "asked"


@pytest.mark.parametrize("turns", [0, 1, 3])
async def test_what_a_step_raises_comes_out(turns):
    with pytest.raises(GateError) as caught:
        await soon(broken(turns), Reason.CREDENTIAL_UNAVAILABLE)
    assert caught.value.reason is Reason.KEYS_UNAVAILABLE


async def test_a_step_that_never_ends_is_late_and_is_told(monkeypatch):
    monkeypatch.setattr(module, "STEP_S", 0.01)
    told = []

    async def never():
        try:
            await asyncio.Event().wait()
        finally:
            told.append("end")

    with pytest.raises(GateError) as caught:
        await soon(never(), Reason.CREDENTIAL_UNAVAILABLE)
    assert (caught.value.reason, caught.value.detail, told) == (Reason.CREDENTIAL_UNAVAILABLE, "late", ["end"])


async def test_a_caller_that_is_cancelled_cancels_the_step():
    begun, told = asyncio.Event(), []

    async def never():
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.append("cancelled")
            raise

    task = asyncio.create_task(soon(never(), Reason.KEYS_UNAVAILABLE))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert told == ["cancelled"]


async def test_a_step_may_finish_what_it_does_when_it_is_cancelled():
    begun, finished = asyncio.Event(), []

    async def careful():
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            finished.append("yes")
            raise

    task = asyncio.create_task(soon(careful(), Reason.KEYS_UNAVAILABLE))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert finished == ["yes"]
