"""Untrusted JSON, read strictly and edited byte for byte.

Two readers that disagree about a body are a way around every check, so whatever another parser might read differently
is refused: duplicate members, lone surrogates, NaN, numbers out of range, other encodings, anything after the value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from math import isinf
from typing import Any, NamedTuple, NoReturn

from rankgate.errors import GateError, Reason

__all__ = [
    "MAX_NODES",
    "MAX_NUMBER",
    "Edit",
    "JsonText",
    "NumberLiteral",
    "Pointer",
    "Span",
    "StringLiteral",
    "decode",
    "elements",
    "encode",
    "locate",
    "members",
    "nodes",
    "parse",
    "parse_effort",
    "splice",
]

MAX_NODES = 100_000
"""Most keys and values of one body, together; an empty container counts twice."""
MAX_NUMBER = 64
"""Longest number literal, in characters."""

Pointer = tuple[str | int, ...]
"""Where a value stands: member names and array positions from the root."""
Edit = tuple[int, int, bytes]
"""Replace the bytes from start up to end by these."""


class Span(NamedTuple):
    """The bytes of one value, without the white space around it."""

    start: int
    end: int


# Tuples, not dataclasses: one is made for every literal of every body, at a third of the cost.
class StringLiteral(NamedTuple):
    """A string value (never a key); `ordinal` counts them in document order, the span holds the quotes."""

    ordinal: int
    value: str
    pointer: Pointer
    start: int
    end: int


class NumberLiteral(NamedTuple):
    """A number as it is written."""

    text: str
    pointer: Pointer
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class JsonText:
    """A body with what it says and where it says it; every offset counts bytes of `body`."""

    body: bytes = field(repr=False)
    value: Any = field(repr=False)
    strings: tuple[StringLiteral, ...] = field(repr=False)
    keys: tuple[str, ...] = field(repr=False)
    numbers: tuple[NumberLiteral, ...] = field(repr=False)

    @property
    def held_bytes(self) -> int:
        """Return an estimate, rather too high, of the memory this takes: small values weigh more than their text."""
        return 3 * len(self.body) + _LITERAL_BYTES * (len(self.strings) + len(self.numbers) + len(self.keys))


# A value, where it stands and its way there from the root, and a finding's share; measured in tests.
_LITERAL_BYTES = 640
_SPACE = b" \t\n\r"
# These run over a body without escaped quotes (see _flat), in linear time even where a string has no end.
_KEY = re.compile(rb'("[^"]*+")[ \t\n\r]*+:')
_NUMBER = re.compile(rb"-?[0-9][0-9.eE+-]*+")
_STRUCTURE = re.compile(rb'"[^"]*+"|[\[\]{},]')
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def _refuse(what: str) -> NoReturn:
    raise GateError(Reason.BODY_INVALID, what, public=what) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        _refuse("the body has a duplicate member")
    return members


def _int(literal: str) -> int:
    if len(literal) > MAX_NUMBER:
        _refuse("the body has a number that is too long")
    return int(literal)


def _float(literal: str) -> float:
    if len(literal) > MAX_NUMBER:
        _refuse("the body has a number that is too long")
    value = float(literal)
    if isinf(value):
        _refuse("the body has a number out of range")
    return value


def _constant(_: str) -> NoReturn:
    _refuse("the body has NaN or Infinity, which JSON does not know")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_int, parse_float=_float, parse_constant=_constant)
_ENCODER = json.JSONEncoder(ensure_ascii=False)


def parse(body: bytes, *, max_depth: int = 64) -> JsonText:
    """Read one JSON value in UTF-8 (RFC 8259) and the place of every literal in it.

    `max_depth` is the deepest nesting of containers. Raises GateError(BODY_INVALID) whose text says which rule was
    broken and nothing of the content. Linear in the size of the body.
    """
    if body.startswith(b"\xef\xbb\xbf"):
        _refuse("the body starts with a byte order mark")
    if b"\0" in body:
        # Never in JSON; this is how UTF-16 and UTF-32 without a mark look.
        _refuse("the body is not JSON in UTF-8")
    # Every value takes a byte at least.
    if len(body) > MAX_NODES and nodes(body) > MAX_NODES and _has_too_many_nodes(_flat(body)):
        _refuse("the body has too many values")
    try:
        value = _DECODER.decode(body.decode("utf-8"))
    except UnicodeDecodeError:
        _refuse("the body is not JSON in UTF-8")
    except json.JSONDecodeError:
        _refuse("the body is not valid JSON")
    except RecursionError:
        _refuse("the body is nested too deeply")
    text = _read(body, value, max_depth)
    if _ESCAPED_SURROGATE.search(body) and _holds_surrogate(text):
        _refuse("the body has half of a surrogate pair")
    return text


def parse_effort(body: bytes) -> int:
    """Return the effort of `parse`: one for each value that may be there, and a little for each byte."""
    return body.count(b",") + body.count(b"[") + body.count(b"{") + len(body) // 64


def _flat(body: bytes) -> bytes:
    """Return `body` with escaped quotes and backslashes painted over, every other byte at its place.

    A run of backslashes in valid JSON begins with an escape, so taking pairs from the left is exact.
    """
    return body.replace(rb"\\", b"__").replace(rb"\"", b"__") if b"\\" in body else body


def nodes(body: bytes) -> int:
    """Return how many keys and values `body` may hold: exact where no string or empty container stands in it."""
    return 1 + body.count(b",") + body.count(b":") + body.count(b"[") + body.count(b"{")


def _has_too_many_nodes(flat: bytes) -> bool:
    # Strings alone are counted first: taking very many of them out costs far more than parsing what is allowed.
    return flat.count(b'"') // 2 > MAX_NODES or nodes(b"".join(flat.split(b'"')[::2])) > MAX_NODES


def _holds_surrogate(text: JsonText) -> bool:
    return any(map(_SURROGATE.search, text.keys)) or any(_SURROGATE.search(s.value) for s in text.strings)


def _read(body: bytes, value: Any, max_depth: int) -> JsonText:
    """Walk the parsed `value` and count the literals of `body` in step: both are in document order."""
    pieces = _flat(body).split(b'"')
    # Before quote k stand k quotes and these many other bytes.
    others = list(accumulate(map(len, pieces)))
    literals = _numbers(pieces, others)
    strings: list[StringLiteral] = []
    keys: list[str] = []
    numbers: list[NumberLiteral] = []

    def visit(value: Any, pointer: Pointer, depth: int) -> None:
        kind = type(value)
        if kind is str:
            quote = 2 * (len(strings) + len(keys))
            start, end = others[quote] + quote, others[quote + 1] + quote + 2
            strings.append(StringLiteral(len(strings), value, pointer, start, end))
        elif kind is int or kind is float:
            text, start = next(literals)
            numbers.append(NumberLiteral(text, pointer, start, start + len(text)))
        elif kind is dict or kind is list:
            if depth == max_depth:
                _refuse("the body is nested too deeply")
            if kind is list:
                for position, child in enumerate(value):
                    visit(child, (*pointer, position), depth + 1)
            else:
                for key, child in value.items():
                    keys.append(key)
                    visit(child, (*pointer, key), depth + 1)

    try:
        visit(value, (), 0)
    except (IndexError, StopIteration):
        _refuse("the body is not valid JSON")
    if 2 * (len(strings) + len(keys)) != len(pieces) - 1 or next(literals, None) is not None:
        _refuse("the body is not valid JSON")
    return JsonText(body, value, tuple(strings), tuple(keys), tuple(numbers))


def _numbers(pieces: list[bytes], others: list[int]) -> Iterator[tuple[str, int]]:
    """Yield the number literals between the strings of a body that was split at its quotes, and where they begin."""
    between = b'"'.join(pieces[::2])
    piece = done = 0
    opened = -1  # where the piece's quote stands
    for literal in _NUMBER.finditer(between):
        begin = literal.start()
        # Never further back than the number before, or many numbers would take the square of their time.
        if quotes := between.count(b'"', done, begin):
            piece, opened = piece + quotes, between.rfind(b'"', done, begin)
        done, inside = begin, begin - opened - 1
        yield literal[0].decode("ascii"), others[2 * piece] + 2 * piece - len(pieces[2 * piece]) + inside


def locate(text: JsonText, pointer: Pointer) -> Span:
    """Return the bytes of the value at `pointer`. Raises LookupError where there is none."""
    body = text.body
    span = _strip(body, 0, len(body))
    for step in pointer:
        span = members(body, span.start)[step] if isinstance(step, str) else elements(body, span.start)[step]
    return span


def elements(body: bytes, start: int) -> tuple[Span, ...]:
    """Return the spans of an array's elements; its `[` is at `start` of valid JSON. Raises ValueError otherwise."""
    if body[start : start + 1] != b"[":
        raise ValueError("no array starts here")
    return tuple(_slots(_flat(body), start))


