"""Answer -> ruling: a boolean or an object, read strictly.

Top-level keys are opa-envoy-plugin's with its meaning: only those that the verdict uses are read, unknown ones
are ignored. Ours stand under `rankgate`, a closed schema. Absence never relaxes: a member that is not given
leaves the route's own setting in force.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from rankgate.errors import GateError, Reason
from rankgate.policy.headers import HEADER_VALUE, is_untouchable
from rankgate.policy.metadata import fault_of, is_text

__all__ = ["Approval", "Limits", "Risk", "Ruling", "parse_ruling"]

Pairs = tuple[tuple[str, str], ...]

DENY_STATUSES = frozenset({400, 401, 403, 404, 413, 422, 429, *range(500, 600)})
MAX_PAIRS = 64
MAX_REASONS = 16
MAX_TEXT = 256
MAX_VALUE = 4096
MAX_BODY = 4096

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
# What ext_authz of Envoy 1.40 takes with validate_mutations, as a name or a value: nothing percent-encoded either.
_QUERY_TEXT = re.compile(r"[A-Za-z0-9._*-]*")


class Risk(StrEnum):
    """How risky the policy holds a call to be: words, because words can be counted and compared over time."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Approval:
    """Whose consent an allowed call needs: `quorum` people of `groups`, valid `ttl_s`, held open `hold_s`."""

    groups: tuple[str, ...]
    quorum: int = 1
    ttl_s: int = 900
    hold_s: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds this caller must keep, beside the gate's own; None leaves a bound as it is."""

    documents: int | None = None
    total_chars: int | None = None


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the policy decided, safe to act on.

    `headers` go upstream on an allow and into the answer on a denial. `drop` holds document positions, ascending.
    `mask_request`, `mask_response`, `credential` and `capture` are None where the route's own setting holds;
    masking profiles are names that the gate looks up, `none` among them.
    """

    allowed: bool
    reasons: tuple[str, ...] = ()
    risk: Risk | None = None
    approval: Approval | None = None
    mask_request: str | None = None
    mask_response: str | None = None
    drop: tuple[int, ...] = ()
    on_empty: Literal["deny", "empty"] = "deny"
    credential: str | None = None
    capture: Literal["none", "masked"] | None = None
    limits: Limits = field(default_factory=Limits)
    headers: Pairs = ()
    response_headers: Pairs = ()
    remove: tuple[str, ...] = ()
    query_set: Pairs = ()
    query_remove: tuple[str, ...] = ()
    status: int = 403
    body: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


def parse_ruling(result: Any, *, document_count: int, credential_header: str) -> Ruling:
    """Return the Ruling that `result`, the raw answer of an engine, stands for.

    `document_count` bounds the positions to drop; `credential_header` is the header of the lease, which no policy
    touches. Raises GateError: POLICY_UNDEFINED for None, POLICY_INVALID for everything else that is not exactly
    understood, naming the member but never its value.
    """
    if result is None:
        raise GateError(Reason.POLICY_UNDEFINED)
    if isinstance(result, bool):
        return Ruling(allowed=result)
    if not isinstance(result, dict):
        raise _invalid("decision", "must be a boolean or an object")
    allowed = result.get("allowed")
    if not isinstance(allowed, bool):
        raise _invalid("allowed", "must be true or false")
    fields = _common(result, credential_header) | _own(result, document_count)
    fields |= _allowing(result, credential_header) if allowed else _denying(result)
    return Ruling(allowed=allowed, **fields)


def _common(result: dict[str, Any], credential_header: str) -> dict[str, Any]:
    metadata = _object(result, "dynamic_metadata") or {}
    if "rankgate" in metadata:
        raise _invalid("dynamic_metadata", "may not use the key rankgate")
    if fault := fault_of(metadata):
        raise _invalid("dynamic_metadata", fault)
    return {"metadata": metadata, "headers": _headers(result, "headers", credential_header)}


def _allowing(result: dict[str, Any], credential_header: str) -> dict[str, Any]:
    remove = tuple(name.lower() for name in _strings(result, "request_headers_to_remove"))
    for name in remove:
        if is_untouchable(name, credential_header):
            raise _invalid("request_headers_to_remove", "names a header that policies may not touch")
    query_set = _pairs(result, "query_parameters_to_set")
    query_remove = _strings(result, "query_parameters_to_remove")
    names = (*query_remove, *(name for name, _ in query_set))
    if not all(name and _QUERY_TEXT.fullmatch(name) for name in names):
        raise _invalid("query_parameters", "a name is empty or has other characters than A-Z, a-z, 0-9 and . _ * -")
    if not all(_QUERY_TEXT.fullmatch(value) for _, value in query_set):
        raise _invalid("query_parameters_to_set", "a value has other characters than A-Z, a-z, 0-9 and . _ * -")
    return {
        "response_headers": _headers(result, "response_headers_to_add", credential_header),
        "remove": remove,
        "query_set": query_set,
        "query_remove": query_remove,
    }


def _denying(result: dict[str, Any]) -> dict[str, Any]:
    status = result.get("http_status", 403)
    if type(status) is not int or status not in DENY_STATUSES:
        raise _invalid("http_status", "must be 400, 401, 403, 404, 413, 422, 429 or 5xx")
    body = result.get("body")
    if body is not None and not (is_text(body) and len(body) <= MAX_BODY):
        raise _invalid("body", f"must be a string of at most {MAX_BODY} characters, in UTF-8 without NUL")
    return {"status": status, "body": body}


def _own(result: dict[str, Any], document_count: int) -> dict[str, Any]:
    own = _object(result, "rankgate")
    if own is None:
        return {}
    _closed(own, "rankgate", {"reasons", "risk", "approval", "mask", "documents", "credential", "capture", "limits"})
    reasons = _strings(own, "reasons", at="rankgate.")
    if len(reasons) > MAX_REASONS or any(len(text) > MAX_TEXT or not text.isprintable() for text in reasons):
        raise _invalid("rankgate.reasons", f"at most {MAX_REASONS} printable strings of {MAX_TEXT} characters")
    risk = _choice(own, "risk", tuple(Risk))
    return {
        "reasons": reasons,
        "risk": None if risk is None else Risk(risk),
        "credential": _name(own, "credential", "rankgate."),
        "capture": _choice(own, "capture", ("none", "masked")),
        "approval": _approval(own),
        **_mask(own),
        **_documents(own, document_count),
        "limits": _limits(own),
    }


def _approval(own: dict[str, Any]) -> Approval | None:
    approval = _object(own, "approval", at="rankgate.")
    if approval is None:
        return None
    at = "rankgate.approval."
    _closed(approval, "rankgate.approval", {"groups", "quorum", "ttl_s", "hold_s"})
    groups = _strings(approval, "groups", at=at)
    if not 0 < len(groups) <= MAX_PAIRS or not all(is_text(name) and 0 < len(name) <= MAX_TEXT for name in groups):
        raise _invalid("rankgate.approval.groups", "must name at least one group")
    quorum, ttl = _whole(approval, "quorum", at, 1, 16), _whole(approval, "ttl_s", at, 1, 604_800)
    return Approval(
        groups=groups,
        quorum=1 if quorum is None else quorum,
        ttl_s=900 if ttl is None else ttl,
        hold_s=_whole(approval, "hold_s", at, 0, 3600),
    )


def _mask(own: dict[str, Any]) -> dict[str, Any]:
    mask = _object(own, "mask", at="rankgate.") or {}
    _closed(mask, "rankgate.mask", {"request", "response"})
    at = "rankgate.mask."
    return {"mask_request": _name(mask, "request", at), "mask_response": _name(mask, "response", at)}


def _documents(own: dict[str, Any], document_count: int) -> dict[str, Any]:
    documents = _object(own, "documents", at="rankgate.") or {}
    _closed(documents, "rankgate.documents", {"drop", "on_empty"})
    drop = documents.get("drop", [])
    if not isinstance(drop, list) or not all(type(at) is int and 0 <= at < document_count for at in drop):
        raise _invalid("rankgate.documents.drop", "must list positions of documents of this request")
    if len(set(drop)) != len(drop):
        raise _invalid("rankgate.documents.drop", "names a position twice")
    on_empty = _choice(documents, "on_empty", ("deny", "empty"), at="rankgate.documents.")
    return {"drop": tuple(sorted(drop)), "on_empty": on_empty or "deny"}


def _limits(own: dict[str, Any]) -> Limits:
    limits = _object(own, "limits", at="rankgate.") or {}
    _closed(limits, "rankgate.limits", {"documents", "total_chars"})
    at = "rankgate.limits."
    return Limits(_whole(limits, "documents", at, 0, 2**31), _whole(limits, "total_chars", at, 0, 2**31))


def _headers(result: dict[str, Any], key: str, credential_header: str) -> Pairs:
    pairs = tuple((name.lower(), value) for name, value in _pairs(result, key))
    for name, value in pairs:
        if is_untouchable(name, credential_header):
            raise _invalid(key, "names a header that policies may not touch")
        if len(value) > MAX_VALUE or HEADER_VALUE.fullmatch(value) is None:
            raise _invalid(key, "a value is not visible ASCII or is too long")
    return pairs


def _pairs(result: dict[str, Any], key: str) -> Pairs:
    """Read an object or a list of objects, name -> string or list of strings, in order."""
    if key not in result:
        return ()
    given = result[key]
    objects = given if isinstance(given, list) else [given]
    pairs: list[tuple[str, str]] = []
    for entry in objects:
        if not isinstance(entry, dict):
            raise _invalid(key, "must be an object or a list of objects")
        for name, value in entry.items():
            values = value if isinstance(value, list) else [value]
            if not all(isinstance(text, str) for text in values):
                raise _invalid(key, "values must be strings or lists of strings")
            pairs.extend((name, text) for text in values)
    if len(pairs) > MAX_PAIRS:
        raise _invalid(key, f"holds more than {MAX_PAIRS} values")
    return tuple(pairs)


def _strings(source: dict[str, Any], key: str, *, at: str = "") -> tuple[str, ...]:
    if key not in source:
        return ()
    given = source[key]
    if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
        raise _invalid(at + key, "must be a list of strings")
    return tuple(given)


def _object(source: dict[str, Any], key: str, *, at: str = "") -> dict[str, Any] | None:
    if key not in source:
        return None
    if not isinstance(source[key], dict):
        raise _invalid(at + key, "must be an object")
    return dict(source[key])


def _choice(source: dict[str, Any], key: str, words: tuple[str, ...], *, at: str = "rankgate.") -> Any:
    if key not in source:
        return None
    word = source[key]
    if not isinstance(word, str) or word not in words:
        raise _invalid(at + key, f"must be one of {', '.join(words)}")
    return word


def _name(source: dict[str, Any], key: str, at: str) -> str | None:
    if key not in source:
        return None
    name = source[key]
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise _invalid(at + key, "must be a name: a-z, 0-9, dots, dashes, underscores")
    return name


def _whole(source: dict[str, Any], key: str, at: str, low: int, high: int) -> int | None:
    if key not in source:
        return None
    value = source[key]
    if type(value) is not int or not low <= value <= high:
        raise _invalid(at + key, f"must be a whole number from {low} to {high}")
    return value


def _closed(source: dict[str, Any], what: str, known: set[str]) -> None:
    if source.keys() - known:
        # The unknown name may have been built from request data: only the place is told.
        raise _invalid(what, f"has an unknown key; known are {', '.join(sorted(known))}")


def _invalid(member: str, fault: str) -> GateError:
    return GateError(Reason.POLICY_INVALID, f"{member} {fault}")
