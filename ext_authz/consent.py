"""Step 6 and 9 of check: has the right person agreed to exactly this, and may that be used now, once?

Nothing that stands in the store is believed: what was asked carries the gates' own MAC, who agreed the console's
signature, and both are bound to the bytes of this request and to what will be done with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from ext_authz.asking import REASON_HEADER, ask_of, caller_of, check_right, reason_given, requirement_of
from ext_authz.case import Case, Consent
from ext_authz.gate import Approvals, Gate
from ext_authz.soon import soon
from rankgate.approvals import (
    Ask,
    Caller,
    Met,
    Requirement,
    Revocation,
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
from rankgate.rewrite import mask_effort

__all__ = ["Wait", "given", "spend"]

# Once a vote is in, the youngest caller of a request takes at most so long to use it.
YIELD_S = 0.25
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


async def given(case: Case, gate: Gate, wait: Wait) -> bool:
    """Return True where consent can be used now; False where somebody decided while the caller waited.

    Then everything that depends on the time must be looked at again. Raises GateError in every other case.
    """
    approvals = gate.approvals
    ruling, principal = case.ruling, case.principal
    if approvals is None or ruling is None or ruling.approval is None or principal is None:
        raise GateError(Reason.APPROVAL_UNAVAILABLE)
    settings = gate.settings.approvals
    caller = caller_of(principal, settings)
    requirement = requirement_of(ruling.approval)
    why = ""
    if case.http.values(REASON_HEADER):
        check_right(principal, settings, gate.clock())
        why = reason_given(case, gate)
    elif not (caller.owner_people or caller.owner_groups or settings.allow_unowned):
        raise GateError(Reason.APPROVAL_UNAVAILABLE, "no owner")
    effort = mask_effort(case.reading.request, case.reading.findings) + len(case.http.body) if case.reading else 0
    ask = await gate.work.run(effort, case.tenant, lambda: ask_of(case, gate, requirement, caller, why))
    if why:
        case.consent = Consent(ask, State.PENDING, glass=True)
        return True
    joining = approvals.store.join(ask, authenticate(approvals.key, ask.encode()), approvals.caps)
    met, stored = await soon(joining, Reason.APPROVAL_STORE_UNAVAILABLE)
    if stored is None:
        raise GateError(Reason.APPROVAL_LIMIT)
    standing = _standing(stored, approvals, caller, requirement, gate.clock())
    if stored.ask.canonical_digest != ask.canonical_digest:
        raise GateError(Reason.APPROVAL_STORE_UNAVAILABLE, "record")
    if met in {Met.DENIED, Met.VARIANT}:
        case.consent = Consent(stored.ask, standing.state)
        if met is Met.DENIED and standing.state is State.DENIED:
            raise GateError(Reason.APPROVAL_DENIED)
        raise _pending(case, "the same waits in other bytes; send those again")
    if not _is_the_same(stored.ask, ask):
        raise GateError(Reason.APPROVAL_STORE_UNAVAILABLE, "record")
    case.consent = Consent(stored.ask, standing.state, standing)
    if standing.state is State.APPROVED:
        return _usable(case, standing, stored, approvals, gate)
    if standing.state is not State.PENDING:
        raise GateError(_CLOSED[standing.state])
    await _wait(case, gate, approvals, wait, caller, requirement)
    return False


def _is_the_same(one: Ask, other: Ask) -> bool:
    """Tell whether both ask for the same, at the same deployment: others may have the same keys and the same store."""
    return (one.deployment, one.use_digest, one.plan_digest) == (other.deployment, other.use_digest, other.plan_digest)


def _usable(case: Case, standing: Standing, stored: Stored, approvals: Approvals, gate: Gate) -> bool:
    """Return True; raise GateError where the time to use the consent is not now, or it was used."""
    now_ms = int(gate.clock() * 1000)
    if now_ms < standing.use_from_ms:
        raise _pending(case, "the time to use the approval has not come")
    if now_ms >= standing.use_until_ms:
        raise GateError(Reason.APPROVAL_EXPIRED)
    _refuse_used_here(case, approvals, stored.ask)
    return True


def _refuse_used_here(case: Case, approvals: Approvals, ask: Ask) -> None:
    """Raise GateError where another call of this process used the consent, whatever the store says."""
    by = approvals.room.spent_by(ask.id)
    if by and by != case.decision_id:
        raise GateError(Reason.APPROVAL_USED, "here")


async def _wait(
    case: Case, gate: Gate, approvals: Approvals, wait: Wait, caller: Caller, requirement: Requirement
) -> None:
    """Return once somebody decided; raise GateError where nobody did while this caller could wait."""
    consent = case.consent
    if consent is None:
        raise GateError(Reason.INTERNAL, "incomplete case")
    approval = consent.ask.id
    now = gate.clock()
    if wait.until is None:
        wait.until = now + _hold(case, gate)
    with approvals.room.seat(len(case.http.body)) as seated:
        if not seated or wait.until <= now:
            raise _pending(case)
        wait.paused(wait.until - now)
        if approval not in wait.changed:
            present = approvals.room.present(approval, case.decision_id)
            wait.changed[approval] = await wait.scope.enter_async_context(present)
        # Read after listening began: what happened before would be waited for in vain.
        while await _is_pending(case, gate, approvals, approval, caller, requirement):
            remaining = wait.until - gate.clock()
            if approvals.room.closed or remaining <= 0:
                raise _pending(case)
            remaining = min(remaining, consent.ask.expires_ms / 1000 - gate.clock())
            await wait.turn.aclose()
            await approvals.room.sleep(wait.changed[approval], case.left, max(remaining, 0.001))
            patience = max(wait.until - gate.clock(), gate.settings.limits.decision_s * TURN_SHARE)
            await wait.turn.enter_async_context(approvals.room.turn(patience))
        wait.paused(0.0)


async def _is_pending(
    case: Case, gate: Gate, approvals: Approvals, approval: str, caller: Caller, requirement: Requirement
) -> bool:
    """Read the approval; return False once it is approved, and raise GateError where that cannot come any more."""
    if case.left.is_set():
        raise GateError(Reason.CALLER_LEFT)
    stored = await soon(approvals.store.read(approval), Reason.APPROVAL_STORE_UNAVAILABLE)
    if stored is None:
        raise GateError(Reason.APPROVAL_STORE_UNAVAILABLE, "gone")
    standing = _standing(stored, approvals, caller, requirement, gate.clock())
    case.consent = Consent(stored.ask, standing.state, standing)
    if standing.state not in {State.APPROVED, State.PENDING}:
        raise GateError(_CLOSED[standing.state])
    return standing.state is State.PENDING


async def spend(case: Case, gate: Gate) -> None:
    """Use the consent, once, for this call; raise GateError where that is not possible.

    That it is about to be used is on disk before it is: whatever ends this process, no use is missing in the trail.
    """
    consent, approvals = case.consent, gate.approvals
    if consent is None or approvals is None:
        return
    if case.left.is_set():
        raise GateError(Reason.CALLER_LEFT)
    ask = consent.ask
    if consent.glass:
        await _break_glass(case, gate, approvals, ask)
        return
    _refuse_used_here(case, approvals, ask)
    await gate.audit.append(_event(What.APPROVAL_USE, case, gate, ask))
    for _ in range(1 + int(gate.settings.limits.decision_s / YIELD_S)):
        consuming = approvals.store.consume(ask.id, case.decision_id)
        use = await soon(consuming, Reason.APPROVAL_STORE_UNAVAILABLE)
        if use is not Use.YOUNGER:
            break
        await approvals.pause(YIELD_S)
    if use is Use.SPENT:
        # Of calls that the store let spend it side by side, one does: nothing comes between looking and remembering.
        _refuse_used_here(case, approvals, ask)
        approvals.room.remember(ask.id, case.decision_id, ask.expires_ms / 1000)
        case.consent = Consent(ask, State.CONSUMED, consent.standing)
        if case.left.is_set():
            raise GateError(Reason.CALLER_LEFT)
    elif use is Use.YOUNGER:
        raise _pending(case)
    else:
        raise GateError(Reason.APPROVAL_USED if use is Use.USED else Reason.APPROVAL_EXPIRED)


async def _break_glass(case: Case, gate: Gate, approvals: Approvals, ask: Ask) -> None:
    settings = gate.settings.approvals.break_glass
    await gate.audit.append(_event(What.ALARM, case, gate, ask, "break_glass"))
    opening = approvals.store.open_review(
        ask, authenticate(approvals.key, ask.encode()), settings.uses, settings.within_s
    )
    if not await soon(opening, Reason.APPROVAL_STORE_UNAVAILABLE):
        raise GateError(Reason.BREAK_GLASS_REFUSED, "limit")
    case.consent = Consent(ask, State.CONSUMED, glass=True)


def _event(what: What, case: Case, gate: Gate, ask: Ask, word: str = "") -> LifecycleEvent:
    detail = {"approval_id": ask.id, "decision_id": case.decision_id}
    return LifecycleEvent(what, int(gate.clock() * 1000), "ext_authz", word, detail)


def _pending(case: Case, why: str = "") -> GateError:
    public = f"{Reason.APPROVAL_PENDING.public}: {why}" if why else None
    if case.consent is not None:
        public = f"{public or Reason.APPROVAL_PENDING.public} (approval {case.consent.ask.id})"
    return GateError(Reason.APPROVAL_PENDING, public=public)


def _standing(stored: Stored, approvals: Approvals, caller: Caller, requirement: Requirement, now: float) -> Standing:
    """Return where an approval stands by what is signed; the store's own word counts where it closes."""
    if not is_authentic(approvals.key, stored.body, stored.mac):
        raise GateError(Reason.APPROVAL_STORE_UNAVAILABLE, "record")
    read = (approvals.votes.vote(text) for text in stored.votes)
    revocations: dict[str, Revocation] = {}
    for text in stored.revocations:
        revocation = approvals.votes.revocation(text)
        known = revocation and revocations.get(revocation.person)
        if revocation and (known is None or known.time_ms < revocation.time_ms):
            revocations[revocation.person] = revocation
    standing = tally(
        stored.ask,
        stored.body,
        [vote for vote in read if vote is not None],
        caller=caller,
        requirement=requirement,
        revocations=revocations,
        now_ms=int(now * 1000),
    )
    if stored.state in {State.CANCELLED, State.EXPIRED, State.CONSUMED} and standing.state is not State.DENIED:
        return Standing(stored.state, standing.approvals)
    return standing


def _hold(case: Case, gate: Gate) -> float:
    ruled = case.ruling.approval.hold_s if case.ruling and case.ruling.approval else None
    dialect = case.reading.request.dialect if case.reading else ""
    return hold_seconds(gate.settings.approvals.hold_s, ruled, dialect, case.http.values)
