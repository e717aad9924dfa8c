"""Other readings of a text: what it says once an encoding, spacing or line break is taken away.

Every reading is a View of the original. Escapes are undone in place, so a finding covers the escapes of its
characters; base64 and hex are opaque, so a finding inside covers the whole run. Readings are never longer than
their source, so two levels of them bound the output.
"""

from __future__ import annotations

import binascii
import html
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate

from rankgate.detect.pace import Check, paced, unhurried
from rankgate.detect.view import Locate, View, mapped, stretches

__all__ = ["READINGS", "Reading"]

RUN = 12
_ALONE = 64
_APART = " ; "
_BEFORE = 32
_NO_WORD = re.compile(r"[^A-Za-z: ]")


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read a text again: `triggers` are as in Recognizer.

    `types` limits what may be found in the reading (None: everything).
    """

    name: str
    triggers: tuple[str, ...]
    read: Callable[[View, Check], Iterator[View]]
    types: frozenset[str] | None = None


_ESCAPE = re.compile(
    r"(?P<percent>(?:%[0-9A-Fa-f]{2})+)"
    r"|(?P<entity>&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});?)"
    r"|\\{1,8}(?:u(?P<u>[0-9A-Fa-f]{4})|u\{(?P<brace>[0-9A-Fa-f]{1,6})\}|U(?P<wide>[0-9A-Fa-f]{8})"
    r"|x(?P<x>[0-9A-Fa-f]{2})|(?P<plain>[nrt\"'/]))"
)
_PLAIN = {"n": "\n", "r": "\r", "t": "\t"}


def _unescaped(view: View, check: Check = unhurried) -> Iterator[View]:
    """Yield the text with percent, HTML and backslash escapes undone in place."""
    text = view.text
    out: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    copied = 0
    for match in paced(_ESCAPE.finditer(text), check):
        pieces = _pieces(match)
        if not pieces:
            continue
        start = match.start()
        out.append(text[copied:start])
        starts.extend(range(copied, start))
        ends.extend(range(copied + 1, start + 1))
        for character, length in pieces:
            out.append(character)
            starts.append(start)
            start += length
            ends.append(start)
        copied = match.end()
    if copied:
        out.append(text[copied:])
        starts.extend(range(copied, len(text)))
        ends.extend(range(copied + 1, len(text) + 1))
        yield mapped("".join(out), *_runs(starts, ends), view)


def _runs(starts: list[int], ends: list[int]) -> tuple[list[int], list[int]]:
    """Let every character of an unbroken run of longer escapes stand for the whole run."""
    index = 0
    count = len(starts)
    while index < count:
        last = index
        while last < count and ends[last] - starts[last] > 2:
            last += 1
        if last - index >= 4:
            first, final = starts[index], ends[last - 1]
            starts[index:last] = [first] * (last - index)
            ends[index:last] = [final] * (last - index)
        index = last + 1
    return starts, ends


def _pieces(match: re.Match[str]) -> list[tuple[str, int]]:
    """Return (character, length of its escape) for one match, nothing where it is no escape after all."""
    found = match.group()
    if match["percent"]:
        try:
            decoded = bytes.fromhex(found.replace("%", "")).decode("utf-8")
        except UnicodeDecodeError:
            decoded = bytes.fromhex(found.replace("%", "")).decode("latin-1")
            return [(character, 3) for character in decoded]
        return [(character, 3 * len(character.encode())) for character in decoded]
    if match["entity"]:
        decoded = html.unescape(found)
        return [] if decoded == found or not 0 < len(decoded) <= 2 else [(decoded[0], len(found))]
    if match["plain"]:
        return [(_PLAIN.get(match["plain"], match["plain"]), len(found))]
    code = int(match["u"] or match["brace"] or match["wide"] or match["x"], 16)
    return [(chr(code) if code <= 0x10FFFF else "\ufffd", len(found))]


_BASE64 = re.compile(r"[A-Za-z0-9+/_\-]{4,}+(?:(?:\\n|\r?\n)[A-Za-z0-9+/_\-]{4,}+)*+={0,2}")
_ONE_KIND = re.compile(r"[A-Z_\-+/=]*|[0-9_\-+/=]*")
_WRAP = re.compile(r"\\n|\r?\n")
_PRINTED = re.compile(
    rb"(?:[\x20-\x7e\t\r\n]|[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|\xf0[\x90-\xbf][\x80-\xbf]{2}){8,}"
)


def _base64(view: View, check: Check = unhurried) -> Iterator[View]:
    """Yield what all base64 and base64url runs say, from each of the four positions they may be glued at."""
    said = _Said(view)
    for match in paced(_BASE64.finditer(view.text), check):
        run = match.group()
        # What is worth hiding does not come out of letters of one case, nor of digits alone.
        if len(run) < RUN or run.islower() or _ONE_KIND.fullmatch(run):
            continue
        compact = _WRAP.sub("", run).rstrip("=").replace("-", "+").replace("_", "/")
        for skip in range(4):
            part = compact[skip:]
            part = part[: len(part) - (len(part) % 4 == 1)]
            try:
                data = binascii.a2b_base64(part + "=" * (-len(part) % 4))
            except binascii.Error:
                continue
            said.add(data, match.start(), match.end())
    yield from said.views()


def _always(start: int, end: int) -> Locate:
    return lambda _start, _end: (start, end)


class _Said:
    """What the encoded runs of a text say: the readable stretches of their bytes, each standing for its whole run.

    The first ones have a view of their own, with the words before the run, which may say what it holds. All others
    share one, as a text can hold thousands.
    """

    __slots__ = ("_places", "_stretches", "_view")

    def __init__(self, view: View) -> None:
        self._view = view
        self._stretches: list[str] = []
        self._places: list[tuple[int, int]] = []

    def add(self, data: bytes, start: int, end: int) -> None:
        """Take the bytes that the run from `start` to `end` stands for."""
        if data.count(0) * 3 > len(data):
            data = data.replace(b"\0", b"")
        before = ""
        for stretch in _PRINTED.finditer(data):
            if len(self._stretches) < _ALONE:
                before = before or _words_before(self._view.text, start)
            self._stretches.append(before + stretch.group().decode("utf-8", "replace"))
            self._places.append((start, end))

    def views(self) -> Iterator[View]:
        """Yield each of the first stretches, and all others joined by what nothing reads across."""
        for text, place in zip(self._stretches[:_ALONE], self._places, strict=False):
            yield View(text, _always(*self._view.locate(*place)))
        rest = self._stretches[_ALONE:]
        if rest:
            begins = [0, *accumulate(len(text) + len(_APART) for text in rest)]

            def locate(start: int, end: int) -> tuple[int, int]:
                first, last = bisect_right(begins, start) - 1, bisect_right(begins, end - 1) - 1
                return self._view.locate(self._places[_ALONE + first][0], self._places[_ALONE + last][1])

            yield View(_APART.join(rest), locate)


def _words_before(text: str, start: int) -> str:
    """Return the letters before a run, which may say what its digits are; nothing can be found in them alone."""
    return _NO_WORD.sub(" ", text[max(0, start - _BEFORE) : start])


_HEX = re.compile(
    r"(?:(?<![0-9A-Fa-f])(?:[0-9A-Fa-f]{2}){8,}"
    r"|(?<![0-9A-Za-z])(?:(?:0x)?[0-9A-Fa-f]{2}[ :,\-]{1,2}){7,}(?:0x)?[0-9A-Fa-f]{2})(?![0-9A-Fa-f])"
)


def _hex(view: View, check: Check = unhurried) -> Iterator[View]:
    """Yield what all runs of hexadecimal bytes say, bare or separated."""
    said = _Said(view)
    for match in paced(_HEX.finditer(view.text), check):
        compact = re.sub(r"0x|[ :,\-]", "", match.group())
        said.add(bytes.fromhex(compact), match.start(), match.end())
    yield from said.views()


_SPACED = re.compile(r"(?<!\S)(?:\S[ \t\n\r]{1,3}){7,}\S(?!\S)")
_SHOWN = re.compile(r"\S")


def _despaced(view: View, check: Check = unhurried) -> Iterator[View]:
    """Yield every run of single characters without the spaces between them."""
    for match in paced(_SPACED.finditer(view.text), check):
        before = _words_before(view.text, match.start())
        kept = [one.span() for one in _SHOWN.finditer(view.text, *match.span())]
        if before:
            kept.insert(0, (match.start() - len(before), match.start()))
        again = stretches(kept, view)
        yield View(before + again.text[len(before) :], again.locate)


_BREAK = re.compile(r"(?<=[0-9A-Za-z@._+/=:\-])(?:=?\r?\n)(?=[0-9A-Za-z@._+/=:\-])")


def _unwrapped(view: View, check: Check = unhurried) -> Iterator[View]:
    """Yield the text around each line break inside something, without the break."""
    text = view.text
    kept: list[tuple[int, int]] = []
    last = 0
    for match in paced(_BREAK.finditer(text), check):
        kept.append((last, match.start()))
        last = match.end()
    if kept:
        yield stretches([*kept, (last, len(text))], view)


_ALIKE = str.maketrans("OoIl|SBZЗзбЧЅ", "0011158233645")
_MIXED = re.compile(r"[0-9OoIl|SBZЗзбЧЅ](?:[ .\-]?[0-9OoIl|SBZЗзбЧЅ]){8,}")
# A word of such letters beside a number is no part of it.
_NUMBER = re.compile(r"(?:[^0-9 .\-]+[ .\-])*(?P<number>.*[0-9][^ .\-]*)")


def _lookalikes(view: View, check: Check = unhurried) -> Iterator[View]:
    """Yield every run of digits and letters that look like digits, as digits."""
    for match in paced(_MIXED.finditer(view.text), check):
        number = _NUMBER.match(match.group())
        if number is None:
            continue
        found = number["number"]
        digits = sum(character in "0123456789" for character in found)
        letters = sum(character not in "0123456789 .-" for character in found)
        if letters and digits >= 2 * letters and digits >= 6:
            start = match.start() + number.start("number")
            positions = range(start, start + len(found))
            yield mapped(found.translate(_ALIKE), positions, range(start + 1, start + len(found) + 1), view)


_TAGS = re.compile("[\U000e0020-\U000e007e]{6,}")


def tags(view: View, check: Check = unhurried) -> Iterator[View]:
    """Yield what runs of Unicode tag characters spell; folding makes them vanish."""
    for match in paced(_TAGS.finditer(view.text), check):
        start = match.start()
        text = "".join(chr(ord(character) - 0xE0000) for character in match.group())
        yield mapped(text, range(start, match.end()), range(start + 1, match.end() + 1), view)


_DIGIT_TYPES = frozenset({"CREDIT_CARD", "US_SSN", "IN_AADHAAR", "PL_PESEL", "DE_TAX_ID", "UK_NHS"})
# Types whose patterns allow no line break inside; those of digits do, and joining lines would glue columns of numbers.
_UNBROKEN = frozenset(
    {
        "API_KEY",
        "DATE_OF_BIRTH",
        "EMAIL_ADDRESS",
        "ES_NIF",
        "IBAN_CODE",
        "IP_ADDRESS",
        "IT_FISCAL_CODE",
        "JWT",
        "MAC_ADDRESS",
        "URL_CREDENTIALS",
    }
)

_ONE = r"[ \t\r\n]{1,3}\S"

READINGS: tuple[Reading, ...] = (
    Reading("escapes", (r"%[0-9A-Fa-f]{2}", r"&#?[0-9A-Za-z]{2,8}", r"\\[uUxnrt\"'/]"), _unescaped),
    Reading("base64", (r"[A-Za-z0-9+/_\-]{12}", r"[A-Za-z0-9+/_\-]{4}\r?\n[A-Za-z0-9+/_\-]{4}"), _base64),
    Reading("hex", (r"[0-9A-Za-z+/_\-]{12}", r"(?:[0-9A-Fa-f]{2}[ :,\-]{1,2}(?:0x)?){3}[0-9A-Fa-f]{2}"), _hex),
    Reading("spaced", (rf"(?:^|\s)\S(?:{_ONE}){{5}}\s",), _despaced),
    Reading("wrapped", (r"[0-9A-Za-z@._+/=:\-]\r?\n[0-9A-Za-z@._+/=:\-]",), _unwrapped, _UNBROKEN),
    Reading(
        "alike",
        (r"[0-9][ .\-]?[OoIl|SBZЗзбЧЅ][ .\-]?[0-9OoIl|SBZ]", r"[0-9]{2}[ .\-]?[OoIl|SBZЗзбЧЅ]"),
        _lookalikes,
        _DIGIT_TYPES,
    ),
)
