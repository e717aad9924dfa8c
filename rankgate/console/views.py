"""What the desk shows: plain values for the pages and the API. All times are milliseconds since the epoch."""

from __future__ import annotations

from dataclasses import dataclass

from rankgate.approvals import Caller, Choice, PlanSummary, Preview, Requirement, State

__all__ = ["Detail", "Item", "ReviewItem", "Revoked", "VoteShown"]


@dataclass(frozen=True, slots=True)
class VoteShown:
    """A verified vote. `person` is the name to show; `own` tells that the reader cast it; `counts` that it counts."""

    person: str
    choice: Choice
    reason: str
    time_ms: int
    own: bool
    counts: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An approval as one person sees it.

    `state` follows the verified votes, whatever the store says. `needed` are the votes still missing. `objection` is
    why this person may not vote, None where they may; `may_vote` also tells that it is open and they have not voted.
    `record` names what is shown: a vote has to bring it back.
    """

    id: str
    state: State
    opened_ms: int
    expires_ms: int
    changed_ms: int
    caller: Caller
    route: str
    path: str
    upstream: str
    dialect: str
    model: str | None
    document_count: int
    total_chars: int
    findings: dict[str, int]
    risk: str | None
    reasons: tuple[str, ...]
    policy_revision: str
    plan: PlanSummary
    requirement: Requirement
    votes: tuple[VoteShown, ...]
    needed: int
    objection: str | None
    may_vote: bool
    may_withdraw: bool
    may_operate: bool
    record: str
    decision_id: str
    used_by: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail(Item):
    """An approval with its preview; None where there is none, or it was sealed to another key."""

    preview: Preview | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewItem:
    """What a call that broke the glass left. `objection` is why this person may not close it."""

    id: str
    opened_ms: int
    reason: str
    caller: Caller
    route: str
    path: str
    upstream: str
    dialect: str
    model: str | None
    document_count: int
    findings: dict[str, int]
    risk: str | None
    decision_id: str
    objection: str | None
    may_close: bool
    closed_by: str
    closed_reason: str
    closed_ms: int


@dataclass(frozen=True, slots=True)
class Revoked:
    """Whose votes do not count any more, and how many open approvals that changed."""

    people: tuple[str, ...]
    approvals: int
