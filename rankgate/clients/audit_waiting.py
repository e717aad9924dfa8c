"""Entries on their way to disk, and who waits for them: told together, each in its own event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rankgate.audit.log import Receipt
from rankgate.clients.segments import Entry
from rankgate.errors import GateError, Reason

__all__ = ["Waiting", "reject", "resolve"]


@dataclass(frozen=True, slots=True)
class Waiting:
    """An entry of `log`; `future` is None where nobody waits."""

    entry: Entry
    log: str
    future: asyncio.Future[Receipt] | None = None


def resolve(done: Iterable[Waiting]) -> None:
    """Give each caller its receipt."""
    _settle(done, lambda future, pending: future.set_result(Receipt(pending.log, pending.entry.index)))


def reject(lost: Iterable[Waiting]) -> None:
    """Tell each caller that its entry is not on disk: GateError(AUDIT_UNAVAILABLE)."""
    refusal = "the entry could not be brought to disk"
    _settle(lost, lambda future, _: future.set_exception(GateError(Reason.AUDIT_UNAVAILABLE, refusal)))


def _settle(batch: Iterable[Waiting], how: Callable[[asyncio.Future[Receipt], Waiting], None]) -> None:
    """Answer waiting callers, each in its own event loop, with one wake-up a loop."""
    loops: dict[asyncio.AbstractEventLoop, list[Waiting]] = {}
    for pending in batch:
        if pending.future is not None:
            loops.setdefault(pending.future.get_loop(), []).append(pending)

    def answer(waiting: list[Waiting]) -> None:
        for pending in waiting:
            if pending.future is not None and not pending.future.done():
                how(pending.future, pending)

    for loop, waiting in loops.items():
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(answer, waiting)
