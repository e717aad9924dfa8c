"""Numbers of a JSON body: what a bare number may be, where no text around it tells.

A finding here makes the caller refuse the request, as a number cannot be masked. So only what proves itself
counts: cards by range, length and Luhn, and eleven digits whose check digits fit. Numbers that are shorter, or that
a machine's id passes for too often (one in twelve is a valid Aadhaar number), count where the key names them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation

from rankgate.detect.digits import KINDS, is_card
from rankgate.detect.finding import Finding

__all__ = ["in_number"]

_SHORTEST = 7
_LONGEST = 19
_KEYS: tuple[tuple[str, re.Pattern[str], range], ...] = (
    ("IN_AADHAAR", re.compile(r"aa?dha+r|uidai|(?:^|_)uid(?:_|$)"), range(12, 13)),
    ("US_SSN", re.compile(r"ssn|social_?sec"), range(9, 10)),
    ("UK_NHS", re.compile(r"nhs"), range(10, 11)),
    ("PHONE_NUMBER", re.compile(r"phone|mobile|(?:^|_)(?:tel|cell|fax|msisdn)(?:_|$)|whatsapp|telefon"), range(7, 16)),
    ("DATE_OF_BIRTH", re.compile(r"(?:^|_)dob(?:_|$)|birth|naissance|nacimiento|geburt"), range(8, 9)),
)
_BIRTH = re.compile(r"(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])")
_STRONG = {kind.type: kind for kind in KINDS}


def in_number(literal: str, key: str) -> Iterator[Finding]:
    """Yield what the JSON number `literal`, standing under `key`, may be; a fraction is never anything."""
    digits = _whole(literal)
    if digits is None:
        return
    end = len(literal)
    if 13 <= len(digits) <= _LONGEST and is_card(digits):
        yield Finding("CREDIT_CARD", 0, end, 0.95)
    for name in ("PL_PESEL", "DE_TAX_ID"):
        kind = _STRONG[name]
        if len(digits) in kind.lengths and kind.check(digits):
            yield Finding(name, 0, end, 0.8)
    spelled = _words(key)
    for name, words, lengths in _KEYS:
        if len(digits) not in lengths or words.search(spelled) is None:
            continue
        if name in _STRONG and not _STRONG[name].check(digits):
            continue
        if name == "DATE_OF_BIRTH" and _BIRTH.fullmatch(digits) is None:
            continue
        yield Finding(name, 0, end, 0.8)


def _whole(literal: str) -> str | None:
    """Return the digits of an integral number, however it is written, None for any other or longer one."""
    if literal.isascii() and literal.isdigit() and literal[0] != "0":
        return literal if _SHORTEST <= len(literal) <= _LONGEST else None
    if len(literal) > 400:
        return None
    try:
        value = Decimal(literal)
    except InvalidOperation:
        return None
    if (
        not value.is_finite()
        or value.adjusted() >= _LONGEST
        or value.adjusted() < _SHORTEST - 1
        or value != value.to_integral_value()
    ):
        return None
    return str(abs(int(value)))


def _words(key: str) -> str:
    """Return `key` in lower case with words joined by underscores."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key[:256]).lower())
