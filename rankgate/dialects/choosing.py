"""Which API a call speaks: the route's setting, then the path, then the members of the body."""

from __future__ import annotations

from typing import Any, NoReturn

from rankgate.dialects import vllm
from rankgate.dialects.cohere import V1, V2
from rankgate.dialects.dialect import Dialect
from rankgate.dialects.generic import GENERIC
from rankgate.dialects.jina import JINA
from rankgate.dialects.nvidia import RANKING
from rankgate.dialects.tei import TEI
from rankgate.dialects.voyage import VOYAGE
from rankgate.errors import GateError, Reason
from rankgate.jsontext import JsonText

__all__ = ["AUTO", "NAMES", "by_name", "choose", "for_path"]

AUTO = "auto"
_DIALECTS = {
    dialect.name: dialect for dialect in (V1, V2, TEI, JINA, VOYAGE, vllm.RERANK, vllm.SCORE, RANKING, GENERIC)
}
NAMES = tuple(_DIALECTS)

_TEXTS = {"texts": TEI, "passages": RANKING, "documents": GENERIC}
# Of the many APIs with documents, these members are one's alone.
_MARKS = (
    (VOYAGE, frozenset({"top_k"})),
    (vllm.RERANK, frozenset({"mm_processor_kwargs", "truncate_prompt_tokens"})),
    (GENERIC, frozenset({"instruct", "kwargs", "overlap_tokens", "raw_scores", "return_len"})),
)
# Engines of other makers serve Cohere's v1 path too; Cohere has no such member.
_NOT_COHERE = frozenset({"instruction"}).union(*(members for _, members in _MARKS))
# SGLang scores on the same paths as vLLM, by other rules.
_OTHER_SCORES = frozenset({"apply_softmax", "item_first", "label_token_ids"})


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
    body = json.value
    if not isinstance(body, dict):
        _unknown("not an object")
    by_path = _by_path(path)
    if by_path is vllm.SCORE:
        if not _OTHER_SCORES.isdisjoint(body):
            _unknown("scores of another engine")
        return by_path
    by_body = _by_body(body)
    if by_path is None:
        return by_body
    if by_path is V1:
        return V1 if by_body is GENERIC and _NOT_COHERE.isdisjoint(body) else by_body
    if by_body is not (GENERIC if by_path is V2 else by_path):
        _unknown("path and body disagree")
    return by_path


def for_path(configured: str, path: str) -> Dialect:
    """Return the dialect to refuse in before any body is known; generic where the path says nothing."""
    if configured != AUTO:
        return by_name(configured)
    return _by_path(path) or GENERIC


def _by_path(path: str) -> Dialect | None:
    # Clients keep what their base URL has before this.
    if path.endswith("/v2/rerank"):
        return V2
    if path.endswith("/v1/rerank"):
        return V1
    if path.endswith("/score"):
        return vllm.SCORE
    hosted = "/v1/retrieval/" in path and path.endswith("/reranking")
    return RANKING if hosted or path.endswith("/v1/ranking") else None


def _by_body(body: dict[str, Any]) -> Dialect:
    given = [dialect for member, dialect in _TEXTS.items() if member in body]
    if len(given) != 1:
        _unknown("texts of two APIs" if given else "no texts of any API")
    if given[0] is not GENERIC:
        return given[0]
    marked = {dialect.name for dialect, members in _MARKS if not members.isdisjoint(body)}
    if _has_parts(body.get("query")) or _has_parts(body["documents"]):
        marked.add(vllm.RERANK.name)
    if len(marked) > 1:
        _unknown("members of two APIs")
    return by_name(marked.pop()) if marked else GENERIC


def _has_parts(value: Any) -> bool:
    """Tell whether vLLM's content parts stand in a query or among documents."""
    values = value if isinstance(value, list) else [value]
    return any(isinstance(item, dict) and isinstance(item.get("content"), list) for item in values)


def _unknown(detail: str) -> NoReturn:
    raise GateError(Reason.DIALECT_UNKNOWN, detail)
