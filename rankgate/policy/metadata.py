"""What of a policy's `dynamic_metadata` survives as a protobuf Struct, the form in which Envoy holds it."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["fault_of", "is_text"]

MAX_CHARS = 16_384
MAX_DEPTH = 16
# google.protobuf.Value holds every number as a double; beyond this an engine may have rounded it already.
MAX_EXACT = 2**53


def fault_of(metadata: dict[str, Any]) -> str:
    """Return what keeps `metadata` from being a Struct without loss, in words; empty where nothing does.

    At most 16 levels and 16,384 characters as JSON; numbers within 2^53, texts without NUL.
    """
    if not metadata:
        return ""
    if fault := _fault(metadata, MAX_DEPTH):
        return fault
    return f"is larger than {MAX_CHARS} characters" if len(json.dumps(metadata)) > MAX_CHARS else ""


def is_text(value: object) -> bool:
    """Tell whether `value` is a string that has a UTF-8 form and holds no NUL."""
    if not isinstance(value, str) or "\x00" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fault(value: Any, levels: int) -> str:
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, int | float):
        # NaN is on neither side.
        return "" if -MAX_EXACT <= value <= MAX_EXACT else "holds a number beyond 2^53"
    if isinstance(value, str):
        return "" if is_text(value) else "holds a string that is not UTF-8 without NUL"
    if not isinstance(value, dict | list):
        return "must be JSON"
    if not levels:
        return f"has more than {MAX_DEPTH} levels"
    if isinstance(value, dict) and not all(map(is_text, value)):
        return "holds a key that is not UTF-8 without NUL"
    members = value.values() if isinstance(value, dict) else value
    return next(filter(None, (_fault(member, levels - 1) for member in members)), "")
