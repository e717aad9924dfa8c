"""The plainest answers: results that are a position and a score each, taken out before the rest is read.

Most answers are a list of hundreds of such pairs around a handful of other members. A pattern knows the list in one
pass; the members are parsed as strictly as ever. What the pattern does not know is no error: it is parsed as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from rankgate import jsontext
from rankgate.dialects.answering import AnswerShape
from rankgate.errors import GateError
from rankgate.jsontext import Edit, JsonText

__all__ = ["Listing", "read_listing"]

# Each bounded, so that none can be out of range, and what a number literal of RFC 8259 may be.
_INDEX = rb"(?:0|[1-9][0-9]{0,6}+)"
_SCORE = rb"-?(?:0|[1-9][0-9]{0,15}+)(?:\.[0-9]{1,20}+)?(?:[eE](?:-[0-9]{1,3}+|\+?[0-9]{1,2}+))?"
_SPACE = rb"[ \t\n\r]*+"
# What an entry adds to `jsontext.nodes`: its two names and numbers, its container, the comma.
_ENTRY_NODES = 5


@dataclass(frozen=True, slots=True)
class Listing:
    """An answer taken apart: `frame` is the answer with its array emptied of the bytes from `start` up to `end`."""

    frame: JsonText
    start: int
    end: int
    indices: tuple[int, ...]
    scores: tuple[str, ...]
    score_name: str

    def edits(self, of_frame: Sequence[Edit]) -> list[Edit]:
        """Return the edits of the answer that do what these do to its frame."""
        cut = self.end - self.start
        return [
            (begin, end, text) if end <= self.start else (begin + cut, end + cut, text) for begin, end, text in of_frame
        ]


def read_listing(shapes: Sequence[AnswerShape], body: bytes) -> Listing | None:
    """Return an answer in one of `shapes` whose results are all plain; None for every other, right or wrong."""
    for shape in shapes:
        for score_first in (False, True):
            array, entry = _patterns(shape.index, shape.score, score_first)
            if found := array.search(body):
                pairs = entry.findall(found[1])
                indices = tuple([int(pair[score_first]) for pair in pairs])
                scores = tuple([pair[not score_first].decode("ascii") for pair in pairs])
                return _listing(shapes, shape, body, found.span(1), indices, scores)
    return None


def _listing(
    shapes: Sequence[AnswerShape],
    shape: AnswerShape,
    body: bytes,
    cut: tuple[int, int],
    indices: tuple[int, ...],
    scores: tuple[str, ...],
) -> Listing | None:
    start, end = cut
    if len(set(indices)) != len(indices):
        return None
    rest = body[:start] + body[end:]
    if jsontext.nodes(rest) + _ENTRY_NODES * len(indices) > jsontext.MAX_NODES:
        return None
    try:
        frame = jsontext.parse(rest)
    except GateError:
        return None
    # The brackets around the entries are those of the results, and not of a text or of another array.
    if {one.results for one in shapes if isinstance(one.array(frame.value), list)} != {shape.results}:
        return None
    if jsontext.locate(frame, shape.pointer).start != start - 1:
        return None
    return Listing(frame, start, end, indices, scores, shape.score)


@lru_cache(maxsize=64)
def _patterns(index: str, score: str, score_first: bool) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Return the array with its entries as group 1, and one entry with the values of its members as groups."""

    def entry(number: bytes, fraction: bytes) -> bytes:
        members = [
            _SPACE.join((b'"' + name.encode("ascii") + b'"', b":", value))
            for name, value in ((index, number), (score, fraction))
        ]
        return _SPACE.join((rb"\{", members[score_first], b",", members[not score_first], rb"\}"))

    one = entry(_INDEX, _SCORE)
    more = _SPACE.join((b"", b",", one))
    array = rb"\[(%b(?:%b)*+%b)\]" % (_SPACE + one, more, _SPACE)
    return re.compile(array), re.compile(entry(b"(" + _INDEX + b")", b"(" + _SCORE + b")"))
