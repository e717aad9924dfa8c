"""Strings that go into the trail or come out of it: clipped, on one line, never a command to a terminal."""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

__all__ = ["Digest", "clip", "clip_all", "dump", "keyed", "printable"]

Digest = Callable[[bytes], str]
"""Names bytes without giving them away: a keyed hash as text."""

# What moves a cursor, ends a line or reorders text somewhere: DEL and C1, soft hyphen, zero-width and bidirectional
# marks, U+2028 and U+2029, tags, lone surrogates. C0 controls are escaped by json.dumps itself.
_UNSAFE = re.compile(
    "[\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_ENCODER = msgspec.json.Encoder()
_UNPRINTABLE = re.compile(f"[\x00-\x1f{_UNSAFE.pattern[1:]}")


def keyed(key: bytes) -> Digest:
    """Return a digest of the form `hmac-sha256:<32 hex>` (128 bits) under `key`."""

    def digest(data: bytes) -> str:
        return f"hmac-sha256:{hmac.digest(key, data, 'sha256').hex()[:32]}"

    return digest


def clip(text: str, limit: int, digest: Digest) -> str:
    """Return `text`, or its first `limit` characters with the length and keyed hash of the whole."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}…({len(text)} characters, {digest(text.encode('utf-8', 'surrogatepass'))})"


def clip_all(texts: Iterable[str], limit: int, count: int, digest: Digest) -> list[str]:
    """Clip each text to `limit`; beyond `count` texts one last entry tells how many more, and their keyed hash."""
    every = list(texts)
    kept = [clip(text, limit, digest) for text in every[:count]]
    if rest := every[count:]:
        # Encoding as JSON keeps ("a", "bc") and ("ab", "c") apart.
        kept.append(f"…({len(rest)} more, {digest(json.dumps(rest).encode())})")
    return kept


def dump(value: Any) -> bytes:
    """Return compact UTF-8 JSON: one line, safe to print, lone surrogates as U+FFFD. Raises ValueError on NaN.

    A msgspec.Raw is compact JSON already, and stands as it is but for what is not safe to print.
    """
    try:
        data = _ENCODER.encode(value)
    except UnicodeEncodeError:
        data = b"null"
    if b"null" in data:
        # How the encoder writes NaN. An event of ours holds no null, its texts may.
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_parsed)
    elif data.isascii() and b"\x7f" not in data:
        return data
    else:
        text = data.decode()
    return _UNSAFE.sub(_escape, text).encode("utf-8")


def printable(text: str) -> str:
    """Return `text` with everything a terminal might obey written as an escape; for showing, not for storing."""
    return text if text.isascii() and text.isprintable() else _UNPRINTABLE.sub(_escape, text)


def _parsed(value: Any) -> Any:
    if isinstance(value, msgspec.Raw):
        return json.loads(bytes(value))
    raise TypeError(type(value).__name__)


def _escape(match: re.Match[str]) -> str:
    point = ord(match[0])
    if 0xD800 <= point <= 0xDFFF:
        return "\\ufffd"
    if point > 0xFFFF:
        point -= 0x10000
        return f"\\u{0xD800 + (point >> 10):04x}\\u{0xDC00 + (point & 0x3FF):04x}"
    return f"\\u{point:04x}"
