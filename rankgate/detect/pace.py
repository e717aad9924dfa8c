"""How long work stays interruptible: a check that is called again and again, and raises where time is up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

__all__ = ["Check", "paced", "unhurried"]

Check = Callable[[], None]
"""Returns where there is time left; what it raises ends the work and passes through unchanged."""

_EVERY = 128
_Item = TypeVar("_Item")


def unhurried() -> None:
    """Let everything take its time."""


def paced(items: Iterable[_Item], check: Check) -> Iterator[_Item]:
    """Yield `items`, with a `check` before the first and before each 128th after it."""
    for count, item in enumerate(items):
        if count % _EVERY == 0:
            check()
        yield item