def members(body: bytes, start: int) -> dict[str, Span]:
    """Return the spans of an object's values; its `{` is at `start` of valid JSON. Raises ValueError otherwise."""
    if body[start : start + 1] != b"{":
        raise ValueError("no object starts here")
    flat = _flat(body)
    spans: dict[str, Span] = {}
    for slot in _slots(flat, start):
        key = _KEY.match(flat, slot.start)
        if key is None:
            raise ValueError("a member without a key")
        spans[json.loads(body[slice(*key.span(1))])] = _strip(body, key.end(), slot.end)
    return spans


def _slots(flat: bytes, start: int) -> Iterator[Span]:
    """Yield what stands between the separators of the container at `start` of a flat body."""
    depth, begin = 0, start + 1
    for token in _STRUCTURE.finditer(flat, start):
        mark = flat[token.start()]
        if mark in b"[{":
            depth += 1
        elif mark in b"]}":
            depth -= 1
        if (depth == 1 and mark in b",") or depth == 0:
            slot = _strip(flat, begin, token.start())
            if slot.start < slot.end:
                yield slot
            begin = token.end()
        if depth == 0:
            return
    raise ValueError("a container without an end")


def _strip(body: bytes, start: int, end: int) -> Span:
    while start < end and body[start] in _SPACE:
        start += 1
    while end > start and body[end - 1] in _SPACE:
        end -= 1
    return Span(start, end)


def splice(body: bytes, edits: Iterable[Edit]) -> bytes:
    """Return `body` with `edits` made, in whatever order they come, and every other byte as it was.

    Insertions at one place stay in the given order. Raises ValueError where two overlap or one leaves the body.
    """
    parts: list[bytes] = []
    done = 0
    for start, end, replacement in sorted(edits, key=lambda edit: edit[:2]):
        if not done <= start <= end <= len(body):
            raise ValueError("edits overlap or leave the body")
        parts += (body[done:start], replacement)
        done = end
    parts.append(body[done:])
    return b"".join(parts)


def decode(literal: bytes) -> str:
    """Return what a JSON string literal says; raises ValueError where it is none."""
    if len(literal) < 2 or literal[:1] != b'"' or literal[-1:] != b'"':
        raise ValueError("not a string literal")
    if b"\\" not in literal:
        return literal[1:-1].decode("utf-8")
    return str(_DECODER.decode(literal.decode("utf-8")))


def encode(text: str) -> bytes:
    """Return `text` as a JSON string literal in UTF-8; only what must be escaped is, and U+2028 and U+2029.

    Raises ValueError for half of a surrogate pair.
    """
    literal = _ENCODER.encode(text).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    try:
        return literal.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair has no UTF-8 form") from None
