"""How often somebody may try: a bucket of tries for each name, refilled over time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["Pace"]

NAMES = 10_000


class Pace:
    """Allows `tries` at once and as many again every `within_s` seconds. `clock` is monotonic, in seconds."""

    def __init__(self, tries: int, within_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._tries = tries
        self._rate = tries / within_s
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, name: str) -> bool:
        """Take one try of `name`; False where none is left."""
        now = self._clock()
        left, at = self._buckets.pop(name, (float(self._tries), now))
        left = min(self._tries, left + (now - at) * self._rate)
        allowed = left >= 1
        self._buckets[name] = (left - 1 if allowed else left, now)
        # The name seen longest ago goes first: its bucket is the likeliest to be full again.
        while len(self._buckets) > NAMES:
            self._buckets.popitem(last=False)
        return allowed
