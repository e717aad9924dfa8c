"""Header values that more than one part reads, read one way."""

from __future__ import annotations

import re

__all__ = ["is_json_type", "traceparent"]

# RFC 8259 section 8.1: JSON between systems is UTF-8; another charset would be read in another way than here.
_JSON_TYPE = re.compile(rb'application/json[ \t]*(;[ \t]*charset[ \t]*=[ \t]*"?utf-8"?[ \t]*)?', re.IGNORECASE)
# W3C Trace Context section 3.2.
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def is_json_type(values: list[bytes]) -> bool:
    """Tell whether the Content-Type values of a message are exactly one, application/json in UTF-8."""
    return len(values) == 1 and _JSON_TYPE.fullmatch(values[0]) is not None


def traceparent(values: list[bytes]) -> str:
    """Return the one well-formed traceparent value, or an empty text: anything else is a caller's own text."""
    return values[0].decode("ascii") if len(values) == 1 and _TRACEPARENT.fullmatch(values[0]) else ""
