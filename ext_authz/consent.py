"""Step 6 and 9 of check: has the right person agreed to exactly this, and may that be used now, once?

    given    find the approval of this request, or open it; refused, used or over: say so
             agreed: go on; not decided: wait, then let everything that time may have changed be looked at again
    spend    write down that it is about to be used; use it, atomically; write down what came of it

Nothing that stands in the store is believed: what was asked carries the gates' own MAC, who agreed the console's
signature, and both are bound to the bytes of this request and to what will be done with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from ext_authz.ask import ask_of, caller_of, requirement_of
from ext_authz.case import Case, Consent
from ext_authz.gate import Approvals, Gate
from ext_authz.glass import break_glass, reason_to_break
from ext_authz.soon import soon
from rankgate.approvals import (
    Ask,
    Caller,
    Met,
    Requirement,
    Standing,
    State,
    Stored,
    Use,
    authenticate,
    hold_seconds,
    is_authentic,
    tally,
)
from rankgate.audit import LifecycleEvent, What
from rankgate.errors import GateError, Reason

__all__ = ["Wait", "given", "spend"]

# An elder caller of a request leaves consent to the youngest that waits: it looks so often whether that one is gone,
# for at most this share of a decision's time, and then still has time to say that it must come again.
YIELD_S = 0.25
YIELD_SHARE = 0.5
# One of them can be served. With the limit of pending approvals this keeps one machine from taking every seat.
EQUAL_CALLERS = 16
# Who can wait no longer waits so long for its turn to go away: this share of the time of a decision.
TURN_SHARE = 0.25

_CLOSED = {
    State.DENIED: Reason.APPROVAL_DENIED,
    State.EXPIRED: Reason.APPROVAL_EXPIRED,
    State.CANCELLED: Reason.APPROVAL_CANCELLED,
    State.CONSUMED: Reason.APPROVAL_USED,
}


@dataclass(slots=True)
class Wait:
    """How a call waits. `paused(seconds)` gives the decision so many seconds more; 0 begins its time anew.

    `scope` ends with the decision, and with it that the store knows of this caller: until then no elder one of the
    same request is served. `turn` ends with the answer, and with it the caller's turn to go on. `until` is when it can
    wait no longer, on the gate's clock.
    """

    paused: Callable[[float], None]
    scope: AsyncExitStack
    turn: AsyncExitStack
    until: float | None = None
    changed: dict[str, asyncio.Event] = field(default_factory=dict)
    """By approval: set whenever something happened to it."""


@dataclass(frozen=True, slots=True)
class _Terms:
    """What consent is measured by now, whatever was so when it was asked for: who asks, and what is needed."""

    approvals: Approvals
    caller: Caller
    requirement: Requirement

    def standing(self, stored: Stored, now: float) -> Standing:
        """Return where an approval stands by what is signed; the store's own word counts where it closes."""
        approvals = self.approvals
        if not is_authentic(approvals.key, stored.body, stored.mac):
            raise GateError(Reason.APPROVAL_STORE_UNAVAILABLE, "record")
        standing = tally(
            stored.ask,
            stored.body,
            approvals.votes.votes(stored.votes),
            caller=self.caller,
            requirement=self.requirement,
            revocations=approvals.votes.revocations(stored.revocations),
            now_ms=int(now * 1000),
        )
        # A refusal that no longer counts ends the approval all the same: the store lets nobody spend it.
        if stored.state in _CLOSED and standing.state is not State.DENIED:
            return Standing(stored.state, standing.approvals)
        return standing


