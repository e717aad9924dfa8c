"""Waits for what happens in its own time, at most so long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(truth: Callable[[], bool], seconds: float = 20.0) -> None:
    """Return as soon as `truth()` holds; raises TimeoutError where it does not within `seconds`."""
    async with asyncio.timeout(seconds):
        while not truth():  # noqa: ASYNC110 - what is waited for signals nothing
            await asyncio.sleep(0.01)
