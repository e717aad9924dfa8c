"""A circuit breaker: after failures in a row it refuses at once, and lets one call try again later."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Breaker"]

# Of the time since the first failure in a row: so much longer at most than the other side was away are calls refused.
SHARE = 0.25


class Breaker:
    """Closed until `failures` calls failed in a row, then open for a cool-down, then open to one trial call.

    The cool-down is a quarter of how long the other side has been failing, but `shortest_s` at least and `longest_s` at
    most: what was away for a moment is asked again within one, and what stays away is left alone. `clock` is monotonic,
    in seconds. Every permitted call reports `succeeded`, `failed` or `abandoned`.
    """

    def __init__(
        self,
        failures: int = 5,
        shortest_s: float = 0.05,
        longest_s: float = 1.0,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = failures
        self._shortest_s = shortest_s
        self._longest_s = longest_s
        self._clock = clock
        self._failures = 0
        self._failing_since = 0.0
        self._closed = True
        self._trial_at = 0.0
        self._trial = False

    @property
    def closed(self) -> bool:
        """Tell whether calls pass freely."""
        return self._closed

    def permit(self) -> bool:
        """Tell whether a call may be made now; after the cool-down that is true for one call at a time."""
        if self._closed:
            return True
        if self._trial or self._clock() < self._trial_at:
            return False
        self._trial = True
        return True

    def succeeded(self) -> None:
        """Close: the other side answers."""
        self._failures, self._closed, self._trial = 0, True, False

    def failed(self) -> None:
        """Count a failure; the trial's own failure opens for another cool-down."""
        now = self._clock()
        if self._failures == 0:
            self._failing_since = now
        self._failures += 1
        if self._trial or self._failures >= self._limit:
            cooldown_s = min(max(self._shortest_s, SHARE * (now - self._failing_since)), self._longest_s)
            self._closed, self._trial_at, self._trial = False, now + cooldown_s, False

    def abandoned(self) -> None:
        """Count nothing: the caller left before there was an answer."""
        self._trial = False
