"""The words of one call's conversation: what Envoy reports, and what it is told to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = [
    "Abort", "Action", "Event", "Headers", "Pass", "Refuse", "RequestBody", "RequestHeaders", "RequestTrailers",
    "ResponseBody", "ResponseHeaders", "ResponseTrailers",
]  # fmt: skip

Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class RequestHeaders:
    """The caller's headers; `buffered` tells whether both bodies will come whole."""

    headers: Headers
    end: bool
    handoff: Mapping[str, object] | None
    buffered: bool | None


@dataclass(frozen=True, slots=True)
class RequestBody:
    """The caller's whole body."""

    body: bytes


@dataclass(frozen=True, slots=True)
class RequestTrailers:
    """Names of the caller's trailers."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ResponseHeaders:
    """Headers of the reranker's answer, or of Envoy's own reply where `local`."""

    headers: Headers
    end: bool
    local: bool
    buffered: bool | None


@dataclass(frozen=True, slots=True)
class ResponseBody:
    """The whole body of the answer."""

    body: bytes


@dataclass(frozen=True, slots=True)
class ResponseTrailers:
    """Names of the answer's trailers."""

    names: tuple[str, ...]


Event = RequestHeaders | RequestBody | RequestTrailers | ResponseHeaders | ResponseBody | ResponseTrailers


@dataclass(frozen=True, slots=True)
class Pass:
    """Go on, with these changes. `body` None keeps the bytes."""

    body: bytes | None = None
    set_headers: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refuse:
    """End the call with this answer. `details` is a constant word for Envoy's access log."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    details: str


@dataclass(frozen=True, slots=True)
class Abort:
    """End the stream with an error status and this constant word."""

    word: str


Action = Pass | Refuse | Abort
