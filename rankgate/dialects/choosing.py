"""Which API a call speaks: the route's setting, then the path, then the members of the body."""

from __future__ import annotations

from rankgate.dialects.cohere import V1, V2
from rankgate.dialects.dialect import Dialect
from rankgate.dialects.generic import GENERIC
from rankgate.dialects.tei import TEI
from rankgate.errors import GateError, Reason
from rankgate.jsontext import JsonText

__all__ = ["AUTO", "NAMES", "by_name", "choose", "for_path"]

AUTO = "auto"
_DIALECTS = {dialect.name: dialect for dialect in (V1, V2, TEI, GENERIC)}
NAMES = tuple(_DIALECTS)

# Engines of other makers serve Cohere's v1 path too; these members are theirs alone.
_NOT_COHERE = frozenset(
    {"instruct", "instruction", "kwargs", "mm_processor_kwargs", "overlap_tokens", "raw_scores", "return_len"}
    | {"top_k", "truncate_prompt_tokens"}
)


def by_name(name: str) -> Dialect:
    """Return the dialect called `name`. Raises GateError(DIALECT_UNKNOWN)."""
    try:
        return _DIALECTS[name]
    except KeyError:
        raise GateError(Reason.DIALECT_UNKNOWN, "no dialect of that name") from None


def choose(configured: str, path: str, json: JsonText) -> Dialect:
    """Return the dialect of a call: `configured` unless it is `auto`, then by `path`, then by the body's members.

    Raises GateError(DIALECT_UNKNOWN) where two rules disagree or none holds: a body read by the wrong rules would
    hide texts from the gate.
    """
    if configured != AUTO:
        return by_name(configured)
    by_path, by_body = _by_path(path), _by_body(json)
    if by_path is V2 and by_body is TEI:
        raise GateError(Reason.DIALECT_UNKNOWN, "path and body disagree")
    if by_path is V1 and (by_body is TEI or _NOT_COHERE & json.value.keys()):
        return by_body
    return by_path or by_body


def for_path(configured: str, path: str) -> Dialect:
    """Return the dialect to refuse in before any body is known; generic where the path says nothing."""
    if configured != AUTO:
        return by_name(configured)
    return _by_path(path) or GENERIC


def _by_path(path: str) -> Dialect | None:
    # Clients keep what their base URL has before this.
    if path.endswith("/v2/rerank"):
        return V2
    return V1 if path.endswith("/v1/rerank") else None


def _by_body(json: JsonText) -> Dialect:
    if not isinstance(json.value, dict):
        raise GateError(Reason.DIALECT_UNKNOWN, "not an object")
    texts, documents = "texts" in json.value, "documents" in json.value
    if texts == documents:
        raise GateError(Reason.DIALECT_UNKNOWN, "both texts and documents" if texts else "no texts, no documents")
    return TEI if texts else GENERIC
