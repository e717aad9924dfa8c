"""Call -> question: the `input` document of the policy.

Columnar and small, because parsing the input is most of what a decision costs. Top-level keys are
opa-envoy-plugin's (`attributes`, `parsed_path`, `parsed_query`, `version`) and ours beside them; what is not
known is absent, never null, because null is true to Rego's `not`. Growth rule: add keys, never change one.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from rankgate.errors import GateError, Reason
from rankgate.policy.headers import is_secret
from rankgate.policy.target import parse_path, parse_query
from rankgate.request import HttpRequest, RerankRequest, Role

__all__ = ["OPT_INS", "build_question", "encode_question"]

# What a route may add; each one is recorded in the decision's event.
OPT_INS = ("documents_text", "parsed_body", "raw_body", "authorization")

_ENCODER = msgspec.json.Encoder()
# What may be an integer beyond 64 bits, in compact JSON; a time in nanoseconds is not.
_LONG_NUMBER = re.compile(r"[:,\[](?:[0-9]{20}|-[0-9]{19})")


class _Finding(Protocol):
    @property
    def types(self) -> Sequence[str]: ...


class _Principal(Protocol):
    @property
    def issuer(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def tenant(self) -> str: ...
    @property
    def groups(self) -> Iterable[str]: ...
    @property
    def scopes(self) -> Iterable[str]: ...
    @property
    def claims(self) -> Mapping[str, Any]: ...
    @property
    def kind(self) -> str: ...
    @property
    def bound(self) -> Any: ...


def build_question(
    http: HttpRequest,
    principal: _Principal,
    request: RerankRequest | None,
    findings: Mapping[int, Sequence[_Finding]],
    *,
    upstream: str,
    now: float,
    opt_ins: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Return the question for one call.

    `findings` maps text ordinals to what was found there; only counts by type enter the question, never a value. A
    finding that others were merged into counts once in `total`, and under each of its types everywhere else.
    `now` is in seconds since 1970, the only clock a policy sees. Raises GateError where the path or query cannot
    be read in one way only, or where `parsed_body` is asked for and the body is not JSON.
    """
    unknown = sorted(set(opt_ins) - set(OPT_INS))
    if unknown:
        raise ValueError(f"unknown opt-ins: {', '.join(unknown)}")
    question: dict[str, Any] = {
        "attributes": _attributes(http, opt_ins),
        "parsed_path": parse_path(http.path),
        "parsed_query": parse_query(http.query),
        "version": {"ext_authz": "v3", "encoding": "protojson"},
        "identity": _identity(principal),
        "findings": _findings(request, findings),
        "upstream": upstream,
        "route": http.route,
        "time": _time(now),
        "usage": {},
    }
    if request is not None:
        question["rerank"] = _rerank(request)
        if "documents_text" in opt_ins:
            question["rerank"]["documents_text"] = _by_document(request, lambda text: [text], [])
    if "parsed_body" in opt_ins:
        question["parsed_body"] = _parse(http.body)
        question["truncated_body"] = False
    return question


