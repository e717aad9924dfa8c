"""A circuit breaker: after failures in a row it refuses at once, and lets one call try again later."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Breaker"]


class Breaker:
    """Closed until `failures` calls failed in a row, then open for `cooldown_s`, then open to one trial call.

    `clock` is monotonic, in seconds. Every permitted call reports `succeeded`, `failed` or `abandoned`.
    """

    def __init__(
        self, failures: int = 5, cooldown_s: float = 1.0, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = failures
        self._cooldown_s = cooldown_s
        self._clock = clock
        self._failures = 0
        self._opened_at: float | None = None
        self._trial = False

    @property
    def closed(self) -> bool:
        """Tell whether calls pass freely."""
        return self._opened_at is None

    def permit(self) -> bool:
        """Tell whether a call may be made now; after the cool-down that is true for one call at a time."""
        if self._opened_at is None:
            return True
        if self._trial or self._clock() - self._opened_at < self._cooldown_s:
            return False
        self._trial = True
        return True

    def succeeded(self) -> None:
        """Close: the other side answers."""
        self._failures, self._opened_at, self._trial = 0, None, False

    def failed(self) -> None:
        """Count a failure; the trial's own failure opens for another cool-down."""
        self._failures += 1
        if self._trial or self._failures >= self._limit:
            self._opened_at, self._trial = self._clock(), False

    def abandoned(self) -> None:
        """Count nothing: the caller left before there was an answer."""
        self._trial = False
