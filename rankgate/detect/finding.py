"""What detection yields, and how findings that overlap become one."""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from typing import NamedTuple

__all__ = ["PRIORITY", "Finding", "union"]

PRIORITY = (
    "PRIVATE_KEY", "URL_CREDENTIALS", "JWT", "EMAIL_ADDRESS", "IBAN_CODE", "CREDIT_CARD", "IT_FISCAL_CODE",
    "IN_AADHAAR", "PL_PESEL", "DE_TAX_ID", "US_SSN", "UK_NHS", "ES_NIF", "MAC_ADDRESS", "IP_ADDRESS", "API_KEY",
    "DATE_OF_BIRTH", "PHONE_NUMBER",
)  # fmt: skip
_PLACE = itemgetter(1, 2)
_RANK = {name: rank for rank, name in enumerate(PRIORITY)}


# A tuple, not a dataclass: hostile texts make ten thousands of them, at a third of the cost.
class Finding(NamedTuple):
    """Sensitive data of `type` in `text[start:end]`; offsets count characters, `score` is within 0..1.

    `also` names the types of what was merged into it, so that a plan of fewer types still masks what it names.
    """

    type: str
    start: int
    end: int
    score: float
    also: tuple[str, ...] = ()

    @property
    def types(self) -> tuple[str, ...]:
        """Every type found within the span, its own first."""
        return (self.type, *self.also)


def union(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Merge overlapping findings into their union, under the type that comes first in PRIORITY.

    Types PRIORITY does not list come last, by name. The result is sorted and free of overlaps.
    """
    merged: list[Finding] = []
    reached = 0
    for finding in sorted(findings, key=_PLACE):
        if finding.start >= reached:
            merged.append(finding)
        elif finding != merged[-1]:
            merged[-1] = _both(merged[-1], finding)
        reached = merged[-1].end
    return tuple(merged)


def _both(one: Finding, other: Finding) -> Finding:
    first, *also = sorted({*one.types, *other.types}, key=_rank)
    return Finding(first, one.start, max(one.end, other.end), max(one.score, other.score), tuple(also))


def _rank(name: str) -> tuple[int, str]:
    return _RANK.get(name, len(_RANK)), name
