"""Numbers that carry their own proof: payment cards and national identifiers made of digits.

One pass finds every run of digit groups; each kind then looks at the windows of groups that have its length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from stdnum import luhn, verhoeff
from stdnum.de import idnr
from stdnum.gb import nhs
from stdnum.pl import pesel

from rankgate.detect.context import PHONE, SERIAL, near
from rankgate.detect.finding import Finding

__all__ = ["KINDS", "DigitNumbers", "is_card", "is_ssn"]

_RUN = re.compile(r"\d+(?:[ \t\r\n._\-/+]{1,3}\d+)*")
_GROUP = re.compile(r"\d+")
_MOST_GROUPS = 8
_MOST_SINGLES = 19

Shape = tuple[int, ...]

# Issuer ranges as (first, last, lengths), by leading digits: ISO/IEC 7812 and the schemes' own tables.
_ISSUERS: tuple[tuple[str, str, frozenset[int]], ...] = (
    ("4", "4", frozenset({13, 16, 19})),
    ("51", "55", frozenset({16})),
    ("2221", "2720", frozenset({16})),
    ("34", "34", frozenset({15})),
    ("37", "37", frozenset({15})),
    ("6011", "6011", frozenset({16, 19})),
    ("644", "659", frozenset({16, 19})),
    ("62", "62", frozenset({16, 17, 18, 19})),
    ("300", "305", frozenset({14, 16})),
    ("309", "309", frozenset({14, 16})),
    ("36", "36", frozenset({14, 16, 19})),
    ("38", "39", frozenset({14, 16, 19})),
    ("3528", "3589", frozenset({16, 17, 18, 19})),
    ("2131", "2131", frozenset({15})),
    ("1800", "1800", frozenset({15})),
    ("2200", "2204", frozenset({16, 19})),
    ("60", "60", frozenset({16})),
    ("81", "82", frozenset({16})),
    ("508", "508", frozenset({16})),
    ("5018", "5018", frozenset({12, 13, 14, 15, 16, 18, 19})),
    ("5020", "5020", frozenset({12, 13, 14, 15, 16, 18, 19})),
    ("5038", "5038", frozenset({12, 13, 14, 15, 16, 18, 19})),
    ("56", "58", frozenset({12, 13, 16, 19})),
    ("6304", "6304", frozenset({12, 13, 14, 15, 16, 18, 19})),
    ("6759", "6763", frozenset({12, 13, 14, 15, 16, 18, 19})),
)


def is_card(digits: str) -> bool:
    """Return whether `digits` is a card number: an issuer's range, a length it uses, and the Luhn digit."""
    size = len(digits)
    for first, last, lengths in _ISSUERS:
        if size in lengths and first <= digits[: len(first)] <= last:
            return len(set(digits)) > 1 and bool(luhn.is_valid(digits))
    return False


def is_ssn(digits: str) -> bool:
    """Return whether nine digits can be a social security number (SSA: no area 000, 666 or 9xx, no zero part)."""
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    if area in {"000", "666"} or area[0] == "9" or group == "00" or serial == "0000":
        return False
    return len(set(digits)) > 1 and digits != "123456789" and digits != "078051120"


def _is_aadhaar(digits: str) -> bool:
    return digits[0] in "23456789" and digits != digits[::-1] and bool(verhoeff.is_valid(digits))


def _is_nhs(digits: str) -> bool:
    return len(set(digits)) > 1 and bool(nhs.is_valid(digits))


def _is_pesel(digits: str) -> bool:
    return bool(pesel.is_valid(digits))


def _is_idnr(digits: str) -> bool:
    return bool(idnr.is_valid(digits))


@dataclass(frozen=True, slots=True)
class Kind:
    """One identifier made of digits.

    `shapes` are the groupings in which it is believed without a word near it (None: any); `words` name it.
    """

    type: str
    lengths: frozenset[int]
    check: Callable[[str], bool]
    shapes: frozenset[Shape] | None
    words: re.Pattern[str]
    score: float
    examples: tuple[str, ...]


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


