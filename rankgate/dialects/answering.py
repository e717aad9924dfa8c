"""The answer side of a rerank API: where the results stand, and how dropped documents come back into them."""

from __future__ import annotations

import json as stdlib_json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rankgate.errors import GateError, Reason
from rankgate.jsontext import Edit, JsonText, NumberLiteral, Pointer, Span, locate
from rankgate.request import RerankRequest

__all__ = ["AnswerShape", "DropMode", "Result", "drop_mode", "empty_answer", "restore", "results"]

DropMode = Literal["omit", "floor"]
"""`omit` leaves dropped documents out; `floor` lists them last, for clients that expect every document back."""

_FLOOR = "0.0"


@dataclass(frozen=True, slots=True)
class AnswerShape:
    """One form of answer: the member that holds the results (None: the answer is the array) and a result's members."""

    results: str | None
    score: str
    echo: tuple[str, ...] = ()
    index: str = "index"

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
        return f'{{"{self.index}":{position},"{self.score}":{score}}}'.encode("ascii")


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

    `floor` appends the documents that were not sent, without text and with a score not above the lowest real one,
    as far as `top_n` allows. Raises GateError(UPSTREAM_INVALID) for an index of no document that was sent.
    """
    if any(result.index >= len(kept) for result in found):
        raise GateError(Reason.UPSTREAM_INVALID, "an index is out of range")
    edits: list[Edit] = [
        (*result.index_span, b"%d" % kept[result.index]) for result in found if kept[result.index] != result.index
    ]
    sent = set(kept)
    dropped = [position for position in range(document_count) if position not in sent]
    if mode == "floor" and (room := _room(top_n, len(found), dropped)):
        shape = _shape(shapes, json)
        score = _floor(result.score for result in found)
        entries = b",".join(shape.entry(position, score) for position in room)
        end = _end_of_entries(json, shape)
        edits.append((end, end, b"," + entries if found else entries))
    return edits


def empty_answer(shape: AnswerShape, request: RerankRequest, mode: DropMode) -> bytes:
    """Return the answer to a request none of whose documents may be ranked."""
    positions = _room(request.top_n, 0, range(request.document_count)) if mode == "floor" else ()
    array = b"[" + b",".join(shape.entry(position, _FLOOR) for position in positions) + b"]"
    return array if shape.results is None else b'{"' + shape.results.encode("ascii") + b'":' + array + b"}"


def drop_mode(configured: Literal["auto", "omit", "floor"], top_n: int | None, sent_count: int) -> DropMode:
    """Return how dropped documents show: `auto` is `floor` where the caller expects all its documents back.

    `sent_count` is how many documents the caller sent.
    """
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


def _floor(scores: Iterable[float]) -> str:
    """Return a score for what was not ranked: 0 below relevance scores, one less than the lowest of logits."""
    lowest = min(scores, default=0.0)
    return _FLOOR if lowest >= 0 else stdlib_json.dumps(lowest - 1)
