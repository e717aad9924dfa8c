"""The request side of a rerank API: which members hold what, and how documents leave the body."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from rankgate.dialects.forms import OBJECT, PARTS, STRING, Form, is_opaque
from rankgate.errors import GateError, Reason
from rankgate.jsontext import Edit, JsonText, Pointer, StringLiteral, elements, locate
from rankgate.request import RerankRequest, Role, Text

__all__ = ["RequestShape"]

# What some API calls its texts. Engines that speak two APIs take either, each with its own precedence.
_TEXT_MEMBERS = (
    "data", "data_1", "data_2", "documents", "input", "inputs", "items", "passages", "queries", "query", "records",
    "sources", "text_1", "text_2", "texts",
)  # fmt: skip
# What a body may claim about its documents; policy reads all of it on every request.
_MOST_LABELS = 32
_MOST_LABELS_IN_ALL = 4096
_LONGEST_LABEL = 64
_LONGEST_ID = 256


_TEXT_ONLY = "text: images, audio, video, token ids and embeddings cannot be inspected"


def _wrong(field: str, expected: str) -> NoReturn:
    # Both words come from a shape, never from the body.
    raise GateError(Reason.BODY_INVALID, f"{field} is not {expected}", public=f"field '{field}' must be {expected}")


@dataclass(frozen=True, slots=True)
class RequestShape:
    """The members of a request body; None where the API has no such member.

    `documents` is an array of `document_forms`, or with `single` one of them. `query` is one of `query_forms`, or
    with `paired` an array of them: one for all documents, or one for each. `least_top_n` 0 is for APIs in which 0
    asks for all. `echoes` is what the API does where `return_documents` is absent. Members named nowhere here are
    tolerated and left alone.
    """

    documents: str
    document_forms: tuple[Form, ...] = (STRING, OBJECT)
    single: bool = False
    query: str = "query"
    query_forms: tuple[Form, ...] = (STRING,)
    paired: bool = False
    operation: str = "rerank"
    instructions: tuple[str, ...] = ("instruction", "instruct")
    model: str | None = "model"
    top_n: str | None = "top_n"
    least_top_n: int = 1
    return_documents: str | None = "return_documents"
    echoes: bool = False

    def fits(self, body: Any) -> bool:
        """Tell whether `body` has the members for query and documents of this shape."""
        return isinstance(body, dict) and self.query in body and self.documents in body

    def read(self, json: JsonText, dialect: str, revision: int) -> RerankRequest:
        """Return the rerank call in `json`.

        Raises GateError(BODY_INVALID) naming the field that is wrong, never its content.
        """
        body = json.value
        if not isinstance(body, dict):
            raise GateError(Reason.BODY_INVALID, "not an object", public="the body must be a JSON object")
        self._refuse_rivals(body)
        documents = self._documents(body)
        query = self._query(body, len(documents))
        each = self._has_a_query_each(body)
        return RerankRequest(
            dialect=dialect,
            revision=revision,
            operation=self.operation,
            model=self._string(body, self.model),
            query=query,
            instruction=self._instruction(body),
            document_count=len(documents),
            texts=tuple(self._texts(json.strings, each)),
            top_n=self._top_n(body),
            return_documents=self._flag(body),
            ids=_ids(documents),
            labels=_labels(documents),
        )

    def drop(self, json: JsonText, request: RerankRequest, keep: Sequence[int]) -> list[Edit]:
        """Return the edits that leave only the documents at the positions `keep`, and no `top_n` beyond their number.

        A query that belongs to one document goes with it. The commas stay right and every other byte as it was.
        Nothing dropped: no edits. Raises ValueError where `keep` is empty, names a position twice or one that is not
        there.
        """
        kept = set(keep)
        if not kept or len(kept) != len(keep) or not kept <= set(range(request.document_count)):
            raise ValueError("keep must name some of the documents, each once")
        if len(kept) == request.document_count:
            return []
        edits = _without(json, (self.documents,), kept)
        if self._has_a_query_each(json.value):
            edits += _without(json, (self.query,), kept)
        if request.top_n is not None and request.top_n > len(kept):
            start, end = next((n.start, n.end) for n in json.numbers if n.pointer == (self.top_n,))
            edits.append((start, end, b"%d" % len(kept)))
        return edits

    def _refuse_rivals(self, body: dict[str, Any]) -> None:
        """Refuse members that an engine might read in place of those read here.

        Some engines match names in any case (Go's encoding/json, with Unicode folding): the documents they rank
        would not be the ones that policy saw and dropped from.
        """
        members = (self.documents, self.query, self.model, self.top_n, self.return_documents, *self.instructions)
        for key in body:
            name = key.casefold()
            if name in members:
                if name != key:
                    _wrong(name, "written in lower case")
            elif name in _TEXT_MEMBERS:
                _wrong(name, f"absent where '{self.documents}' is given")

    def _documents(self, body: dict[str, Any]) -> list[Any]:
        documents = body.get(self.documents)
        if self.single and (_is_one_of(self.document_forms, documents) or is_opaque(documents)):
            documents = [documents]
        if not isinstance(documents, list) or not documents:
            _wrong(self.documents, "a non-empty array")
        # Plain strings are what most calls rank, and of the first form of every API that takes them.
        plain = STRING in self.document_forms
        for document in documents:
            if not (plain and type(document) is str) and not _is_one_of(self.document_forms, document):
                _wrong_form(self.documents, document, f"an array of {_names(self.document_forms, many=True)}")
        return documents

    def _query(self, body: dict[str, Any], document_count: int) -> str:
        """Return the texts of the query or queries, one a line."""
        given = body.get(self.query)
        expected = _names(self.query_forms)
        queries = given if self.paired and isinstance(given, list) and not is_opaque(given) else [given]
        texts: list[str] = []
        for query in queries:
            read = next((found for form in self.query_forms if (found := form.read(query)) is not None), None)
            if read is None or not any(read):
                _wrong_form(self.query, query, expected)
            texts += read
        if len(queries) not in {1, document_count}:
            _wrong(self.query, f"{expected}, or an array with one for each of '{self.documents}'")
        return "\n".join(texts)

    def _has_a_query_each(self, body: dict[str, Any]) -> bool:
        return self.paired and isinstance(body[self.query], list) and len(body[self.query]) > 1

    def _instruction(self, body: dict[str, Any]) -> str | None:
        given = [name for name in self.instructions if body.get(name) is not None]
        if len(given) > 1:
            _wrong(given[0], f"absent where '{given[1]}' is given")
        return self._string(body, given[0]) if given else None

    def _string(self, body: dict[str, Any], name: str | None) -> str | None:
        value = None if name is None else body.get(name)
        if value is None or isinstance(value, str):
            return value
        _wrong(str(name), "a string")

    def _top_n(self, body: dict[str, Any]) -> int | None:
        value = None if self.top_n is None else body.get(self.top_n)
        if value is None:
            return None
        if type(value) is not int or value < self.least_top_n:
            _wrong(str(self.top_n), f"an integer of at least {self.least_top_n}")
        return value or None

    def _flag(self, body: dict[str, Any]) -> bool:
        value = None if self.return_documents is None else body.get(self.return_documents)
        if value is None:
            return self.echoes
        if isinstance(value, bool):
            return value
        _wrong(str(self.return_documents), "a boolean")

    def _texts(self, strings: Iterable[StringLiteral], a_query_each: bool) -> Iterator[Text]:
        document_parts, query_parts = PARTS in self.document_forms, PARTS in self.query_forms
        for ordinal, value, pointer, start, end in strings:
            member = pointer[0]
            place = pointer[1] if len(pointer) > 1 and isinstance(pointer[1], int) else None
            if member == self.documents and not (document_parts and _names_a_part(pointer)):
                yield Text(ordinal, Role.DOCUMENT, value, start, end, place or 0)
            elif member == self.query and not (query_parts and _names_a_part(pointer)):
                yield Text(ordinal, Role.QUERY, value, start, end, place if a_query_each else None)
            else:
                yield Text(ordinal, Role.INSTRUCTION if member in self.instructions else Role.OTHER, value, start, end)


def _is_one_of(forms: tuple[Form, ...], value: Any) -> bool:
    return any(form.read(value) is not None for form in forms)


def _names(forms: tuple[Form, ...], *, many: bool = False) -> str:
    return " or ".join(form.many if many else form.one for form in forms)


def _wrong_form(field: str, value: Any, expected: str) -> NoReturn:
    _wrong(field, _TEXT_ONLY if is_opaque(value) else expected)


def _names_a_part(pointer: Pointer) -> bool:
    """Tell whether this is the word `text` that says what kind of content a part is."""
    return pointer[-1] == "type" and pointer[-3:-2] == ("content",)


def _without(json: JsonText, array: tuple[str, ...], kept: set[int]) -> list[Edit]:
    """Remove elements: the first ones with the comma after them, all others with the comma before them."""
    spans = elements(json.body, locate(json, array).start)
    first = min(kept)
    edits: list[Edit] = [(spans[0].start, spans[first].start, b"")] if first else []
    edits += (
        (spans[position - 1].end, spans[position].end, b"")
        for position in range(first + 1, len(spans))
        if position not in kept
    )
    return edits


def _claims(documents: list[Any]) -> bool:
    """Tell whether any document can claim anything about itself: plain texts cannot."""
    return any(isinstance(document, dict) for document in documents)


def _ids(documents: list[Any]) -> tuple[str | None, ...]:
    if not _claims(documents):
        return ()
    ids = tuple(_member(document, "id", str) for document in documents)
    if any(id_ is not None and len(id_) > _LONGEST_ID for id_ in ids):
        _claims_too_much(f"an id of a document has at most {_LONGEST_ID} characters")
    return ids if any(id_ is not None for id_ in ids) else ()


def _labels(documents: list[Any]) -> tuple[tuple[str, ...], ...]:
    if not _claims(documents):
        return ()
    labels = tuple(_label_list(document) for document in documents)
    if sum(map(len, labels)) > _MOST_LABELS_IN_ALL:
        _claims_too_much(f"all documents together have at most {_MOST_LABELS_IN_ALL} labels")
    return labels if any(labels) else ()


def _label_list(document: Any) -> tuple[str, ...]:
    single = _member(document, "labels", str)
    listed = [single] if single is not None else _member(document, "labels", list) or []
    if len(listed) > _MOST_LABELS:
        _claims_too_much(f"a document has at most {_MOST_LABELS} labels")
    labels = tuple(label for label in listed if isinstance(label, str))
    if any(len(label) > _LONGEST_LABEL for label in labels):
        _claims_too_much(f"a label of a document has at most {_LONGEST_LABEL} characters")
    return labels


def _claims_too_much(limit: str) -> NoReturn:
    raise GateError(Reason.BODY_INVALID, limit, public=limit)


def _member(document: Any, name: str, kind: type) -> Any:
    value = document.get(name) if isinstance(document, dict) else None
    return value if isinstance(value, kind) else None
