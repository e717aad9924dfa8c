"""HTTP/1.1 messages cut out of a stream, for a client and a server that are not what is measured."""

from __future__ import annotations

__all__ = ["body_start", "complete", "sent_length"]

_LENGTH = b"content-length:"


def body_start(data: bytes) -> int:
    """Return where the body begins; 0 while the head has not come whole."""
    return data.find(b"\r\n\r\n") + 4 if b"\r\n\r\n" in data else 0


def sent_length(head: bytes) -> int | None:
    """Return the content-length a head states, None where it states none."""
    lower = head.lower()
    at = lower.find(_LENGTH)
    if at < 0:
        return None
    return int(lower[at + len(_LENGTH) : lower.find(b"\r", at)])


def complete(data: bytes) -> bool:
    """Tell whether `data` is a whole message."""
    start = body_start(data)
    if not start:
        return False
    length = sent_length(data[:start])
    return data.endswith(b"0\r\n\r\n") if length is None else len(data) >= start + length
