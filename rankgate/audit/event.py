"""What happened: the three kinds of audit event, as values.

Growth rule: add a field with a default at the end, add a word to an enum; never rename, never change a meaning.
Texts in an event are already masked, digests are already keyed; a token, a credential or raw personal data never
enters one. All times are milliseconds since the epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from rankgate.audit.capture import Capture, StoredQuestion
from rankgate.errors import Reason

__all__ = [
    "Approval",
    "AuditEvent",
    "Ballot",
    "Call",
    "Caller",
    "CompletionEvent",
    "DecisionEvent",
    "LifecycleEvent",
    "Outcome",
    "Plan",
    "What",
]

Counts = Mapping[str, int]


class Outcome(StrEnum):
    """How an allowed call ended."""

    COMPLETE = "complete"
    ABORTED = "aborted"
    REFUSED = "refused"
    LOCAL_REPLY = "local_reply"
    UPSTREAM_ERROR = "upstream_error"


class What(StrEnum):
    """What a lifecycle event tells."""

    START = "start"
    STOP = "stop"
    POLICY_RELOAD = "policy_reload"
    CONFIG_RELOAD = "config_reload"
    LOG_BEGAN = "log_began"
    ALARM = "alarm"
    APPROVAL_USE = "approval_use"
    """An approval is about to be spent for a decision, which follows."""
    CONSOLE = "console"
    """A person did something at the console; `word` says what."""
    KEY_ROTATION = "key_rotation"
    """The key that signs checkpoints handed over to the next; `note` in the detail is signed by both."""
    SHADOW = "shadow"
    """A candidate policy rules otherwise on a decision; `word` says how."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The verified machine identity."""

    issuer: str
    subject: str
    tenant: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """The rerank call as it arrived. What was not understood is empty or None; `body_digest` is keyed."""

    request_id: str = ""
    route: str = ""
    method: str = ""
    path: str = ""
    source_address: str = ""
    dialect: str = ""
    operation: str = ""
    model: str | None = None
    document_count: int | None = None
    total_chars: int | None = None
    body_bytes: int = 0
    body_digest: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What was fixed by route and ruling: profiles masked with (`none`: nothing), documents dropped and kept."""

    mask_request: str
    mask_response: str
    dropped: tuple[int, ...] = ()
    kept: int = 0
    capture: str = "masked"
    relaxed: bool = False


@dataclass(frozen=True, slots=True)
class Ballot:
    """One person's vote that counted."""

    person: str
    choice: str
    reason: str
    time: int


@dataclass(frozen=True, slots=True)
class Approval:
    """Whose consent the call needed, and where that stood at the decision. `break_glass` is the reason of a caller
    that went ahead without."""

    id: str
    state: str
    groups: tuple[str, ...] = ()
    quorum: int = 1
    votes: tuple[Ballot, ...] = ()
    break_glass: str = ""


@dataclass(frozen=True, slots=True)
class DecisionEvent:
    """One Check, recorded by ext_authz before it answers. `caller` is None where no identity was verified.

    `status` is what the caller is answered with, None for an allow. `risk` and `policy_reasons` are the ruling's
    own; `policy_inputs` the opt-ins the question held. `question_digest` is keyed, `lease` a fingerprint. `detail`
    is a word of ours that narrows `reason` down ("expired"), for operators; never shown to the caller. `ruling` is the
    verdict of rankgate.policy.verdict, before the gate acted on it; `question` what it ruled on.
    """

    decision_id: str
    time: int
    allowed: bool
    reason: Reason
    caller: Caller | None = None
    call: Call = Call()
    status: int | None = None
    policy_reasons: tuple[str, ...] = ()
    risk: int | float | str | None = None
    policy_revision: str = ""
    policy_inputs: tuple[str, ...] = ()
    detector_revision: str = ""
    plan: Plan | None = None
    findings: Counts = field(default_factory=dict)
    lease: str = ""
    capture: Capture | None = None
    question_digest: str = ""
    duration_us: int = 0
    trace: str = ""
    detail: str = ""
    approval: Approval | None = None
    question: StoredQuestion | None = None
    ruling: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CompletionEvent:
    """What became of an allowed call, recorded by ext_proc once.

    `status` is what the caller received, `upstream_status` what the reranker said; None where there was none.
    `masked_request` and `masked_response` count replaced values by type. Digests are keyed.
    """

    decision_id: str
    time: int
    outcome: Outcome
    caller: Caller | None = None
    route: str = ""
    reason: Reason | None = None
    status: int | None = None
    upstream_status: int | None = None
    forwarded_digest: str = ""
    forwarded_bytes: int = 0
    response_digest: str = ""
    response_bytes: int = 0
    masked_request: Counts = field(default_factory=dict)
    masked_response: Counts = field(default_factory=dict)
    upstream_ms: int | None = None
    trace: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class LifecycleEvent:
    """Something about the gate or the console itself. `word` names the alarm, or what a person did at the console."""

    what: What
    time: int
    component: str
    word: str = ""
    detail: Mapping[str, str | int] = field(default_factory=dict)


AuditEvent = DecisionEvent | CompletionEvent | LifecycleEvent
