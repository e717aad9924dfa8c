"""Phone numbers: international ones anywhere, national ones where their grouping or a word near them says so.

phonenumbers decides what a number may be in a region; this module decides which digits are worth asking about,
and asks at most _QUESTIONS times a text. Beyond that a candidate's shape alone is believed.
"""

from __future__ import annotations

import functools
import operator
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import phonenumbers
from phonenumbers import PhoneMetadata, PhoneNumber

from rankgate.detect.context import PHONE, SERIAL, Nearby
from rankgate.detect.finding import Finding
from rankgate.detect.pace import Check, paced, unhurried
from rankgate.errors import SettingsError

__all__ = ["Phones", "e164"]

Group = tuple[int, int]
_SPAN = operator.methodcaller("span")

_QUESTIONS = 32
_MOST_GROUPS = 6
_GAP = r"[ \t\n\r().\-/]{0,3}"
_INTERNATIONAL = re.compile(rf"(?:\+{_GAP}|00|011[ \-])[1-9](?:{_GAP}[0-9]){{6,14}}")
# The digit comes first, as it is what most texts lack.
_NATIONAL = re.compile(rf"[0-9](?:{_GAP}[0-9]){{6,13}}")
_TWO = re.compile(r"[0-9]{2}")
_GROUP = re.compile(r"\d+")
_EXTENSION = re.compile(r"\s{0,2}(?:x|ext\.?|extension|#)\s{0,2}\d{1,6}(?!\d)", re.IGNORECASE)
_DATE = re.compile(r"(?:(?:19|20)\d\d[\-/.](?:0?[1-9]|1[0-2])[\-/.]\d|\d{1,2}[\-/.]\d{1,2}[\-/.](?:19|20)\d\d)")
_DOTTED = re.compile(r"\d{1,3}\.\d{5,}(?![.\-]?\d)|(?:\d{1,3}\.){3}\d{1,3}(?![.\d])")
_GLUED = re.compile(r"(?:[A-Za-z0-9_@#$€£%./\\\-]|\d[:=,*])$")
_NAMED = re.compile(r"(?:tel|phone|mobile|cell|fax|call|whatsapp)[:=.\-]{0,2}$", re.IGNORECASE)
# A unit, a currency or a decimal part says that the digits before it are an amount.
_COUNTED = re.compile(r",\d|\.\d|[%€$£]|\s?(?:USD|EUR|GBP|INR|kg|km|ms|MB|GB|units|tokens)\b")
_NANP = re.compile(r"(?:(?:00)?1[ .\-])?(?:\(\d{3}\)[ \-]{0,2}|\d{3}[ .\-/])\d{3}[ .\-]?\d{4}")


@dataclass(frozen=True, slots=True)
class _Region:
    """A region; `dialled` matches whatever may be dialled there, None where prefixes rewrite the number."""

    name: str
    code: int
    trunk: str
    dialled: re.Pattern[str] | None


@functools.cache
def _region(name: str) -> _Region:
    metadata = PhoneMetadata.metadata_for_region(name, None)
    if metadata is None:
        raise SettingsError(f"masking.phone_regions names {name}, which is no region; use two-letter ISO 3166 codes")
    trunk = metadata.national_prefix or ""
    code = metadata.country_code or 0
    national = metadata.general_desc and metadata.general_desc.national_number_pattern
    dialled: re.Pattern[str] | None = None
    if national and not metadata.national_prefix_transform_rule:
        prefix = metadata.national_prefix_for_parsing or ""
        dialled = re.compile(rf"(?:{code})?(?:{prefix})?(?:{national})")
    return _Region(name, code, trunk, dialled)


