"""Long work off the event loop: a few threads of its own, with a bound on what waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from rankgate.errors import GateError, Reason

__all__ = ["INLINE", "Offload", "deadline"]

# Work of up to this effort is done where it comes up: a thread would cost more than it saves.
INLINE = 8192
WORKERS = 2
PLACES = 32

Result = TypeVar("Result")


class Offload:
    """Runs functions in threads. No tenant takes more than half of the places; beyond them, callers are refused."""

    def __init__(self, *, workers: int = WORKERS, places: int = PLACES) -> None:
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="rankgate-body")
        self.places = places
        """How many may be worked on or wait."""
        self.refused = 0
        """How many were refused."""
        self._taken: Counter[str] = Counter()
        self._waiting: set[asyncio.Future[Any]] = set()

    @property
    def in_use(self) -> int:
        """Return how many are worked on or wait."""
        return self._taken.total()

    async def run(self, effort: int, tenant: str, work: Callable[[], Result]) -> Result:
        """Return what `work` returns: at once for up to INLINE of `effort`, in a thread for more.

        `effort` is an estimate: one for each byte that is detected in, masked or parsed into values of its own, each
        about a microsecond.
        A place is free again when the work is done, not when its caller gives up: an abandoned thread still works.
        Raises GateError(BUSY) at once where there is no place.
        """
        if effort <= INLINE:
            return work()
        if self.in_use >= self.places or self._taken[tenant] >= max(1, self.places // 2):
            self.refused += 1
            raise GateError(Reason.BUSY)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Result] = loop.create_future()

        def job() -> None:
            tell: Callable[[], None]
            try:
                tell = partial(done.set_result, work())
            except StopIteration:  # which no future takes
                tell = partial(done.set_exception, RuntimeError("work raised StopIteration"))
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is the caller's
                tell = partial(done.set_exception, error)
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(self._leave, tenant, done, tell)

        # Before it can begin, so that whoever looks meanwhile sees it.
        self._taken[tenant] += 1
        self._waiting.add(done)
        try:
            self._executor.submit(job)
        except RuntimeError:  # closed: nobody does it any more
            done.cancel()
            self._leave(tenant, done, lambda: None)
        return await done

    def close(self) -> None:
        """Take no more work, and cancel those who wait; what runs is left to end."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        for done in self._waiting:
            done.cancel()

    def _leave(self, tenant: str, done: asyncio.Future[Any], tell: Callable[[], None]) -> None:
        self._waiting.discard(done)
        self._taken[tenant] -= 1
        if not self._taken[tenant]:
            del self._taken[tenant]
        if not done.done():
            tell()


def deadline(seconds: float) -> Callable[[], None]:
    """Return a check for long work to call on its way: it raises GateError(DEADLINE_EXCEEDED) after `seconds`."""
    until = time.monotonic() + seconds

    def check() -> None:
        if time.monotonic() > until:
            raise GateError(Reason.DEADLINE_EXCEEDED)

    return check
