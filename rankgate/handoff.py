"""The one seam between the filters: what ext_authz tells ext_proc about an allowed call.

It travels as Envoy dynamic metadata of the ext_authz filter under the key `rankgate`: the decision id for the access
log, and everything else as one JSON text, because Envoy repeats the metadata with every message of a stream and a
Struct of many members costs both sides more than the rest of the call. Never a token, a credential or a text.
Growth rule: add a field with a default, ignore unknown ones, never change a meaning.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rankgate.errors import GateError, Reason

__all__ = ["KEY", "VERSION", "Edit", "Handoff", "Span", "from_metadata", "to_metadata"]

KEY = "rankgate"
VERSION = 1
# Beyond this the edits cost more on their way than detecting again.
MAX_EDITS_BYTES = 65_536

Span = tuple[int, int, tuple[str, ...]]
"""(start, end, every entity type found there), over the decoded string."""
Edit = tuple[int, int, int, tuple[Span, ...]]
"""(text ordinal in document order, start and end byte of its literal in the body, what was found in it).

Every text that masking may change has one, also one without spans: it holds a look-alike of a pseudonym.
"""


@dataclass(frozen=True, slots=True)
class Handoff:
    """What ext_proc needs to carry out a decision.

    `body_digest` is the keyed digest of the authorised bytes. `kept` holds original positions; None keeps all.
    `edits` is None where ext_proc has to detect again.
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
    edits: tuple[Edit, ...] | None = None
    lease_fingerprint: str = ""
    version: int = VERSION


_TEXTS = (
    "decision_id", "issuer", "subject", "tenant", "route", "dialect", "body_digest", "request_plan", "response_plan",
    "lease_fingerprint",
)  # fmt: skip
_NUMBERS = ("dialect_revision", "body_length", "text_count", "document_count", "version")
_MODES: dict[object, Literal["omit", "floor"]] = {"omit": "omit", "floor": "floor"}


def to_metadata(handoff: Handoff) -> dict[str, str]:
    """Return the handoff as members of a protobuf Struct."""
    values: dict[str, Any] = {
        name: getattr(handoff, name) for name in (*_TEXTS, *_NUMBERS, "drop_mode", "kept", "top_n")
    }
    text = json.dumps(values, separators=(",", ":"))
    if handoff.edits is not None:
        edits = json.dumps(handoff.edits, separators=(",", ":"))
        if len(edits) <= MAX_EDITS_BYTES:
            text = f'{text[:-1]},"edits":{edits}}}'
    return {"decision_id": handoff.decision_id, "handoff": text}


def from_metadata(values: object) -> Handoff:
    """Read a handoff back. Raises GateError: HANDOFF_MISSING for none, HANDOFF_MISMATCH for a broken one."""
    if not isinstance(values, Mapping) or "handoff" not in values:
        raise GateError(Reason.HANDOFF_MISSING)
    try:
        read = json.loads(_typed(values["handoff"], str))
        fields: dict[str, Any] = {name: _typed(read[name], str) for name in _TEXTS}
        fields |= {name: _natural(read[name]) for name in _NUMBERS}
        fields["drop_mode"] = _MODES[read["drop_mode"]]
        if (kept := read.get("kept")) is not None:
            fields["kept"] = tuple(_natural(position) for position in _typed(kept, list))
        if (top_n := read.get("top_n")) is not None:
            fields["top_n"] = _natural(top_n)
        # Another version may count texts differently: its edits are not trusted, and detecting again is always safe.
        if fields["version"] == VERSION and (edits := read.get("edits")) is not None:
            fields["edits"] = tuple(_edit(*edit, length=fields["body_length"]) for edit in _typed(edits, list))
        return Handoff(**fields)
    except (KeyError, TypeError, ValueError, RecursionError):
        raise GateError(Reason.HANDOFF_MISMATCH, "handoff") from None


def _edit(ordinal: object, begin: object, end: object, spans: object, *, length: int) -> Edit:
    edit = (_natural(ordinal), _natural(begin), _natural(end), tuple(_span(*span) for span in _typed(spans, list)))
    if not edit[1] < edit[2] <= length:
        raise ValueError
    return edit


def _span(start: object, end: object, types: object) -> Span:
    span = (_natural(start), _natural(end), tuple(_typed(kind, str) for kind in _typed(types, list)))
    if not span[0] < span[1] or not span[2]:
        raise ValueError
    return span


def _typed(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError
    return value


def _natural(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TypeError
    return value
