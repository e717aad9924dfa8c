"""What an audit log takes from the machine: clocks, a sync, and somebody to tell when a person is needed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from rankgate.clients.disk import sync_file
from rankgate.clients.segments import SEGMENT_BYTES

__all__ = ["Alarm", "Tools", "log_alarm"]

Alarm = Callable[[str, Mapping[str, str | int]], None]
"""Told that something needs a person: a word, and details without request data."""


def log_alarm(word: str, detail: Mapping[str, str | int]) -> None:
    """Write an alarm to the process's own log."""
    structlog.get_logger("rankgate.audit").error("audit_alarm", alarm=word, **detail)


@dataclass(frozen=True, slots=True)
class Tools:
    """What a log takes from the machine; a test hands in others."""

    wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    monotonic: Callable[[], float] = time.monotonic
    sync: Callable[[int], None] = sync_file
    alarm: Alarm = log_alarm
    segment_bytes: int = SEGMENT_BYTES
