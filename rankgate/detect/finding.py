"""What detection yields, and how findings that overlap become one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["PRIORITY", "Finding", "union"]

PRIORITY = (
    "PRIVATE_KEY", "URL_CREDENTIALS", "JWT", "EMAIL_ADDRESS", "IBAN_CODE", "CREDIT_CARD", "IT_FISCAL_CODE",
    "IN_AADHAAR", "PL_PESEL", "DE_TAX_ID", "US_SSN", "UK_NHS", "ES_NIF", "DATE_OF_BIRTH", "PHONE_NUMBER",
    "MAC_ADDRESS", "IP_ADDRESS", "API_KEY",
)  # fmt: skip
_RANK = {name: rank for rank, name in enumerate(PRIORITY)}


@dataclass(frozen=True, slots=True)
class Finding:
    """Sensitive data of `type` in `text[start:end]`; offsets count characters, `score` is within 0..1."""

    type: str
    start: int
    end: int
    score: float


def union(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Merge overlapping findings into their union, under the type that comes first in PRIORITY.

    Types PRIORITY does not list come last, by name. The result is sorted and free of overlaps.
    """
    ordered = sorted(findings, key=lambda finding: (finding.start, finding.end))
    merged: list[Finding] = []
    for finding in ordered:
        if merged and finding.start < merged[-1].end:
            last = merged[-1]
            first = min(last, finding, key=lambda one: (_RANK.get(one.type, len(_RANK)), one.type))
            end, score = max(last.end, finding.end), max(last.score, finding.score)
            merged[-1] = Finding(first.type, last.start, end, score)
        else:
            merged.append(finding)
    return tuple(merged)