KINDS: tuple[Kind, ...] = (
    Kind(
        "CREDIT_CARD", frozenset(range(12, 20)), is_card, None, _words(r"card|visa|amex|\bcc\b|carte|tarjeta|karte"), 1.0,
        ("4012 8888 8888 1881", "378282246310005", "5555-5555-5555-4444"),
    ),
    Kind(
        "IN_AADHAAR", frozenset({12}), _is_aadhaar, frozenset({(4, 4, 4)}), _words(r"aa?dha+r|uidai|\buid\b"), 0.95,
        ("2341 2341 2346", "aadhaar 234123412346"),
    ),
    Kind(
        "PL_PESEL", frozenset({11}), _is_pesel, frozenset({(11,)}), _words(r"pesel"), 0.95,
        ("44051401359",),
    ),
    Kind(
        "DE_TAX_ID", frozenset({11}), _is_idnr, frozenset({(11,), (2, 3, 3, 3)}),
        _words(r"steuer|idnr|identifikationsnummer|tax|tin\b"), 0.95,
        ("86 095 742 719", "36574261809"),
    ),
    Kind(
        "US_SSN", frozenset({9}), is_ssn, frozenset({(3, 2, 4)}), _words(r"\bssn|social.{0,2}sec|\bss#|\bsocial\b"), 0.9,
        ("219-09-9998", "ssn 219099998"),
    ),
    Kind(
        "UK_NHS", frozenset({10}), _is_nhs, frozenset({(3, 3, 4)}), _words(r"\bnhs|national health|patient"), 0.9,
        ("943 476 5919", "NHS number 9434765919"),
    ),
)  # fmt: skip


class DigitNumbers:
    """The recogniser of every kind in KINDS."""

    types = tuple(kind.type for kind in KINDS)
    triggers = (r"\d(?:[ \t\r\n._\-/+]{0,3}\d){8}",)
    long = False
    positives = tuple((kind.type, example) for kind in KINDS for example in kind.examples)

    def find(self, text: str) -> Iterator[Finding]:
        """Yield every window of digit groups that proves itself."""
        for run in _RUN.finditer(text):
            if run.end() - run.start() >= 9:
                yield from _in_run(text, [group.span() for group in _GROUP.finditer(text, *run.span())])


def _in_run(text: str, groups: Sequence[tuple[int, int]]) -> Iterator[Finding]:
    count = len(groups)
    if 9 <= count <= _MOST_SINGLES and all(end - start == 1 for start, end in groups):
        yield from _judge(text, groups)
        return
    for first in range(count):
        total = 0
        for last in range(first, min(first + _MOST_GROUPS, count)):
            total += groups[last][1] - groups[last][0]
            if total > 19:
                break
            if total >= 9:
                yield from _judge(text, groups[first : last + 1])


def _judge(text: str, groups: Sequence[tuple[int, int]]) -> Iterator[Finding]:
    start, end = groups[0][0], groups[-1][1]
    digits = "".join(text[low:high] for low, high in groups)
    for kind in KINDS:
        if len(digits) in kind.lengths and kind.check(digits) and _believed(kind, text, groups):
            yield Finding(kind.type, start, end, kind.score)


def _believed(kind: Kind, text: str, groups: Sequence[tuple[int, int]]) -> bool:
    if kind.shapes is None:
        return _one_number(text, groups)
    start, end = groups[0][0], groups[-1][1]
    if near(kind.words, text, start, end):
        return True
    if not _shapes(text, groups) & kind.shapes:
        return False
    if kind.type == "UK_NHS" and near(PHONE, text, start, end):
        return False
    if kind.type == "US_SSN" and text[groups[0][1]] != text[groups[1][1]]:
        return False
    return not near(SERIAL, text, start, end, after=0)


def _one_number(text: str, groups: Sequence[tuple[int, int]]) -> bool:
    """Return whether the groups read as one card number: a known grouping, or evenly cut, on at most two lines."""
    gaps = [text[left[1] : right[0]] for left, right in pairwise(groups)]
    if sum("\n" in gap for gap in gaps) > 1:
        return False
    return len(set(gaps) - {"\n", "\r\n"}) <= 1 or len(groups) <= 5


def _shapes(text: str, groups: Sequence[tuple[int, int]]) -> set[Shape]:
    """Return the grouping as written, the one with line breaks inside the number closed, and single digits as one."""
    written = tuple(end - start for start, end in groups)
    closed = [written[0]]
    for left, right in pairwise(groups):
        if text[left[1] : right[0]].strip("\r") == "\n":
            closed[-1] += right[1] - right[0]
        else:
            closed.append(right[1] - right[0])
    shapes = {written, tuple(closed)}
    if len(written) > 1 and set(written) == {1}:
        shapes.add((len(written),))
    return shapes
