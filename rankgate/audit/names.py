"""How a log, its stream and its entries are called.

A log belongs to one process slot and is born once: `<pod-uid>/<role>-<n>/<birth>`, birth being the milliseconds since
the epoch at which its first entry was made room for. A restart of the slot continues the same log at the next number.
Only a log that cannot be continued (damage, a failed sync, its folder gone) is followed by another with a later birth,
so that a number under a log's name never means two entries.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["LogName", "StreamId", "stream_key", "stream_pattern"]

_PART = r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?"
_NAME = re.compile(rf"({_PART})/([a-z][a-z0-9_]{{0,31}})-([0-9]{{1,5}})/([0-9]{{1,15}})")


@dataclass(frozen=True, slots=True)
class LogName:
    """The name of one log; `str()` of it is what events and streams carry."""

    pod_uid: str
    role: str
    number: int
    birth: int

    def __str__(self) -> str:
        return f"{self.pod_uid}/{self.role}-{self.number}/{self.birth}"

    @property
    def slot(self) -> str:
        """Return the name of the slot's folder, `<pod-uid>.<role>-<n>`."""
        return f"{self.pod_uid}.{self.role}-{self.number}"

    @classmethod
    def parse(cls, text: str) -> LogName:
        """Read what `str()` wrote; raises ValueError."""
        match = _NAME.fullmatch(text)
        if match is None:
            raise ValueError("not the name of a log")
        return cls(match[1], match[2], int(match[3]), int(match[4]))


@dataclass(frozen=True, slots=True, order=True)
class StreamId:
    """An explicit stream id, `<ms>-<index>`: the entry's number is its second half."""

    ms: int
    index: int

    def __str__(self) -> str:
        return f"{self.ms}-{self.index}"

    @classmethod
    def parse(cls, text: str) -> StreamId:
        """Read `<ms>-<index>`; raises ValueError."""
        ms, dash, index = text.partition("-")
        if not (dash and ms.isdecimal() and index.isdecimal() and text.isascii()):
            raise ValueError("not a stream id")
        return cls(int(ms), int(index))


def stream_key(deployment: str, log: str) -> str:
    """Return the key of a log's stream. The braces put all streams of a deployment into one cluster slot."""
    return f"audit:{{{deployment}}}:{log}"


def stream_pattern(deployment: str) -> str:
    """Return the SCAN pattern that finds every stream of `deployment`."""
    return f"audit:{{{deployment}}}:*"
