"""The shapes masking writes, so that detection never takes one of them for the data it stands for.

A pseudonym is `TYPE_<code>`, a keyed hash `TYPE_h_<code>`, an escaped look-alike `TYPE_x_<code>`, a redaction
`<TYPE>`. Types are words of two letters and more, so an escaped text has no look-alike left in it. A code is
13 characters of base32 without five digits in a row: nothing detected here fits into one, which is why skipping
them hides nothing.
"""

from __future__ import annotations

import re

__all__ = ["CODE", "EMAIL_DOMAIN", "is_pseudonym", "own_spans"]

EMAIL_DOMAIN = "masked.invalid"
CODE = r"(?![a-z2-7]{0,8}[2-7]{5})[a-z2-7]{13}(?![A-Za-z0-9])"
_TYPE = r"[A-Z]{2,32}(?:_[A-Z]{2,32}){0,4}"
_TAIL = rf"(?:@{re.escape(EMAIL_DOMAIN)})?"

_PSEUDONYM = re.compile(rf"{_TYPE}_{CODE}{_TAIL}")
_OWN = re.compile(rf"(?<![A-Za-z0-9_]){_TYPE}_(?:[hx]_)?{CODE}{_TAIL}|<{_TYPE}>")


def is_pseudonym(text: str) -> bool:
    """Return whether `text` is, as a whole, one pseudonym."""
    return _PSEUDONYM.fullmatch(text) is not None


def own_spans(text: str) -> list[tuple[int, int]]:
    """Return where `text` holds something masking wrote, in order."""
    if "_" not in text and "<" not in text:
        return []
    return [match.span() for match in _OWN.finditer(text)]
