"""Numbers that carry their own proof: payment cards and national identifiers made of digits.

One pass finds every run of digit groups; a whole run, or a part of it in a known grouping, is then put to the test.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise

from rankgate.detect.checks import is_aadhaar, is_idnr, is_nhs, is_pesel
from rankgate.detect.context import PHONE, SERIAL, Nearby, Words
from rankgate.detect.finding import Finding
from rankgate.detect.pace import Check, paced, unhurried

__all__ = ["KINDS", "DigitNumbers", "is_card", "is_ssn"]

_RUN = re.compile(r"[0-9]+(?:[ \t\r\n._\-/+]{1,3}[0-9]+)*")
_GROUP = re.compile(r"[0-9]+")
_SHORTEST = 9
_SHORTEST_CARD = 12
_LONGEST = 19
# An international prefix makes it a phone number.
_DIALLED = re.compile(r"\+(?:\d{1,3}[ .\-])?$")

Group = tuple[int, int]
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


_BY_PREFIX: dict[str, list[tuple[str, str, frozenset[int]]]] = {}
for _issuer in _ISSUERS:
    for _number in range(int(_issuer[0].ljust(2, "0")[:2]), int(_issuer[1].ljust(2, "9")[:2]) + 1):
        _BY_PREFIX.setdefault(str(_number), []).append(_issuer)
_DOUBLED = bytes.maketrans(b"0123456789", b"0246813579")


def is_card(digits: str) -> bool:
    """Return whether `digits` is a card number: an issuer's range, a length it uses, and the Luhn digit."""
    size = len(digits)
    for first, last, lengths in _BY_PREFIX.get(digits[:2], ()):
        if size in lengths and first <= digits[: len(first)] <= last:
            written = digits.encode()
            # Each ASCII digit is 48 more than its value.
            total = sum(written[::-2]) + sum(written[-2::-2].translate(_DOUBLED)) - 48 * size
            return total % 10 == 0 and len(set(digits)) > 1
    return False


def is_ssn(digits: str) -> bool:
    """Return whether nine digits can be a social security number (SSA: no area 000, 666 or 9xx, no zero part)."""
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    if area in {"000", "666"} or area[0] == "9" or group == "00" or serial == "0000":
        return False
    return len(set(digits)) > 1 and digits != "123456789" and digits != "078051120"


@dataclass(frozen=True, slots=True)
class Kind:
    """One national identifier made of digits.

    `shapes` are the groupings in which it is believed without a word near it; `words` name it.
    """

    type: str
    lengths: frozenset[int]
    check: Callable[[str], bool]
    shapes: frozenset[Shape]
    words: Words
    score: float
    examples: tuple[str, ...]


_CARD_SHAPES = frozenset(
    {(size,) for size in range(12, 20)}
    | {(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 1), (4, 4, 4, 4, 2), (4, 4, 4, 4, 3), (4, 4, 4), (4, 4, 4, 1)}
    | {(4, 4, 4, 3), (4, 5, 6), (8, 8), (4, 12), (12, 4), (4, 4, 8), (8, 4, 4), (6, 10), (6, 13), (5, 5, 5)}
    | {(4, 4, 4, 2), (4, 4, 5)}
)

# Twelve digits in fours are no number of their own where a fourth group of four goes on.
_THREE = (4, 4, 4)
KINDS: tuple[Kind, ...] = (
    Kind(
        "IN_AADHAAR", frozenset({12}), is_aadhaar, frozenset({(4, 4, 4)}), Words(r"aa?dha+r|uidai|\buid\b"), 0.95,
        ("2341 2341 2346", "aadhaar 234123412346"),
    ),
    Kind(
        "PL_PESEL", frozenset({11}), is_pesel, frozenset({(11,)}), Words(r"pesel"), 0.95,
        ("44051401359",),
    ),
    Kind(
        "DE_TAX_ID", frozenset({11}), is_idnr, frozenset({(11,), (2, 3, 3, 3)}),
        Words(r"steuer|idnr|identifikationsnummer|tax|tin\b"), 0.95,
        ("86 095 742 719", "36574261809"),
    ),
    Kind(
        "US_SSN", frozenset({9}), is_ssn, frozenset({(3, 2, 4)}), Words(r"\bssn|social.{0,2}sec|\bss#|\bsocial\b"), 0.9,
        ("219-09-9998", "ssn 219099998"),
    ),
    Kind(
        "UK_NHS", frozenset({10}), is_nhs, frozenset({(3, 3, 4)}), Words(r"nhs|national health|patient"), 0.9,
        ("943 476 5919", "NHS number 9434765919"),
    ),
)  # fmt: skip


_SHAPES = _CARD_SHAPES.union(*(kind.shapes for kind in KINDS))
# The shapes of as many groups, looked for in the sizes of a run's groups as bytes.
_SHAPED = tuple(
    re.compile(
        b"(?=" + b"|".join(re.escape(bytes(one)) for one in sorted(_SHAPES) if len(one) == count) + b")", re.DOTALL
    )
    for count in range(1, max(map(len, _SHAPES)) + 1)
)


class DigitNumbers:
    """The recogniser of cards and of every kind in KINDS."""

    types = ("CREDIT_CARD", *(kind.type for kind in KINDS))
    triggers = (r"\d(?:[ \t\r\n._\-/+]{0,3}\d){8}",)
    long = False
    positives = (
        ("CREDIT_CARD", "4012 8888 8888 1881"),
        ("CREDIT_CARD", "378282246310005"),
        ("CREDIT_CARD", "5555-5555-5555-4444"),
        *((kind.type, example) for kind in KINDS for example in kind.examples),
    )

    def find(self, text: str, check: Check = unhurried) -> Iterator[Finding]:
        """Yield every number that proves itself: a whole run, or a part of one that is grouped like a number."""
        nearby = Nearby(text)
        for run in paced(_RUN.finditer(text), check):
            if run.end() - run.start() < _SHORTEST:
                continue
            groups = [group.span() for group in _GROUP.finditer(text, *run.span())]
            for chosen in _windows(text, groups):
                yield from _judge(text, nearby, chosen)


