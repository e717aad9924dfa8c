"""What detection yields, and how findings that overlap become one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["PRIORITY", "Finding", "union"]

PRIORITY = (
    "PRIVATE_KEY", "URL_CREDENTIALS", "JWT", "EMAIL_ADDRESS", "IBAN_CODE", "CREDIT_CARD", "IT_FISCAL_CODE",
    "IN_AADHAAR", "PL_PESEL", "DE_TAX_ID", "US_SSN", "UK_NHS", "ES_NIF", "MAC_ADDRESS", "IP_ADDRESS", "API_KEY",
    "DATE_OF_BIRTH", "PHONE_NUMBER",
)  # fmt: skip
_RANK = {name: rank for rank, name in enumerate(PRIORITY)}


@dataclass(frozen=True, slots=True)
class Finding:
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
    for finding in sorted(findings, key=lambda one: (one.start, one.end)):
        if merged and finding.start < merged[-1].end:
            last = merged[-1]
            first, *also = sorted({*last.types, *finding.types}, key=_rank)
            end, score = max(last.end, finding.end), max(last.score, finding.score)
            merged[-1] = Finding(first, last.start, end, score, tuple(also))
        else:
            merged.append(finding)
    return tuple(merged)


def _rank(name: str) -> tuple[int, str]:
    return _RANK.get(name, len(_RANK)), name
