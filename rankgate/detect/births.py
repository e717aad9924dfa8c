"""Dates of birth: a date in any common form beside a word that says so."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice

from rankgate.detect.context import Words
from rankgate.detect.finding import Finding
from rankgate.detect.pace import Check, paced, unhurried

__all__ = ["Births"]

_MONTHS = (
    r"jan(?:uary|uar|vier|eiro)?|ene(?:ro)?|genn?(?:aio)?|feb(?:ruary|ruar|rero|braio)?|fevr?(?:ier|ereiro)?|"
    r"mar(?:ch|s|zo|z|co)?|maerz|apr(?:il|ile)?|avr(?:il)?|abr(?:il)?|may|mai|mayo|maggio|maio|june?|juni|juin|junio|"
    r"giugno|junho|july?|juli|juil(?:let)?|julio|luglio|julho|aug(?:ust)?|aout|ago(?:sto)?|sept?(?:ember|embre|iembre)?|"
    r"set(?:tembre|embro)?|oct(?:ober|obre|ubre)?|okt(?:ober)?|ott(?:obre)?|out(?:ubro)?|nov(?:ember|embre|iembre|embro)?|"
    r"dec(?:ember|embre)?|dez(?:ember|embro)?|dic(?:iembre|embre)?"
)
_DAY = r"(?:[12][0-9]|3[01]|0?[1-9])"
_MONTH = r"(?:1[0-2]|0?[1-9])"
_YEAR = r"(?:19|20)[0-9]{2}"
_MARK = r"\s?[\-/.\n ]\s?"
_SHORT = rf"(?:{_YEAR}|[0-9]{{2}})"
# No look-around, which RE2 lacks: `_dates` checks the neighbours.
_DATE = Words(
    rf"{_YEAR}{_MARK}{_MONTH}{_MARK}{_DAY}|{_DAY}{_MARK}{_MONTH}{_MARK}{_SHORT}|{_MONTH}{_MARK}{_DAY}{_MARK}{_SHORT}"
    rf"|{_YEAR}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])|{_YEAR}\s?年\s?{_MONTH}\s?月\s?{_DAY}\s?日"
    rf"|{_DAY}(?:st|nd|rd|th|er|\.|º|o)?[\s\-.]{{0,3}}(?:of |de |di )?(?:{_MONTHS})\.?(?: de| del| di)?,?[\s\-.]{{0,3}}"
    rf"{_SHORT}|(?:{_MONTHS})\.?[\s\-]{{0,2}}{_DAY}(?:st|nd|rd|th)?(?:,[\s\-]{{0,2}}|[\s\-]{{1,2}}){_YEAR}"
)
_WORDS = (
    r"d\.?o\.?b\b\.?|dob|date[ _\-]?of[ _\-]?birth|birth[ _\-]?date|birth[ _\-]?day|\bborn|"
    r"\bgeb\.|\bgeboren|geburts(?:datum|tag)|\bnee? le\b|date de naissance|date[ _\-]naissance|"
    r"fecha[ _\-]de[ _\-]nacimiento|\bnacid[oa]|\bnat[oa] (?:il|a)\b|data di nascita|data urodzenia|"
    r"\burodzon[ya]|\bur\. |data de nascimento|\bnascid[oa]|geboortedatum|fodelsedatum|fødselsdato|"
    r"生年月日|出生日期|जनम"
)
_SAID = Words(_WORDS)
# The whole date begins within this many characters behind the word, or ends as many before it.
_REACH = 40
_BACK = 8
_MOST = 128


class Births:
    """The recogniser of dates of birth; the date alone is found."""

    types = ("DATE_OF_BIRTH",)
    triggers = (
        r"(?i)d\.?o\.?b|birth|born|geb\.|geboren|geburts|nee? le|naissance|nacimiento|nacid[oa]|nat[oa] (?:il|a)",
        r"(?i)nascita|urodz|ur\. |nascimento|nascid[oa]|geboorte|fodelse|fødsel|生年月日|出生日期|जनम",
    )
    long = False
    positives = (
        ("DATE_OF_BIRTH", "date of birth: 1984-03-12"),
        ("DATE_OF_BIRTH", "born on March 12, 1984"),
        ("DATE_OF_BIRTH", "geb. am 12.03.1984"),
        ("DATE_OF_BIRTH", "12/03/1984 (DOB)"),
    )

    def find(self, text: str, check: Check = unhurried) -> Iterator[Finding]:
        """Yield the date nearest to each word."""
        said = list(islice(_SAID.each(text), _MOST + 1))
        dates = _dates(text, {end for _, end in said}) if said else []
        if len(said) > _MOST:
            # Too many to look at each: over-mask.
            yield from (Finding("DATE_OF_BIRTH", start, end, 0.8) for start, end in dates)
            return
        starts = [start for start, _ in dates]
        for start, end in paced(said, check):
            index = bisect_left(starts, end)
            if index < len(dates) and starts[index] - end <= _REACH and _joined(text[end : starts[index]]):
                yield Finding("DATE_OF_BIRTH", *dates[index], 0.95)
            elif index and 0 <= start - dates[index - 1][1] <= _BACK:
                yield Finding("DATE_OF_BIRTH", *dates[index - 1], 0.85)


def _dates(text: str, glued: set[int]) -> list[tuple[int, int]]:
    """Return the dates that are not part of a longer number or word; at `glued` places a word may end."""
    return [
        (start, end)
        for start, end in _DATE.spans(text)
        if not text[end : end + 1].isdigit()
        and not (
            text[start - 1 : start].isdigit()
            if text[start].isdigit()
            else text[start - 1 : start].isalpha() and start not in glued
        )
    ]


def _joined(between: str) -> bool:
    """Return whether nothing between word and date starts another statement."""
    return ";" not in between and re.search(r"\w{3,}\. [A-Z]|[0-9]{2}", between) is None