def encode_question(question: dict[str, Any]) -> str:
    """Return `question` as compact JSON that every engine reads as the same value.

    Raises GateError(BODY_INVALID) for NaN and infinities, lone surrogates, and integers beyond 64 bits: an engine
    that rounds those takes two different numbers for one.
    """
    try:
        text = _ENCODER.encode(question).decode()
        if "null" in text:
            # How the encoder writes NaN and infinities. A question of ours holds no null, a caller's words may.
            text = json.dumps(question, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (ValueError, TypeError, RecursionError):
        raise GateError(Reason.BODY_INVALID, "the question has no exact JSON form") from None
    if _LONG_NUMBER.search(text) and not _fits(question):
        raise GateError(Reason.BODY_INVALID, "the question holds an integer beyond 64 bits")
    return text


def _attributes(http: HttpRequest, opt_ins: tuple[str, ...]) -> dict[str, Any]:
    merged: dict[str, str] = {}
    for name, raw in http.headers:
        key = name.lower()
        if is_secret(key) and not (key == "authorization" and "authorization" in opt_ins):
            continue
        value = raw.decode("utf-8", "backslashreplace")
        merged[key] = f"{merged[key]},{value}" if key in merged else value
    fields: dict[str, Any] = {
        "id": http.id,
        "method": http.method,
        "headers": merged,
        "path": f"{http.path}?{http.query}" if http.query else http.path,
        "host": http.host,
        "scheme": http.scheme,
        "protocol": http.protocol,
        "size": len(http.body),
    }
    if "raw_body" in opt_ins:
        fields["rawBody"] = base64.b64encode(http.body).decode("ascii")
    attributes: dict[str, Any] = dict(http.attributes)
    given = attributes.get("request")
    # Never the given `http` member: it may repeat the headers and the body under other names.
    attributes["request"] = {
        **(given if isinstance(given, dict) else {}),
        # As in protojson, what is empty is absent.
        "http": {key: value for key, value in fields.items() if value not in ("", 0) or key == "headers"},
    }
    return attributes


def _identity(principal: _Principal) -> dict[str, Any]:
    return {
        "issuer": principal.issuer,
        "subject": principal.subject,
        "tenant": principal.tenant,
        "groups": list(principal.groups),
        "scopes": list(principal.scopes),
        "claims": dict(principal.claims),
        "kind": principal.kind,
        "bound": principal.bound,
    }


def _rerank(request: RerankRequest) -> dict[str, Any]:
    advisory: dict[str, list[int]] = {}
    for position, labels in enumerate(request.labels):
        for label in labels:
            advisory.setdefault(label, []).append(position)
    doc_chars: list[int] = _by_document(request, len, 0)
    known = {
        "dialect": request.dialect,
        "operation": request.operation,
        "model": request.model,
        "query": request.query,
        "instruction": request.instruction,
        "query_chars": len(request.query),
        "document_count": request.document_count,
        "total_chars": sum(len(text.value) for text in request.texts),
        "doc_chars": doc_chars,
        "top_n": request.top_n,
        "return_documents": request.return_documents,
        # Labels looked up outside the request; the gate of this version has no such source of its own.
        "labels": {},
        "advisory_labels": advisory,
        "ids": list(request.ids),
    }
    return {key: value for key, value in known.items() if value is not None}


def _by_document(request: RerankRequest, measure: Any, zero: Any) -> list[Any]:
    column = [zero] * request.document_count
    for text in request.texts:
        if text.role is Role.DOCUMENT and text.position is not None and text.position < request.document_count:
            column[text.position] = column[text.position] + measure(text.value)
    return column


def _findings(request: RerankRequest | None, findings: Mapping[int, Sequence[_Finding]]) -> dict[str, Any]:
    places = {text.ordinal: text for text in request.texts} if request is not None and findings else {}
    by_type: dict[str, int] = {}
    query: dict[str, int] = {}
    by_document: dict[str, dict[str, int]] = {}
    total = 0
    for ordinal, found in findings.items():
        total += len(found)
        types = [kind for finding in found for kind in finding.types]
        _tally(by_type, types)
        text = places.get(ordinal)
        if text is None or not types:
            continue
        if text.role is Role.QUERY:
            _tally(query, types)
        elif text.position is not None:
            _tally(by_document.setdefault(str(text.position), {}), types)
    return {
        "total": total,
        "by_type": by_type,
        "query": query,
        "by_document": by_document,
    }


def _tally(into: dict[str, int], types: Iterable[str]) -> None:
    for kind in types:
        into[kind] = into.get(kind, 0) + 1


def _time(now: float) -> dict[str, Any]:
    micros = round(now * 1_000_000)
    stamp = datetime.fromtimestamp(micros // 1_000_000, UTC).replace(microsecond=micros % 1_000_000)
    return {"rfc3339": stamp.isoformat(timespec="microseconds").replace("+00:00", "Z"), "ns": micros * 1000}


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_object, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise GateError(Reason.BODY_INVALID, "the body is not strict JSON") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _fits(value: Any) -> bool:
    if isinstance(value, int):
        return -(2**63) <= value < 2**64
    if isinstance(value, dict):
        return all(map(_fits, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_fits, value))
    return True