async def given(case: Case, gate: Gate, wait: Wait) -> bool:
    """Return True where consent can be used now; False where somebody decided while the caller waited.

    Then everything that depends on the time must be looked at again. Raises GateError in every other case.
    """
    approvals, ruling, principal = gate.approvals, case.ruling, case.principal
    if approvals is None or ruling is None or ruling.approval is None or principal is None:
        raise GateError(Reason.APPROVAL_UNAVAILABLE)
    settings = gate.settings.approvals
    terms = _Terms(approvals, caller_of(principal, settings), requirement_of(ruling.approval))
    why = reason_to_break(case, gate, principal)
    if not (why or terms.caller.owner_people or terms.caller.owner_groups or settings.allow_unowned):
        raise GateError(Reason.APPROVAL_UNAVAILABLE, "no owner")
    ask = await ask_of(case, gate, terms.caller, terms.requirement, why)
    if why:
        case.consent = Consent(ask, State.PENDING, glass=True)
        return True
    stored = await _met(case, gate, terms, ask)
    standing = terms.standing(stored, gate.clock())
    case.consent = Consent(stored.ask, standing.state, standing)
    if standing.state is State.APPROVED:
        _usable(case, gate, approvals, stored.ask, standing)
        return True
    if standing.state is not State.PENDING:
        raise GateError(_CLOSED[standing.state])
    await _wait(case, gate, terms, wait, stored.ask.id)
    return False


async def _met(case: Case, gate: Gate, terms: _Terms, ask: Ask) -> Stored:
    """Return the approval of this request and plan, opened where there is none.

    Raises GateError where there may be none: the same was refused or is asked already, or too much is.
    """
    approvals = terms.approvals
    joining = approvals.store.join(ask, authenticate(approvals.key, ask.encode()), approvals.caps)
    met, stored = await soon(joining, Reason.APPROVAL_STORE_UNAVAILABLE)
    if stored is None:
        raise GateError(Reason.APPROVAL_LIMIT)
    if stored.ask.canonical_digest != ask.canonical_digest:
        raise GateError(Reason.APPROVAL_STORE_UNAVAILABLE, "record")
    if met in {Met.DENIED, Met.VARIANT}:
        case.consent = Consent(stored.ask, terms.standing(stored, gate.clock()).state)
        # Also where whoever refused may vote no more: asking again would change nothing until the refusal ends.
        raise (
            GateError(Reason.APPROVAL_DENIED)
            if met is Met.DENIED
            else _pending(case, "the same waits in other bytes; send those again")
        )
    if not _is_the_same(stored.ask, ask):
        raise GateError(Reason.APPROVAL_STORE_UNAVAILABLE, "record")
    return stored


def _is_the_same(one: Ask, other: Ask) -> bool:
    """Tell whether both ask for the same, at the same deployment: others may have the same keys and the same store."""
    return (one.deployment, one.use_digest, one.plan_digest) == (other.deployment, other.use_digest, other.plan_digest)


def _usable(case: Case, gate: Gate, approvals: Approvals, ask: Ask, standing: Standing) -> None:
    """Raise GateError where the time to use the consent is not now, or it was used here."""
    if not standing.usable(int(gate.clock() * 1000)):
        raise _pending(case, "the time to use the approval has not come")
    _refuse_used_here(case, approvals, ask)


def _refuse_used_here(case: Case, approvals: Approvals, ask: Ask) -> None:
    """Raise GateError where another call of this process used the consent, whatever the store says."""
    by = approvals.room.spent_by(ask.id)
    if by and by != case.decision_id:
        raise GateError(Reason.APPROVAL_USED, "here")


async def _wait(case: Case, gate: Gate, terms: _Terms, wait: Wait, approval: str) -> None:
    """Return once people agreed; raise GateError where they did not while this caller could wait."""
    room, now = terms.approvals.room, gate.clock()
    if wait.until is None:
        wait.until = now + _hold(case, gate)
    if approval not in wait.changed and room.crowd(approval) >= EQUAL_CALLERS:
        raise _pending(case)
    with room.seat(case.reading.json.held_bytes if case.reading else 0) as seated:
        if not seated or wait.until <= now:
            raise _pending(case)
        wait.paused(wait.until - now)
        if approval not in wait.changed:
            present = room.present(approval, case.decision_id)
            wait.changed[approval] = await wait.scope.enter_async_context(present)
        # Read after listening began: what happened before would be waited for in vain.
        while not await _agreed(case, gate, terms, approval):
            now = gate.clock()
            if room.closed or wait.until <= now:
                raise _pending(case)
            expires = case.consent.ask.expires_ms / 1000 if case.consent else now
            await wait.turn.aclose()
            await room.sleep(wait.changed[approval], case.left, max(min(wait.until, expires) - now, 0.001))
            patience = max(wait.until - gate.clock(), gate.settings.limits.decision_s * TURN_SHARE)
            await wait.turn.enter_async_context(room.turn(patience))
        wait.paused(0.0)


