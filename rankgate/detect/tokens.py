"""The shapes masking writes, so that detection never takes one of them for the data it stands for.

A pseudonym is `TYPE_<code>`, a keyed hash `TYPE_h_<code>`, an escaped look-alike `TYPE_x_<code>`, a redaction
`<TYPE>`. TYPE is one of KNOWN and nothing else: any other word before a code may be the secret itself. A code is
13 characters of base32 without five digits in a row: no number fits into one, and masking replaces whatever it did
not write itself, so skipping these shapes hides nothing. Of escaped look-alikes, which stay as they are, only the
address is skipped, and is nothing but an address.
"""

from __future__ import annotations

import re

from rankgate.settings import STRUCTURED_TYPES

__all__ = ["CODE", "EMAIL_DOMAIN", "KNOWN", "is_pseudonym", "own_spans"]

KNOWN = (*STRUCTURED_TYPES, "ADDRESS", "LOCATION", "ORGANIZATION", "PERSON")
"""The types whose shapes are ours: those found here, and those of names pipelines."""

EMAIL_DOMAIN = "masked.invalid"
CODE = r"(?![a-z2-7]{0,8}[2-7]{5})[a-z2-7]{13}(?![A-Za-z0-9])"
_TYPE = f"(?:{'|'.join(KNOWN)})"
_TAIL = rf"(?:@{re.escape(EMAIL_DOMAIN)})?"

_PSEUDONYM = re.compile(rf"{_TYPE}_{CODE}{_TAIL}")
_OWN = re.compile(
    rf"(?<![A-Za-z0-9_])(?:{_TYPE}_(?:h_)?{CODE}{_TAIL}|EMAIL_ADDRESS_x_{CODE}@{re.escape(EMAIL_DOMAIN)})|<{_TYPE}>"
)


def is_pseudonym(text: str) -> bool:
    """Return whether `text` is, as a whole, one pseudonym."""
    return _PSEUDONYM.fullmatch(text) is not None


def own_spans(text: str) -> list[tuple[int, int]]:
    """Return where `text` holds something masking wrote, in order."""
    if "_" not in text and "<" not in text:
        return []
    return [match.span() for match in _OWN.finditer(text)]
