"""Two strict readers for what comes from outside: JSON objects and unpadded base64url."""

from __future__ import annotations

import base64
import json
import math
from typing import Any, NoReturn

__all__ = ["MalformedError", "base64url", "json_object"]

# RFC 8259 section 6: integers beyond this lose digits in readers that use doubles.
LARGEST_INT = 2**53


class MalformedError(ValueError):
    """The text is not what it has to be. Carries no part of the text."""


def base64url(text: str) -> bytes:
    """Decode canonical unpadded base64url: exactly one text stands for each byte string.

    Raises MalformedError. RFC 7515 section 2; RFC 4648 section 3.5 on the unused bits.
    """
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        canonical = base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
    except ValueError:
        raise MalformedError("not base64url") from None
    if canonical != text:
        raise MalformedError("not canonical base64url")
    return data


def json_object(data: bytes, *, depth: int) -> dict[str, Any]:
    """Parse UTF-8 JSON whose outermost value is an object, nested at most `depth` levels.

    Raises MalformedError for duplicate members, NaN, Infinity, numbers that overflow, integers beyond 2^53 and
    lone surrogates, all of which readers are known to understand differently.
    """
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_members,
            parse_int=_integer,
            parse_float=_real,
            parse_constant=_constant,
        )
    except (ValueError, RecursionError):
        raise MalformedError("not strict JSON") from None
    if not isinstance(value, dict):
        raise MalformedError("not a JSON object")
    _walk(value, depth)
    return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MalformedError("duplicate member")
    return members


def _integer(text: str) -> int:
    # The length comes first: converting long digit strings takes quadratic time.
    if len(text) > 17 or abs(number := int(text)) > LARGEST_INT:
        raise MalformedError("integer out of range")
    return number


def _real(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise MalformedError("number out of range")
    return number


def _constant(_: str) -> NoReturn:
    raise MalformedError("not a JSON number")


def _walk(value: Any, depth: int) -> None:
    level = [value]
    for _ in range(depth):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item)
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
            elif isinstance(item, str) and not item.isascii():
                _scalar(item)
        if not inner:
            return
        level = inner
    if any(isinstance(item, dict | list) for item in level):
        raise MalformedError("nested too deeply")
    for item in level:
        if isinstance(item, str):
            _scalar(item)


def _scalar(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise MalformedError("lone surrogate") from None
