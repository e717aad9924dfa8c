"""A step that asks somebody else, with a limit on how long. Late never means yes.

Most steps answer from what they remember, without waiting for anybody. Those get no timer: setting it would cost more
than the step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

from rankgate.errors import GateError, Reason

__all__ = ["STEP_S", "soon"]

# Every step that asks somebody else; the policy engine keeps its own, shorter time.
STEP_S = 0.5

Got = TypeVar("Got")


async def soon(step: Coroutine[Any, Any, Got], late: Reason) -> Got:
    """Return what `step` gives; raise GateError(`late`) where it has to wait for longer than STEP_S."""
    try:
        try:
            waits_for = step.send(None)
        except StopIteration as done:
            got: Got = done.value
            return got
        async with asyncio.timeout(STEP_S):
            return await _Rest(step, waits_for)
    except TimeoutError:
        raise GateError(late, "late") from None


class _Rest(Generic[Got]):
    """What is left of a coroutine that was begun and waits for a future (PEP 380, the meaning of `yield from`)."""

    def __init__(self, step: Coroutine[Any, Any, Got], waits_for: Any) -> None:
        self._step = step
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, None, Got]:
        while True:
            try:
                try:
                    yield self._waits_for
                except BaseException as error:  # noqa: BLE001 - a cancellation above all: the step hears of it
                    self._waits_for = self._step.throw(error)
                else:
                    self._waits_for = self._step.send(None)
            except StopIteration as done:
                got: Got = done.value
                return got
