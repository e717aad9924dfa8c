"""Body -> what of a decision can be asked again: its question and the verdict it got, or why it cannot be.

A decision can be asked again exactly where its event holds the very question that was asked, and a policy's own answer
to it. Everything else is told by a word, so that a reader knows what a comparison does not cover.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from rankgate.audit.entry import BodyError
from rankgate.policy import OPT_INS
from rankgate.policy.verdict import FAULTS, fault_verdict

__all__ = ["BEFORE_POLICY", "UNASKABLE", "Recorded", "read_decision"]

BEFORE_POLICY = "before_policy"
UNASKABLE = (
    BEFORE_POLICY, "no_question", "budget", "policy_unavailable", "policy_timeout", "no_ruling", "policy_inputs",
    "inexact",
)  # fmt: skip
"""Why a decision cannot be asked again: refused before the policy was asked, its question not stored or too large, no
answer of the policy, opt-in inputs that are never stored, texts that masking changed. Growth rule: add."""

_ENGINE = frozenset({"policy_unavailable", "policy_timeout"})


@dataclass(frozen=True, slots=True)
class Recorded:
    """One decision. `unaskable` is empty or a word of UNASKABLE; `why` then narrows it down.

    `question` is JSON, empty where the event holds none; `before` the verdict on it, empty where there was none.
    `document_count` bounds what a ruling may drop. `time` is in milliseconds since 1970.
    """

    decision_id: str
    position: str
    time: int
    deployment: str
    route: str
    policy_revision: str
    unaskable: str
    why: tuple[str, ...] = ()
    question: str = ""
    document_count: int = 0
    before: dict[str, Any] = field(default_factory=dict)


class _Question(msgspec.Struct, frozen=True):
    exact: bool
    input: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    why: tuple[str, ...] = ()


class _Approval(msgspec.Struct, frozen=True, omit_defaults=True):
    groups: list[str]
    quorum: int | None = None
    ttl_s: int | None = None
    hold_s: int | None = None


class _Ruling(msgspec.Struct, frozen=True, omit_defaults=True):
    """A verdict of rankgate.policy.verdict, read from what somebody may have altered."""

    allowed: bool
    status: int | None = None
    reasons: list[str] | None = None
    risk: str | None = None
    approval: _Approval | None = None
    mask_request: str | None = None
    mask_response: str | None = None
    drop: list[int] | None = None
    on_empty: str | None = None
    credential: str | None = None
    capture: str | None = None
    limits: dict[str, int] | None = None
    masked: list[str] | None = None


class _Ours(msgspec.Struct, frozen=True):
    kind: str
    deployment: str
    log: str
    index: int
    decision_id: str = ""
    reason: str = ""
    route: str = ""
    question_digest: str = ""
    question: _Question | None = None
    ruling: _Ruling | None = None


class _Unmapped(msgspec.Struct, frozen=True):
    rankgate: _Ours


class _Policy(msgspec.Struct, frozen=True):
    version: str = ""


class _Event(msgspec.Struct, frozen=True):
    time: int
    unmapped: _Unmapped
    policy: _Policy = _Policy()


class _Rerank(msgspec.Struct, frozen=True):
    document_count: int = 0


class _Input(msgspec.Struct, frozen=True):
    rerank: _Rerank = _Rerank()


_EVENT, _INPUT = msgspec.json.Decoder(_Event), msgspec.json.Decoder(_Input)


def read_decision(body: bytes) -> Recorded | None:
    """Return what `body` tells of a decision, None for an event of another kind; raises BodyError.

    `body` was read by rankgate.audit.entry before: of a member that is given twice the last would count here.
    """
    try:
        event = _EVENT.decode(body)
        ours = event.unmapped.rankgate
        if ours.kind != "decision":
            return None
        held = "" if ours.question is None or ours.question.input is msgspec.UNSET else _text(ours.question.input)
        count = _INPUT.decode(held).rerank.document_count if held else 0
    except (ValueError, RecursionError):
        raise BodyError("the body is no decision that can be read") from None
    if ours.ruling is not None:
        before = msgspec.to_builtins(ours.ruling)
    else:
        before = fault_verdict(ours.reason) if ours.reason in FAULTS else {}
    unaskable, why = _judged(ours, held, before)
    return Recorded(
        decision_id=ours.decision_id,
        position=f"{ours.log}#{ours.index}",
        time=event.time,
        deployment=ours.deployment,
        route=ours.route,
        policy_revision=event.policy.version,
        unaskable=unaskable,
        why=why,
        question=held,
        document_count=count,
        before=before,
    )


def _text(raw: msgspec.Raw) -> str:
    return bytes(raw).decode()


def _judged(ours: _Ours, held: str, before: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Return the word for why a decision cannot be asked again, and what narrows it down."""
    asked = ours.question
    if not ours.question_digest:
        return BEFORE_POLICY, (ours.reason,)
    if asked is None or not held:
        return ("budget" if asked is not None and "budget" in asked.why else "no_question"), ()
    if not before:
        return (ours.reason if ours.reason in _ENGINE else "no_ruling"), ()
    if opt_ins := tuple(word for word in asked.why if word in OPT_INS):
        return "policy_inputs", opt_ins
    return ("", ()) if asked.exact else ("inexact", asked.why)
