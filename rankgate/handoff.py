"""The one seam between the filters: what ext_authz tells ext_proc about an allowed call.

It travels as Envoy dynamic metadata of the ext_authz filter under the key `rankgate`. Never a token, a credential
or a text. Growth rule: add a field with a default, ignore unknown ones, never change a meaning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rankgate.errors import GateError, Reason

__all__ = ["KEY", "VERSION", "Handoff", "Span", "from_metadata", "to_metadata"]

KEY = "rankgate"
VERSION = 1
# Envoy repeats the metadata with every message of a stream; beyond this the spans cost more than detecting again.
MAX_SPANS_BYTES = 65_536

Span = tuple[int, int, int, tuple[str, ...]]
"""(text ordinal in document order, start, end, every entity type found there), over the decoded string."""


@dataclass(frozen=True, slots=True)
class Handoff:
    """What ext_proc needs to carry out a decision.

    `body_digest` is the keyed digest of the authorised bytes. `kept` holds original positions; None keeps all.
    `spans` is None where ext_proc has to detect again.
    """

    decision_id: str
    issuer: str
    subject: str
    tenant: str
    route: str
    dialect: str
    dialect_revision: int
    body_digest: str
    body_length: int
    text_count: int
    document_count: int
    request_plan: str
    response_plan: str
    drop_mode: Literal["omit", "floor"]
    kept: tuple[int, ...] | None = None
    top_n: int | None = None
    spans: tuple[Span, ...] | None = None
    lease_fingerprint: str = ""
    version: int = VERSION


_TEXTS = (
    "decision_id", "issuer", "subject", "tenant", "route", "dialect", "body_digest", "request_plan",
    "response_plan", "drop_mode",
)  # fmt: skip
_MODES: dict[str, Literal["omit", "floor"]] = {"omit": "omit", "floor": "floor"}
_NUMBERS = ("dialect_revision", "body_length", "text_count", "document_count")


def to_metadata(handoff: Handoff) -> dict[str, Any]:
    """Return the handoff as plain values that a protobuf Struct holds without loss."""
    values: dict[str, Any] = {name: getattr(handoff, name) for name in (*_TEXTS, *_NUMBERS)}
    values |= {"version": handoff.version, "lease_fingerprint": handoff.lease_fingerprint}
    if handoff.kept is not None:
        values["kept"] = ",".join(map(str, handoff.kept))
    if handoff.top_n is not None:
        values["top_n"] = str(handoff.top_n)
    if handoff.spans is not None:
        packed = _pack(handoff.spans)
        if len(packed) <= MAX_SPANS_BYTES:
            values["spans"] = packed
    return values


def from_metadata(values: object) -> Handoff:
    """Read a handoff back. Raises GateError: HANDOFF_MISSING for none, HANDOFF_MISMATCH for a broken one."""
    if not isinstance(values, Mapping):
        raise GateError(Reason.HANDOFF_MISSING)
    try:
        fields: dict[str, Any] = {name: _text(values[name]) for name in _TEXTS}
        fields["drop_mode"] = _MODES[_text(values["drop_mode"])]
        fields |= {name: _number(values[name]) for name in _NUMBERS}
        fields["version"] = _number(values["version"])
        fields["lease_fingerprint"] = _text(values.get("lease_fingerprint", ""))
        if "kept" in values:
            fields["kept"] = tuple(int(part) for part in _text(values["kept"]).split(",") if part)
        if "top_n" in values:
            fields["top_n"] = int(_text(values["top_n"]))
        # Another version may count texts differently: its spans are not trusted, and detecting again is always safe.
        if "spans" in values and fields["version"] == VERSION:
            fields["spans"] = _unpack(_text(values["spans"]))
        return Handoff(**fields)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        raise GateError(Reason.HANDOFF_MISMATCH, "handoff") from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: object) -> int:
    # Struct numbers arrive as floats.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value):
        raise TypeError
    return int(value)


def _pack(spans: Iterable[Span]) -> str:
    types: dict[str, int] = {}
    parts = [f"{o}:{s}:{e}:{types.setdefault('+'.join(kinds), len(types))}" for o, s, e, kinds in spans]
    return ",".join(types) + "|" + ";".join(parts)


def _unpack(packed: str) -> tuple[Span, ...]:
    head, _, tail = packed.partition("|")
    types = [tuple(kinds.split("+")) for kinds in head.split(",")]
    spans: list[Span] = []
    for part in tail.split(";") if tail else ():
        ordinal, start, end, kind = map(int, part.split(":"))
        if kind < 0 or not 0 <= start < end or ordinal < 0:
            raise ValueError
        spans.append((ordinal, start, end, types[kind]))
    return tuple(spans)