class Phones:
    """The recogniser of phone numbers, with the regions whose national form is read."""

    types = ("PHONE_NUMBER",)
    triggers = (r"\d(?:[ \t\r\n().\-/]{0,3}\d){6}",)
    long = False

    def __init__(self, regions: Sequence[str]) -> None:
        self._regions = tuple(_region(name) for name in regions)
        self._nanp = any(region.code == 1 for region in self._regions)
        self.positives = (("PHONE_NUMBER", "call +44 20 7946 0958 now"), ("PHONE_NUMBER", "tel. +12025550123")) + (
            (("PHONE_NUMBER", "(202) 555-0123"),) if self._nanp else ()
        )

    def find(self, text: str, check: Check = unhurried) -> Iterator[Finding]:
        """Yield every number, with its extension."""
        budget = [_QUESTIONS]
        nearby = Nearby(text)
        taken = [0]
        if "+" in text or "00" in text or "011 " in text or "011-" in text:
            for start, stop in paced(map(_SPAN, _INTERNATIONAL.finditer(text)), check):
                end = _international_end(text, start, stop, nearby, budget)
                if end is not None:
                    taken.append(_with_extension(text, end))
                    yield Finding("PHONE_NUMBER", start, taken[-1], 0.95)
        done = 0
        for start, stop in paced(map(_SPAN, _NATIONAL.finditer(text)), check):
            # Single digits set apart are no phone number.
            if _TWO.search(text, start, stop) is None:
                continue
            start -= text[start - 1 : start] == "("
            if start < done or start < taken[bisect_right(taken, start + 16) - 1]:
                continue
            end = self._national_end(text, start, stop, nearby, budget)
            if end is not None:
                done = _with_extension(text, end)
                yield Finding("PHONE_NUMBER", start, done, 0.8)

    def _national_end(self, text: str, start: int, stop: int, nearby: Nearby, budget: list[int]) -> int | None:
        """Return where the national number that begins at `start` ends, None where none does."""
        left = text[max(0, start - 12) : start]
        if _GLUED.search(left) and not _NAMED.search(left):
            return None
        if _DATE.match(text, start) or _DOTTED.match(text, start) or _COUNTED.match(text, stop):
            return None
        said = nearby.has(PHONE, start, stop)
        glued = text[stop : stop + 1].isalpha() and _EXTENSION.match(text, stop) is None
        if not said and (glued or nearby.just_before(SERIAL, start)):
            return None
        if self._nanp:
            nanp = _NANP.match(text, start)
            if (
                nanp is not None
                and not text[nanp.end() : nanp.end() + 1].isdigit()
                and _is_nanp(nanp.group(), said=said)
            ):
                return nanp.end()
        groups = _groups(text, start, stop)[:_MOST_GROUPS]
        for count in range(len(groups), 0, -1):
            if self._plausible(text, groups[:count], budget, said=said):
                return groups[count - 1][1]
        return None

    def _plausible(self, text: str, groups: list[Group], budget: list[int], *, said: bool) -> bool:
        """Return whether the groups are a number of one of the regions, grouped like one or said to be one."""
        shape = tuple(high - low for low, high in groups)
        if not 7 <= sum(shape) <= 12 or shape[-1] < 2 or (len(shape) > 1 and max(shape) > 8):
            return False
        digits = "".join([text[low:high] for low, high in groups])
        if len(set(digits)) < 3:
            return False
        if said and shape in {(3, 4), (7,)} and digits[0] in "23456789" and self._nanp:
            return True
        for region in self._regions:
            national = digits
            if region.trunk and digits.startswith(region.trunk):
                national = digits[len(region.trunk) :]
            elif region.trunk == "0" and not (region.name == "IN" and len(digits) == 10):
                continue
            if (said or _telling(shape, digits, region)) and _is_valid(region.code, national, digits, budget):
                return True
        return False


def _groups(text: str, start: int, stop: int) -> list[Group]:
    """Return the groups of digits within a span, without a last one that goes on behind it."""
    groups = [group.span() for group in _GROUP.finditer(text, start, stop)]
    return groups[:-1] if text[stop : stop + 1].isdigit() else groups


