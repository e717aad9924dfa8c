"""The request nouns: what Envoy delivered, and the rerank call a dialect read out of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

__all__ = ["HttpRequest", "RerankRequest", "Role", "Text"]


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One call as Envoy delivered it. Nothing in it is trusted.

    `headers` keeps order, duplicates and bytes; names are lower case. `path` has no query string.
    """

    id: str
    method: str
    path: str
    query: str
    host: str
    scheme: str
    protocol: str
    headers: tuple[tuple[str, bytes], ...]
    body: bytes
    route: str
    source_address: str
    attributes: dict[str, object] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def unreadable(cls) -> HttpRequest:
        """Return what is known of a call that could not be read: nothing."""
        return cls("", "", "", "", "", "", "", (), b"", "", "")

    def values(self, name: str) -> list[bytes]:
        """Return every value of the header `name` (lower case), in order."""
        return [value for key, value in self.headers if key == name]


class Role(StrEnum):
    """What a text is for in a rerank call."""

    QUERY = "query"
    INSTRUCTION = "instruction"
    DOCUMENT = "document"
    OTHER = "other"


# A tuple, not a dataclass: one is made for every string of every body, at a third of the cost.
class Text(NamedTuple):
    """One string value of a JSON body.

    `ordinal` counts string values (not keys) in document order; `start` and `end` are the byte offsets of
    its literal in the body, quotes included. `position` is the document's index, for Role.DOCUMENT and for the
    query of an API that pairs each document with one of its own: such a query leaves with its document.
    """

    ordinal: int
    role: Role
    value: str
    start: int
    end: int
    position: int | None = None


@dataclass(frozen=True, slots=True)
class RerankRequest:
    """The rerank call, whatever API it came in.

    `texts` holds every string value of the body, so that nothing is left uninspected; several queries stand in
    `query` one a line; `top_n` is None where the caller gave none. `labels` and `ids` are what the body claims about
    its documents: advisory.
    """

    dialect: str
    revision: int
    operation: str
    model: str | None
    query: str
    instruction: str | None
    document_count: int
    texts: tuple[Text, ...]
    top_n: int | None
    return_documents: bool
    ids: tuple[str | None, ...] = ()
    labels: tuple[tuple[str, ...], ...] = ()

    def of_document(self, position: int) -> Iterator[Text]:
        """Yield the texts of the document at `position`."""
        return (text for text in self.texts if text.role is Role.DOCUMENT and text.position == position)
