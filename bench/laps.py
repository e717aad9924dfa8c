"""How much CPU time named functions take while the real code runs: each is wrapped where it is looked up.

Only a function's own time counts as its stage's: what a stage inside it takes is that stage's.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

__all__ = ["Laps", "Stage"]

Stage = tuple[str, str]
"""(name of the stage, `module:function` or `module:Class.method` of one of its functions)."""


class Laps:
    """CPU nanoseconds of the calling thread by stage. For one call at a time: calls that take turns would mix."""

    def __init__(self) -> None:
        self.ns: defaultdict[str, int] = defaultdict(int)
        self._inner = [0]

    @contextlib.contextmanager
    def watching(self, stages: Sequence[Stage]) -> Iterator[None]:
        """Wrap every function of `stages`. Raises AttributeError for one that is no longer there."""
        with contextlib.ExitStack() as undo:
            for stage, place in stages:
                owner, name = _find(place)
                original = vars(owner)[name]
                setattr(owner, name, self._wrapped(stage, original))
                undo.callback(setattr, owner, name, original)
            yield

    def _wrapped(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        if asyncio.iscoroutinefunction(function):

            @functools.wraps(function)
            async def timed_later(*args: Any, **named: Any) -> Any:
                with self._lap(stage):
                    return await function(*args, **named)

            return timed_later

        @functools.wraps(function)
        def timed(*args: Any, **named: Any) -> Any:
            with self._lap(stage):
                return function(*args, **named)

        return timed

    @contextlib.contextmanager
    def _lap(self, stage: str) -> Iterator[None]:
        self._inner.append(0)
        begun = time.thread_time_ns()
        try:
            yield
        finally:
            taken = time.thread_time_ns() - begun
            self.ns[stage] += taken - self._inner.pop()
            self._inner[-1] += taken


def _find(place: str) -> tuple[Any, str]:
    module, _, path = place.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    if name not in vars(owner):
        raise AttributeError(f"{place} is not there any more; bench/stages.py names the functions of each stage")
    return owner, name
