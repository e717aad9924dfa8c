"""The answer side of a rerank API: where the results stand, and how dropped documents come back into them."""

from __future__ import annotations

import json as stdlib_json
from bisect import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rankgate.errors import GateError, Reason
from rankgate.jsontext import Edit, JsonText, NumberLiteral, Pointer, Span, elements, locate
from rankgate.request import RerankRequest

__all__ = ["AnswerShape", "DropMode", "Result", "drop_mode", "empty_answer", "restore", "results"]

DropMode = Literal["omit", "floor"]
"""`omit` leaves dropped documents out; `floor` lists them last, for clients that expect every document back."""

_FLOOR = "0.0"


@dataclass(frozen=True, slots=True)
class AnswerShape:
    """One form of answer: the member that holds the results (None: the answer is the array) and a result's members.

    `logits`: scores have no lower bound. `in_order`: results stand in the order of the documents, one for each, and
    are joined by place. `result_also` and `answer_also` are members, as JSON, that clients look for in a result and
    in an answer made here.
    """

    results: str | None
    score: str
    echo: tuple[str, ...] = ()
    index: str = "index"
    logits: bool = False
    in_order: bool = False
    result_also: str = ""
    answer_also: str = ""

    @property
    def pointer(self) -> Pointer:
        """Return where the array of results stands."""
        return () if self.results is None else (self.results,)

    def array(self, answer: Any) -> Any:
        """Return what stands where the results should."""
        if self.results is None:
            return answer
        return answer.get(self.results) if isinstance(answer, dict) else None

    def fits(self, answer: Any) -> bool:
        """Tell whether `answer` has results of this form; an empty array fits."""
        array = self.array(answer)
        return isinstance(array, list) and all(
            isinstance(result, dict) and self.index in result and self.score in result for result in array
        )

    def entry(self, position: int, score: str) -> bytes:
        """Return a result that says nothing of the document but its position and score."""
        also = self.result_also and f",{self.result_also}"
        return f'{{"{self.index}":{position},"{self.score}":{score}{also}}}'.encode("ascii")

    def whole(self, array: bytes) -> bytes:
        """Return an answer around an array of results."""
        if self.results is None:
            return array
        also = self.answer_also and f",{self.answer_also}"
        return b'{"%b":%b%b}' % (self.results.encode("ascii"), array, also.encode("ascii"))

    def floor(self, scores: Iterable[float]) -> str:
        """Return a score not above any of `scores`: 0 below relevance scores, one less than the lowest of logits."""
        lowest = min((0.0, *scores))
        return stdlib_json.dumps(lowest - 1) if self.logits or lowest < 0 else _FLOOR


@dataclass(frozen=True, slots=True)
class Result:
    """One result: `index` as the engine gave it, byte spans, and the ordinals of the strings of the echoed document."""

    index: int
    index_span: Span
    score: float
    score_span: Span
    echo: tuple[int, ...] = ()


def results(shapes: Sequence[AnswerShape], json: JsonText) -> tuple[Result, ...]:
    """Return the results in the order of the answer.

    Raises GateError(UPSTREAM_INVALID) unless the answer has exactly one of `shapes`, every index is a whole number
    of at least 0 given once, and every score is a number. Only `restore` knows how many documents were sent.
    """
    shape = _shape(shapes, json)
    numbers = {number.pointer: number for number in json.numbers}
    echoes = _echoes(shape, json)
    found = []
    for place in range(len(shape.array(json.value))):
        index = _number(numbers, (*shape.pointer, place, shape.index))
        score = _number(numbers, (*shape.pointer, place, shape.score))
        if not index.text.isdigit():
            raise GateError(Reason.UPSTREAM_INVALID, "an index is not a whole number")
        found.append(
            Result(
                index=int(index.text),
                index_span=Span(index.start, index.end),
                score=float(score.text),
                score_span=Span(score.start, score.end),
                echo=tuple(echoes.get(place, ())),
            )
        )
    if len({result.index for result in found}) != len(found):
        raise GateError(Reason.UPSTREAM_INVALID, "an index is given twice")
    return tuple(found)


