"""Words near a value that make it more or less likely to be sensitive."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice

import re2

__all__ = ["PHONE", "SERIAL", "Nearby", "Words"]

_BEFORE = 48
_CLOSE = 24
_AFTER = 16
_MOST = 128


class Words:
    """A set of words to look for, as an RE2 pattern: linear, and fast enough to run over every window.

    `beyond` is what to assume where a window holds too many of them to look at: that one is near everything, or near
    nothing. It is chosen so that more is masked.
    """

    __slots__ = ("_pattern", "beyond")

    def __init__(self, pattern: str, *, beyond: bool = True) -> None:
        self._pattern = re2.compile(f"(?i:{pattern})")
        self.beyond = beyond

    def each(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield where the words occur, in order, looking no further than asked."""
        return (match.span() for match in self._pattern.finditer(text))

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return where the words occur, in order."""
        return list(self.each(text))


class Nearby:
    """Answers, for one text, whether words stand near a place; each set of words is looked for once."""

    __slots__ = ("_found", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._found: dict[Words, list[int]] = {}

    def has(self, words: Words, start: int, end: int) -> bool:
        """Return whether a word begins within 48 characters before `start`, or within 16 after `end`."""
        starts = self._starts(words)
        if not starts:
            return False
        if len(starts) > _MOST:
            return words.beyond
        if self.just_before(words, start, _BEFORE):
            return True
        index = bisect_left(starts, end)
        return index < len(starts) and starts[index] < end + _AFTER

    def just_before(self, words: Words, start: int, reach: int = _CLOSE) -> bool:
        """Return whether a word begins within `reach` characters before `start`."""
        starts = self._starts(words)
        if len(starts) > _MOST:
            return words.beyond
        index = bisect_left(starts, start - reach)
        return index < len(starts) and starts[index] < start

    def _starts(self, words: Words) -> list[int]:
        starts = self._found.get(words)
        if starts is None:
            starts = self._found[words] = [first for first, _ in islice(words.each(self._text), _MOST + 1)]
        return starts


PHONE = Words(
    r"phone|mobile|\bcell|\btel\b|telef|\bfax|whatsapp|\bsms\b|\bcall(?:ing|ed)?\b|\bdial|\bring\b|\breach|hotline|"
    r"helpline|\btext (?:me|us|him|her)|contact|movil|handy|rufnummer|anruf|cellulare|portable|appel|llam|"
    r"\bph[.:]|\bmob\b|signal\b"
)
# Numbers that are counted or issued by a machine, and so are not a person's.
SERIAL = Words(
    r"order|invoice|\bref\b|reference|ticket|tracking|\bsku\b|part (?:no|number)|serial|batch|\blot\b|isbn|issn|"
    r"\bean\b|\bupc\b|barcode|model|version|build|commit|item|product|article|case (?:no|number)|po number|"
    r"transaction|shipment|\bids?\b|uuid|hash|total|amount|price|bestell|rechnung|artikel|commande|facture|"
    r"pedido|factura|timestamp|epoch|checksum|row|record|confirmation|booking|\bdoi\b|patent|#",
    beyond=False,
)