def _telling(shape: tuple[int, ...], digits: str, region: _Region) -> bool:
    """Return whether the grouping alone, without a word near it, reads as a phone number of `region`."""
    if min(shape[1:], default=2) < 2 or region.code == 1 or digits.startswith("00"):
        return False
    if region.trunk == "0" and digits.startswith("0"):
        if len(shape) == 1:
            return len(digits) in {10, 11}
        return len(digits) >= 9 and not (shape[0] == 1 and len(shape) < 5) and shape != (5, 4)
    if region.name == "IN":
        return shape in {(5, 5), (4, 3, 3), (4, 6)} and digits[0] in "6789"
    if region.name == "IT" and digits[0] == "0":
        return len(shape) >= 2 and 2 <= shape[0] <= 4 and len(digits) >= 9
    if region.name == "IT":
        return digits[0] == "3" and shape in {(3, 7), (3, 3, 4), (3, 2, 2, 3)}
    return len(digits) == 9 and shape in {(3, 2, 2, 2), (2, 3, 2, 2), (2, 2, 2, 3)}


def _is_nanp(written: str, *, said: bool) -> bool:
    digits = re.sub(r"\D", "", written)[-10:]
    if len(set(digits)) < 3:
        return False
    return said or digits[0] in "23456789"


def _is_valid(code: int, national: str, written: str, budget: list[int]) -> bool:
    if not national.strip("0"):
        return False
    budget[0] -= 1
    if budget[0] < 0:
        return True
    number = PhoneNumber(country_code=code, national_number=int(national))
    if code == 39 and written.startswith("0"):
        number = PhoneNumber(country_code=code, national_number=int(written), italian_leading_zero=True)
    return bool(phonenumbers.is_valid_number(number))


def _international_end(text: str, start: int, stop: int, nearby: Nearby, budget: list[int]) -> int | None:
    """Return where the international number that begins at `start` ends: the longest valid cut at a group."""
    if text[start - 1 : start].isdigit():
        return None
    groups = _groups(text, start, stop)
    possible: int | None = None
    plus = text[start] == "+"
    skipped = 0 if plus else 3 if text.startswith("011", start) else 2
    said = nearby.has(PHONE, start, stop)
    for count in range(len(groups), 0, -1):
        chosen = groups[:count]
        digits = "".join(text[low:high] for low, high in chosen)[skipped:]
        if not 8 <= len(digits) <= 15:
            continue
        budget[0] -= 1
        verdict = (
            _judge(text[start : chosen[-1][1]].replace("\n", " ") if plus else "+" + digits)
            if budget[0] >= 0
            else (True, True)
        )
        if verdict[0]:
            return chosen[-1][1]
        if verdict[1] and possible is None and (count > 1 or said) and plus:
            possible = chosen[-1][1]
    return possible


def _judge(written: str) -> tuple[bool, bool]:
    """Return whether an international number is valid, and whether its length is possible."""
    try:
        number = phonenumbers.parse(written)
    except phonenumbers.NumberParseException:
        return False, False
    return bool(phonenumbers.is_valid_number(number)), bool(phonenumbers.is_possible_number(number))


def _with_extension(text: str, end: int) -> int:
    extension = _EXTENSION.match(text, end)
    return end if extension is None else extension.end()


def e164(text: str, regions: Sequence[str] = ()) -> str | None:
    """Return a number in E.164 form with `;ext=` where it has one, None where no region of `regions` knows it."""
    number, _, extension = (
        text.lower().replace("extension", "x").replace("ext.", "x").replace("ext", "x").partition("x")
    )
    digits = re.sub(r"\D", "", number.replace("(0)", ""))
    tail = f";ext={extension.strip()}" if extension.strip() else ""
    for prefix in ("+", "00", "011 ", "011-"):
        if number.strip().startswith(prefix):
            rest = digits.removeprefix(prefix[:3].rstrip())
            return f"+{rest}{tail}" if 7 <= len(rest) <= 15 else None
    for name in regions:
        # Far cheaper than asking phonenumbers.
        dialled = _region(name).dialled
        if dialled is not None and dialled.fullmatch(digits) is None:
            continue
        try:
            parsed = phonenumbers.parse(digits, name)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number(parsed):
            return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164) + tail
    return None
