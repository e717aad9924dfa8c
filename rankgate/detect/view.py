"""Text as detection reads it, with a way back to the characters it came from.

A view is a text and a function that maps a span of it to a span of the original. Folding (one view of it) takes
away what hides a value from a pattern: compatibility forms, other digits, invisible and combining characters,
look-alike letters, special dashes and spaces. No view is longer than four times its source.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

__all__ = ["Locate", "View", "fold", "folded", "mapped", "plain", "same", "stretches"]

Locate = Callable[[int, int], tuple[int, int]]

_REMEMBERED = 16_384
_LONGEST = 4
_KEPT_CONTROLS = frozenset("\t\n\r")
_DOTS = "·•∙⋅。｡․‧"
_DASHES = "−‐‑‒–—―﹘﹣－⁃➖ー"
_BLANKS = "\u3164\u115f\u1160\uffa0\u2800"
# Letters of other scripts that look like a Latin one. Digits that look like letters are `decode.lookalikes`.
_LOOKALIKES = {
    look: reads
    for looks, latin in (
        ("аеорсухіјѕԁԛԝһкмтвнүӏ", "aeopcyxijsdqwhkmtbhyl"),
        ("АВЕКМНОРСТХУІЈЅԚԜҮӀ", "ABEKMHOPCTXYIJSQWYI"),
        ("αορτυικχνεϲ", "aoptuikxvec"),
        ("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧϹ", "ABEZHIKMNOPTYXC"),
        ("ɑɡıɩոսօʟǀ", "agiinuoLl"),
    )
    for look, reads in zip(looks, latin, strict=True)
}


@dataclass(frozen=True, slots=True)
class View:
    """A text to inspect; `locate(start, end)` gives the span of the original it stands for."""

    text: str
    locate: Locate


def plain(text: str) -> View:
    """Return `text` as its own view."""
    return View(text, same)


def same(start: int, end: int) -> tuple[int, int]:
    """Return the span as it is: the way back from a text to itself."""
    return start, end


def mapped(text: str, starts: Sequence[int], ends: Sequence[int], parent: View) -> View:
    """Return a view of `parent` where character i of `text` stands for `parent.text[starts[i]:ends[i]]`."""
    return View(text, lambda start, end: parent.locate(starts[start], ends[end - 1]))


def stretches(spans: Sequence[tuple[int, int]], parent: View) -> View:
    """Return the view of `parent` that shows the spans, which are in order and not empty, and nothing between."""
    text = "".join([parent.text[start:end] for start, end in spans])
    places = [0, *accumulate(end - start for start, end in spans)]

    def locate(start: int, end: int) -> tuple[int, int]:
        first, last = bisect_right(places, start) - 1, bisect_right(places, end - 1) - 1
        return parent.locate(spans[first][0] + start - places[first], spans[last][0] + end - places[last])

    return View(text, locate)


def fold(character: str) -> str:
    """Return what one character reads as: nothing for invisible ones, a Latin look-alike, or itself."""
    if character < "\x80":
        return character if " " <= character != "\x7f" or character in _KEPT_CONTROLS else ""
    if character in _LOOKALIKES:
        return _LOOKALIKES[character]
    if character in _BLANKS:
        return ""
    if character in _DASHES:
        return "-"
    if character in _DOTS:
        return "."
    category = unicodedata.category(character)
    if category in {"Cf", "Mn", "Me", "Cc"}:
        return "\n" if character == "\x85" else ""
    if category == "Cs":
        return "\ufffd"
    if category in {"Zs", "Zl", "Zp"}:
        return "\n" if category != "Zs" else " "
    if category == "Pd":
        return "-"
    digit = unicodedata.digit(character, None)
    if digit is not None:
        return str(digit)
    return _compatible(character)


def _compatible(character: str) -> str:
    """Decompose, drop the marks, and fold what came out; expansions beyond four characters are left alone."""
    parts = unicodedata.normalize("NFKD", character)
    if parts == character:
        enclosed = ord(character)
        for first in (0x1F150, 0x1F170):
            if first <= enclosed < first + 26:
                return chr(ord("A") + enclosed - first)
        return character
    read = "".join(
        _LOOKALIKES.get(part, part) for part in parts if unicodedata.category(part) not in {"Mn", "Me", "Cf"}
    )
    return read if len(read) <= _LONGEST else character


class _Table(dict[int, str]):
    """The translate table of `fold`, filled as characters are met and bounded."""

    def __missing__(self, code: int) -> str:
        read = fold(chr(code))
        if len(self) < _REMEMBERED:
            self[code] = read
        return read


_TABLE = _Table()


class _Back:
    """The way from a folded text to its source, worked out only when something was found."""

    __slots__ = ("_parent", "_source", "_starts")

    def __init__(self, parent: View) -> None:
        self._parent = parent
        self._source = parent.text
        self._starts: list[int] | None = None

    def __call__(self, start: int, end: int) -> tuple[int, int]:
        if self._starts is None:
            lengths = [len(_TABLE[ord(character)]) for character in self._source]
            self._starts = [index for index, length in enumerate(lengths) for _ in range(length)]
            self._starts.append(len(self._source))
        # Up to where the next visible character starts: marks that follow belong to the value.
        stop = max(self._starts[end], self._starts[end - 1] + 1)
        return self._parent.locate(self._starts[start], stop)


def folded(view: View) -> View:
    """Return `view` as it reads: the same object where nothing is to fold."""
    text = view.text
    # Printable but for line ends and tabs: the common case, told apart far faster than by translating.
    if text.isascii() and text.replace("\n", "").replace("\r", "").replace("\t", "").isprintable():
        return view
    read = text.translate(_TABLE)
    return view if read == text else View(read, _Back(view))