def restore(
    shapes: Sequence[AnswerShape], json: JsonText, found: Sequence[Result], kept: Sequence[int],
    document_count: int, mode: DropMode, top_n: int | None,
) -> list[Edit]:  # fmt: skip
    """Return the edits that turn indices into what was sent (`kept`) into positions in what the caller sent.

    `floor` adds the documents that were not sent, without text and with a score not above the lowest real one: at
    the end, as far as `top_n` allows, or at their places where results stand in order. Raises
    GateError(UPSTREAM_INVALID) for an index of no document that was sent, and for results that are out of order.
    """
    if any(result.index >= len(kept) for result in found):
        raise GateError(Reason.UPSTREAM_INVALID, "an index is out of range")
    edits: list[Edit] = [
        (*result.index_span, b"%d" % kept[result.index]) for result in found if kept[result.index] != result.index
    ]
    sent = set(kept)
    dropped = [position for position in range(document_count) if position not in sent]
    if mode == "omit" or not dropped:
        return edits
    shape = _shape(shapes, json)
    score = shape.floor(result.score for result in found)
    if shape.in_order:
        if [result.index for result in found] != list(range(len(kept))):
            raise GateError(Reason.UPSTREAM_INVALID, "results are not in the order of the documents")
        return edits + _between(shape, json, dropped, kept, score)
    if room := _room(top_n, len(found), dropped):
        entries = b",".join(shape.entry(position, score) for position in room)
        end = _end_of_entries(json, shape)
        edits.append((end, end, b"," + entries if found else entries))
    return edits


def empty_answer(shape: AnswerShape, request: RerankRequest, mode: DropMode) -> bytes:
    """Return the answer to a request none of whose documents may be ranked."""
    positions = _room(request.top_n, 0, range(request.document_count)) if mode == "floor" else ()
    score = shape.floor(())
    return shape.whole(b"[" + b",".join(shape.entry(position, score) for position in positions) + b"]")


def drop_mode(
    shape: AnswerShape, configured: Literal["auto", "omit", "floor"], top_n: int | None, sent_count: int
) -> DropMode:
    """Return how dropped documents show: `auto` is `floor` where the caller expects all its documents back.

    `sent_count` is how many documents the caller sent. Results that stand in order leave no choice: a missing one
    would give the score of one document to another.
    """
    if shape.in_order:
        return "floor"
    if configured != "auto":
        return configured
    return "floor" if top_n is None or top_n >= sent_count else "omit"


def _shape(shapes: Sequence[AnswerShape], json: JsonText) -> AnswerShape:
    fitting = [shape for shape in shapes if shape.fits(json.value)]
    if len({shape.results for shape in fitting}) != 1:
        raise GateError(Reason.UPSTREAM_INVALID, "not one of the known forms of answer")
    return fitting[0]


def _end_of_entries(json: JsonText, shape: AnswerShape) -> int:
    """Return the offset after the last result, before any white space in front of the array's end."""
    array = locate(json, shape.pointer)
    return array.start + len(json.body[array.start : array.end - 1].rstrip())


def _between(shape: AnswerShape, json: JsonText, dropped: Sequence[int], kept: Sequence[int], score: str) -> list[Edit]:
    """Return the edits that put a result at the place of each document in `dropped`; one stands for each in `kept`."""
    spans = elements(json.body, locate(json, shape.pointer).start)
    edits: list[Edit] = []
    for position in dropped:
        place = bisect(kept, position)
        if place < len(spans):
            edits.append((spans[place].start, spans[place].start, shape.entry(position, score) + b","))
        else:
            edits.append((spans[-1].end, spans[-1].end, b"," + shape.entry(position, score)))
    return edits


def _number(numbers: dict[Pointer, NumberLiteral], pointer: Pointer) -> NumberLiteral:
    number = numbers.get(pointer)
    if number is None:
        raise GateError(Reason.UPSTREAM_INVALID, "an index or score is not a number")
    return number


def _echoes(shape: AnswerShape, json: JsonText) -> dict[int, list[int]]:
    """Return the ordinals of the strings of each echoed document, by the place of its result."""
    depth = len(shape.pointer)
    echoes: dict[int, list[int]] = {}
    for string in json.strings:
        pointer = string.pointer
        if len(pointer) > depth + 1 and pointer[:depth] == shape.pointer and pointer[depth + 1] in shape.echo:
            place = pointer[depth]
            if isinstance(place, int):
                echoes.setdefault(place, []).append(string.ordinal)
    return echoes


def _room(top_n: int | None, taken: int, positions: Sequence[int]) -> Sequence[int]:
    return positions if top_n is None else positions[: max(0, top_n - taken)]
