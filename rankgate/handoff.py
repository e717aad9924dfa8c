"""The one seam between the filters: what ext_authz tells ext_proc about an allowed call.

It travels as Envoy dynamic metadata of the ext_authz filter under the key `rankgate`: the decision id for the access
log, and everything else as one JSON text, because Envoy repeats the metadata with every message of a stream and a
Struct of many members costs both sides more than the rest of the call. Never a token, a credential or a text.
Growth rule: add a field with a default, ignore unknown ones, never change a meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import msgspec

from rankgate.errors import GateError, Reason

__all__ = ["KEY", "VERSION", "Edit", "Handoff", "Span", "from_metadata", "to_metadata"]

KEY = "rankgate"
VERSION = 1
# Beyond this the edits cost more on their way than detecting again.
MAX_HANDOFF_BYTES = 65_536

Natural = Annotated[int, msgspec.Meta(ge=0)]
Span = tuple[Natural, Natural, Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]]
"""(start, end, every entity type found there), over the decoded string."""
Edit = tuple[Natural, Natural, Natural, tuple[Span, ...]]
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
    dialect_revision: Natural
    body_digest: str
    body_length: Natural
    text_count: Natural
    document_count: Natural
    request_plan: str
    response_plan: str
    drop_mode: Literal["omit", "floor"]
    kept: tuple[Natural, ...] | None = None
    top_n: Natural | None = None
    edits: tuple[Edit, ...] | None = None
    lease_fingerprint: str = ""
    version: Natural = VERSION


class _Head(msgspec.Struct):
    """What no handoff leaves out: what the rest means, and what the answer must not hold."""

    version: Natural
    lease_fingerprint: str


_ENCODER = msgspec.json.Encoder()
_HEAD, _HANDOFF = msgspec.json.Decoder(_Head), msgspec.json.Decoder(Handoff)


def to_metadata(handoff: Handoff) -> dict[str, str]:
    """Return the handoff as members of a protobuf Struct."""
    text = _ENCODER.encode(handoff)
    if len(text) > MAX_HANDOFF_BYTES:
        text = _ENCODER.encode(replace(handoff, edits=None))
    return {"decision_id": handoff.decision_id, "handoff": text.decode()}


def from_metadata(values: object) -> Handoff:
    """Read a handoff back. Raises GateError: HANDOFF_MISSING for none, HANDOFF_MISMATCH for a broken one."""
    if not isinstance(values, Mapping) or "handoff" not in values:
        raise GateError(Reason.HANDOFF_MISSING)
    try:
        text = values["handoff"]
        # Another version may count texts differently: its edits are not trusted, and detecting again is always safe.
        ours = _HEAD.decode(text).version == VERSION
        handoff = _HANDOFF.decode(text) if ours else _without_edits(text)
        _check(handoff)
    except (KeyError, TypeError, ValueError, RecursionError):
        raise GateError(Reason.HANDOFF_MISMATCH, "handoff") from None
    return handoff


def _without_edits(text: str) -> Handoff:
    return msgspec.convert({**msgspec.json.decode(text, type=dict[str, Any]), "edits": None}, Handoff)


def _check(handoff: Handoff) -> None:
    for _, begin, end, spans in handoff.edits or ():
        if not begin < end <= handoff.body_length or not all(first < last for first, last, _ in spans):
            raise ValueError