async def _agreed(case: Case, gate: Gate, terms: _Terms, approval: str) -> bool:
    """Look where an approval stands; raise GateError where nothing can become of it any more, or nobody waits."""
    if case.left.is_set():
        raise GateError(Reason.CALLER_LEFT)
    stored = await soon(terms.approvals.store.read(approval), Reason.APPROVAL_STORE_UNAVAILABLE)
    if stored is None:
        raise GateError(Reason.APPROVAL_STORE_UNAVAILABLE, "gone")
    standing = terms.standing(stored, gate.clock())
    case.consent = Consent(stored.ask, standing.state, standing)
    if standing.state in _CLOSED:
        raise GateError(_CLOSED[standing.state])
    return standing.state is State.APPROVED


async def spend(case: Case, gate: Gate) -> None:
    """Use the consent, once, for this call; raise GateError where that is not possible.

    That it is about to be used is on disk before it is: whatever ends this process, no use is missing in the trail.
    """
    consent, approvals = case.consent, gate.approvals
    if consent is None or approvals is None:
        raise GateError(Reason.INTERNAL, "incomplete case")
    if case.left.is_set():
        raise GateError(Reason.CALLER_LEFT)
    ask = consent.ask
    if consent.glass:
        await break_glass(case, gate, approvals, ask)
        return
    _refuse_used_here(case, approvals, ask)
    detail = {"approval_id": ask.id, "decision_id": case.decision_id}
    await gate.audit.append(LifecycleEvent(What.APPROVAL_USE, int(gate.clock() * 1000), "ext_authz", detail=detail))
    use = await _consume(case, gate, approvals, ask)
    if use is Use.YOUNGER:
        raise _pending(case)
    if use is not Use.SPENT:
        raise GateError(Reason.APPROVAL_USED if use is Use.USED else Reason.APPROVAL_EXPIRED)
    # Of calls that the store let spend it side by side, one does: nothing comes between looking and remembering.
    _refuse_used_here(case, approvals, ask)
    approvals.room.remember(ask.id, case.decision_id, ask.expires_ms / 1000)
    case.consent = Consent(ask, State.CONSUMED, consent.standing)
    if case.left.is_set():
        raise GateError(Reason.CALLER_LEFT)


async def _consume(case: Case, gate: Gate, approvals: Approvals, ask: Ask) -> Use:
    """Return what came of spending the approval; YOUNGER only where a younger caller waited all the time."""
    for number in range(1 + int(YIELD_SHARE * gate.settings.limits.decision_s / YIELD_S)):
        if number:
            await approvals.pause(YIELD_S)
        use = await _ask_to_spend(case, approvals, ask)
        if use is not Use.YOUNGER:
            return use
    return Use.YOUNGER


async def _ask_to_spend(case: Case, approvals: Approvals, ask: Ask) -> Use:
    """Spend the approval for this decision. Asked once more where no answer came: it may be spent for us already."""
    try:
        return await soon(approvals.store.consume(ask.id, case.decision_id), Reason.APPROVAL_STORE_UNAVAILABLE)
    except GateError:
        return await soon(approvals.store.consume(ask.id, case.decision_id), Reason.APPROVAL_STORE_UNAVAILABLE)


def _pending(case: Case, why: str = "") -> GateError:
    public = f"{Reason.APPROVAL_PENDING.public}: {why}" if why else None
    if case.consent is not None:
        public = f"{public or Reason.APPROVAL_PENDING.public} (approval {case.consent.ask.id})"
    return GateError(Reason.APPROVAL_PENDING, public=public)


def _hold(case: Case, gate: Gate) -> float:
    ruled = case.ruling.approval.hold_s if case.ruling and case.ruling.approval else None
    dialect = case.reading.request.dialect if case.reading else ""
    return hold_seconds(gate.settings.approvals.hold_s, ruled, dialect, case.http.values)