def _windows(text: str, groups: list[Group]) -> Iterator[list[Group]]:
    """Yield the whole run, then what lies in it in a known grouping, line breaks inside the number closed."""
    sizes = [end - start for start, end in groups]
    if len(groups) > 1 and set(sizes) == {1}:
        yield from _spread(text, groups)
        return
    if _SHORTEST <= sum(sizes) <= _LONGEST:
        yield groups
    if len(groups) == 1:
        return
    if "\n" in text[groups[0][0] : groups[-1][1]]:
        broken = [text[left[1] : right[0]].strip("\r") == "\n" for left, right in pairwise(groups)]
        closed, lengths = [groups[0]], [sizes[0]]
        for group, size, split in zip(groups[1:], sizes[1:], broken, strict=True):
            if split:
                closed[-1] = (closed[-1][0], group[1])
                lengths[-1] += size
            else:
                closed.append(group)
                lengths.append(size)
        if len(closed) < len(groups):
            yield from _shaped(closed, lengths, len(closed))
    if len(groups) > 2 or max(sizes) >= _SHORTEST:
        yield from _shaped(groups, sizes, len(groups) - 1)


def _beside(sizes: list[int], first: int, last: int) -> set[int]:
    """Return the sizes of the groups before and behind a window."""
    return {*sizes[max(0, first - 1) : first], *sizes[last + 1 : last + 2]}


def _spread(text: str, groups: list[Group]) -> Iterator[list[Group]]:
    """Yield a run of single digits set apart alike, or the sixteen-digit cards in a longer one.

    Sums from the left make each Luhn check a subtraction: such a run may be as long as the text.
    """
    if len({text[left[1] : right[0]] for left, right in pairwise(groups)} - {"\n"}) > 1:
        return
    if len(groups) <= _LONGEST:
        yield groups
        return
    digits = "".join([text[start] for start, _ in groups])
    # Sums with every even, and with every odd, position doubled. Sixteen ASCII digits are 768 more than their values.
    even, odd = bytearray(digits.encode()), bytearray(digits.encode())
    even[::2] = even[::2].translate(_DOUBLED)
    odd[1::2] = odd[1::2].translate(_DOUBLED)
    sums = [list(accumulate(values, initial=0)) for values in (even, odd)]
    for first in range(len(digits) - 15):
        total = sums[first % 2]
        if (total[first + 16] - total[first] - 768) % 10 == 0 and is_card(digits[first : first + 16]):
            yield groups[first : first + 16]


def _shaped(groups: list[Group], sizes: list[int], most: int) -> Iterator[list[Group]]:
    """Yield the parts of a run, of at most so many groups, that are grouped like a card or an identifier."""
    written = bytes([min(size, 255) for size in sizes])
    for count, pattern in enumerate(_SHAPED[:most], 1):
        for match in pattern.finditer(written):
            first = match.start()
            last = first + count - 1
            if not (tuple(sizes[first : last + 1]) == _THREE and 4 in _beside(sizes, first, last)):
                yield groups[first : last + 1]


def _judge(text: str, nearby: Nearby, groups: list[Group]) -> Iterator[Finding]:
    """Yield what the digits of `groups`, taken as one number, prove to be."""
    start, end = groups[0][0], groups[-1][1]
    digits = "".join([text[low:high] for low, high in groups])
    if not digits.isdigit():  # a line break was closed
        digits = "".join(character for character in digits if character.isdigit())
    kinds = [kind for kind in _BY_LENGTH.get(len(digits), ()) if kind.check(digits)]
    card = len(digits) >= _SHORTEST_CARD and is_card(digits)
    if not (kinds or card) or _DIALLED.search(text, max(0, start - 5), start):
        return
    # Where several kinds fit, the one that is named nearby is meant.
    said = [kind for kind in kinds if nearby.has(kind.words, start, end)]
    if card and not said and _one_card(text, groups):
        yield Finding("CREDIT_CARD", start, end, 1.0)
    for kind in said or kinds:
        if said or _shaped_like(kind, text, nearby, groups):
            yield Finding(kind.type, start, end, kind.score)


def _one_card(text: str, groups: list[Group]) -> bool:
    """Return whether the groups are cut alike and on at most two lines, as one number is and a table is not."""
    gaps = {text[left[1] : right[0]] for left, right in pairwise(groups)} - {"\n", "\r\n"}
    return text.count("\n", groups[0][0], groups[-1][1]) <= 1 and (len(gaps) <= 1 or len(groups) <= 4)


def _shaped_like(kind: Kind, text: str, nearby: Nearby, groups: list[Group]) -> bool:
    """Return whether the grouping alone makes the number one of `kind`, and nothing before it says otherwise."""
    shape = tuple(sum(map(str.isdigit, text[low:high])) for low, high in groups)
    if set(shape) == {1}:
        shape = (len(shape),)
    if shape not in kind.shapes:
        return False
    start, end = groups[0][0], groups[-1][1]
    if kind.type == "UK_NHS" and (text[groups[0][1]] not in " \n" or nearby.has(PHONE, start, end)):
        return False
    if kind.type == "US_SSN" and not text[groups[0][1]] == text[groups[1][1]] in "- ":
        return False
    return not nearby.just_before(SERIAL, start)


_BY_LENGTH = {size: tuple(kind for kind in KINDS if size in kind.lengths) for size in range(9, 20)}
