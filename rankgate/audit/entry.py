"""Leaf -> stream entry, and what a reader makes of it.

A stream entry is CloudEvents 1.0 attributes as flat fields, so that filters and people need no JSON, and `body`, which
is byte for byte the leaf. Every flat field is derived from the body, so a reader believes none of them: it derives them
again and shows what differs. `trace` alone may differ, because a relay is free to continue the trace.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

import msgspec

from rankgate.audit.names import stream_key
from rankgate.audit.text import printable

__all__ = ["BodyError", "Row", "differing", "fields_from_body", "read_body", "to_fields"]

DATA_SCHEMA = "urn:rankgate:audit-event:1"
_DEEPEST_YEAR_MS = 253_402_300_800_000  # the first millisecond of the year 10000, which RFC 3339 cannot write


class BodyError(ValueError):
    """A body that is no audit event. The text tells what is wrong with it and quotes nothing."""


@dataclass(frozen=True, slots=True)
class Row:
    """What listings and filters need of one event; empty or None where the event does not say.

    `note` is the first reason of the policy, else the detail.
    """

    kind: str
    deployment: str
    log: str
    index: int
    time: int
    decision_id: str = ""
    allowed: bool | None = None
    reason: str = ""
    outcome: str = ""
    status: int | None = None
    issuer: str = ""
    subject: str = ""
    tenant: str = ""
    route: str = ""
    dialect: str = ""
    model: str = ""
    documents: int | None = None
    findings: int = 0
    what: str = ""
    word: str = ""
    note: str = ""
    trace: str = ""

    @property
    def decision(self) -> str:
        """Return `allow`, `deny` or, for events that are no decision, nothing."""
        return "" if self.allowed is None else "allow" if self.allowed else "deny"

    @property
    def position(self) -> str:
        """Return `<log>#<index>`, which names the entry for good."""
        return f"{self.log}#{self.index}"


class _Ours(msgspec.Struct, frozen=True):
    kind: str
    deployment: str
    log: str
    index: int
    trace: str = ""


class _Unmapped(msgspec.Struct, frozen=True):
    rankgate: _Ours


class _User(msgspec.Struct, frozen=True):
    uid: str = ""


class _Actor(msgspec.Struct, frozen=True):
    user: _User = _User()


class _Head(msgspec.Struct, frozen=True):
    """Of a leaf what its flat fields are derived from; the rest, all texts among it, is passed over."""

    time: int
    unmapped: _Unmapped
    actor: _Actor = _Actor()


_HEAD = msgspec.json.Decoder(_Head)


def to_fields(leaf: bytes) -> dict[str, bytes]:
    """Return the stream entry of a leaf that this process wrote, flat fields first; raises BodyError."""
    try:
        head = _HEAD.decode(leaf)
    except ValueError:
        raise BodyError("the body is no audit event") from None
    ours = head.unmapped.rankgate
    fields = _fields(ours.kind, ours.deployment, ours.log, ours.index, head.time, head.actor.user.uid, ours.trace)
    return {name: value.encode() for name, value in fields.items()} | {"body": leaf}


def fields_from_body(body: bytes) -> dict[str, str]:
    """Return the flat fields that belong to `body`; raises BodyError."""
    row = read_body(body)
    return _fields(row.kind, row.deployment, row.log, row.index, row.time, row.subject, row.trace)


def _fields(kind: str, deployment: str, log: str, index: int, time: int, subject: str, trace: str) -> dict[str, str]:
    fields = {
        "specversion": "1.0",
        "id": str(index),
        "source": f"/rankgate/{deployment}/{log}",
        "type": f"rankgate.{kind}",
        "subject": subject,
        "time": _rfc3339(time),
        "datacontenttype": "application/json",
        "dataschema": DATA_SCHEMA,
        "trace": trace,
    }
    # CloudEvents 1.0 (type system) forbids control characters in attributes and knows no empty one.
    return {name: printable(value) for name, value in fields.items() if value}


def differing(fields: Mapping[str, str], body: bytes, key: str, entry_id: str) -> tuple[str, ...]:
    """Return the names of what does not agree with `body`: flat fields, and `stream` and `entry` for where it stood.

    An unreadable body differs as a whole: ("body",).
    """
    try:
        row = read_body(body)
        derived = fields_from_body(body)
    except BodyError:
        return ("body",)
    names = (fields.keys() | derived.keys()) - {"trace"}
    wrong = sorted(name for name in names if fields.get(name) != derived.get(name))
    if key != stream_key(row.deployment, row.log):
        wrong.append("stream")
    if not entry_id.endswith(f"-{row.index}"):
        wrong.append("entry")
    return tuple(wrong)


def read_body(body: bytes) -> Row:
    """Read one event, ours or an altered one; raises BodyError, whatever the bytes."""
    event = _parse(body)
    if not isinstance(event, dict):
        raise BodyError("the body is not an object")
    ours = _object(_object(event, "unmapped"), "rankgate")
    metadata = _object(event, "metadata")
    actor = _object(event, "actor")
    findings = _object(ours, "findings")
    allowed = ours.get("allowed")
    return Row(
        kind=_text(ours, "kind", required=True),
        deployment=_text(ours, "deployment", required=True),
        log=_text(ours, "log", required=True),
        index=_number(ours, "index", 2**63),
        time=_number(event, "time", _DEEPEST_YEAR_MS),
        decision_id=_text(ours, "decision_id"),
        allowed=allowed if isinstance(allowed, bool) else None,
        reason=_text(ours, "reason"),
        outcome=_text(ours, "outcome"),
        status=_optional_number(_object(event, "http_response"), "code"),
        issuer=_text(_object(actor, "idp"), "name"),
        subject=_text(_object(actor, "user"), "uid"),
        tenant=_text(metadata, "tenant_uid"),
        route=_text(ours, "route"),
        dialect=_text(ours, "dialect"),
        model=_text(_object(event, "ai_model"), "name"),
        documents=_optional_number(ours, "document_count"),
        findings=sum(_number(findings, name, 2**63) for name in findings),
        what=_text(ours, "what"),
        word=_text(ours, "word"),
        note=_note(ours),
        trace=_text(ours, "trace"),
    )


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_members, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise BodyError("the body is not strict JSON") from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members


def _refuse(word: str) -> NoReturn:
    raise ValueError(word)


def _object(parent: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = parent.get(name, {})
    if not isinstance(value, dict):
        raise BodyError(f"{name} is not an object")
    return value


def _note(ours: Mapping[str, Any]) -> str:
    reasons, detail = ours.get("policy_reasons"), ours.get("detail")
    if isinstance(reasons, list) and reasons:
        detail = reasons[0]
    elif isinstance(detail, dict):
        detail = ", ".join(f"{name}={value}" for name, value in detail.items())
    return detail.encode("utf-8", "replace").decode("utf-8") if isinstance(detail, str) else ""


def _text(parent: Mapping[str, Any], name: str, *, required: bool = False) -> str:
    value = parent.get(name, "")
    if not isinstance(value, str) or (required and not value):
        raise BodyError(f"{name} is not a text")
    # A lone surrogate can be written in JSON, but in no stream field and on no terminal.
    return value.encode("utf-8", "replace").decode("utf-8")


def _number(parent: Mapping[str, Any], name: str, limit: int) -> int:
    value = parent.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < limit:
        raise BodyError(f"{name} is not a number in range")
    return value


def _optional_number(parent: Mapping[str, Any], name: str) -> int | None:
    return None if name not in parent else _number(parent, name, 2**63)


def _rfc3339(ms: int) -> str:
    seconds, rest = divmod(ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03d}Z"
