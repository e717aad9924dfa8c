"""Step 6 and 9 of check: has the right person agreed to exactly this, and may that be used now, once?

Nothing that stands in the store is believed: what was asked carries the gates' own MAC, who agreed the console's
signature, and both are bound to the bytes of this request and to what will be done with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from ext_authz.case import Case, Consent
from ext_authz.gate import Approvals, Gate
from ext_authz.soon import soon
from rankgate.approvals import (
    Ask,
    Caller,
    Digests,
    Met,
    PlanSummary,
    Requirement,
    Revocation,
    Standing,
    State,
    Stored,
    Use,
    authenticate,
    canonical_digest,
    hold_seconds,
    is_authentic,
    plan_digest,
    redacted,
    tally,
    use_digest,
)
from rankgate.audit import LifecycleEvent, What
from rankgate.errors import GateError, Reason
from rankgate.identity import Principal
from rankgate.policy import Approval, Ruling
from rankgate.request import RerankRequest, Role
from rankgate.rewrite import mask_effort
from rankgate.settings import ApprovalSettings

__all__ = ["REASON_HEADER", "Wait", "given", "spend"]

REASON_HEADER = "rankgate-reason"
"""The request header by which a caller says why it goes ahead without an approval."""
REASON_CHARS = 500
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
    caller = _caller(principal, settings)
    requirement = _requirement(ruling.approval)
    why = ""
    if case.http.values(REASON_HEADER):
        _may_break_glass(principal, settings, gate.clock())
        why = _why(case, gate)
    elif not (caller.owner_people or caller.owner_groups or settings.allow_unowned):
        raise GateError(Reason.APPROVAL_UNAVAILABLE, "no owner")
    effort = mask_effort(case.reading.request, case.reading.findings) + len(case.http.body) if case.reading else 0
    ask = await gate.work.run(effort, case.tenant, lambda: _ask(case, gate, requirement, caller, why))
    if why:
        case.consent = Consent(ask, State.PENDING, glass=True)
        return True
    joining = approvals.store.join(ask, authenticate(approvals.key, ask.encode()), approvals.caps)
    met, stored = await soon(joining, Reason.APPROVAL_STORE_UNAVAILABLE)
    if stored is None:
        raise GateError(Reason.APPROVAL_LIMIT)
    standing = _standing(stored, approvals, caller, requirement, gate.clock())
    if met in {Met.DENIED, Met.VARIANT}:
        case.consent = Consent(stored.ask, standing.state)
        if met is Met.DENIED and standing.state is State.DENIED:
            raise GateError(Reason.APPROVAL_DENIED)
        raise _pending(case, "the same waits in other bytes; send those again")
    if (stored.ask.use_digest, stored.ask.plan_digest) != (ask.use_digest, ask.plan_digest):
        raise GateError(Reason.APPROVAL_STORE_UNAVAILABLE, "record")
    case.consent = Consent(stored.ask, standing.state, standing)
    if standing.state is State.APPROVED:
        return _usable(case, standing, stored, approvals, gate)
    if standing.state is not State.PENDING:
        raise GateError(_CLOSED[standing.state])
    await _wait(case, gate, approvals, wait, caller, requirement)
    return False


def _usable(case: Case, standing: Standing, stored: Stored, approvals: Approvals, gate: Gate) -> bool:
    """Return True; raise GateError where the time to use the consent is not now, or it was used."""
    now_ms = int(gate.clock() * 1000)
    if now_ms < standing.use_from_ms:
        raise _pending(case, "the time to use the approval has not come")
    if now_ms >= standing.use_until_ms:
        raise GateError(Reason.APPROVAL_EXPIRED)
    by = approvals.room.spent_by(stored.ask.id)
    if by and by != case.decision_id:
        raise GateError(Reason.APPROVAL_USED, "here")
    return True


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
    await gate.audit.append(_event(What.APPROVAL_USE, case, gate, ask))
    for _ in range(int(gate.settings.limits.decision_s / YIELD_S)):
        consuming = approvals.store.consume(ask.id, case.decision_id)
        use = await soon(consuming, Reason.APPROVAL_STORE_UNAVAILABLE)
        if use is not Use.YOUNGER:
            break
        await approvals.pause(YIELD_S)
    if use is Use.SPENT and case.left.is_set():
        case.consent = Consent(ask, State.CONSUMED, consent.standing)
        raise GateError(Reason.CALLER_LEFT)
    if use is Use.SPENT:
        approvals.room.remember(ask.id, case.decision_id, ask.expires_ms / 1000)
        case.consent = Consent(ask, State.CONSUMED, consent.standing)
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


def _caller(principal: Principal, settings: ApprovalSettings) -> Caller:
    """Return who asks: every name of the caller, and its owners."""
    claims: Mapping[str, object] = principal.claims
    named = (claims.get(name) for name in settings.name_claims)
    names = {principal.subject, *(value for value in named if isinstance(value, str) and value)}
    owners = [
        owner
        for owner in settings.owners
        if owner.subject == principal.subject and owner.issuer in {None, principal.issuer}
    ]
    return Caller(
        principal.issuer,
        principal.subject,
        principal.tenant,
        tuple(sorted(name.casefold() for name in names)),
        tuple(sorted({name.casefold() for owner in owners for name in owner.people})),
        tuple(sorted({name for owner in owners for name in owner.groups})),
    )


def _requirement(approval: Approval) -> Requirement:
    return Requirement(tuple(sorted(set(approval.groups))), approval.quorum, approval.ttl_s)


def _digests(case: Case, gate: Gate, ruling: Ruling, key: bytes) -> Digests:
    principal, route, reading, masks = case.principal, case.route, case.reading, case.masks
    if not (principal and route and reading and masks):
        raise GateError(Reason.INTERNAL, "incomplete case")
    http, upstream = case.http, gate.settings.upstream.url
    who = {"issuer": principal.issuer, "subject": principal.subject, "tenant": principal.tenant}
    changes = [f"{name}={value}" for name, value in (*ruling.headers, *ruling.query_set)]
    return Digests(
        use=use_digest(
            key, **who, upstream=upstream, route=route.name, method=http.method,
            path=f"{http.path}?{http.query}" if http.query else http.path,
            content_type=b", ".join(http.values("content-type")), body=http.body,
        ),
        plan=plan_digest(
            key, mask_request=masks.request.text, mask_response=masks.response.text, dropped=ruling.drop,
            on_empty=ruling.on_empty, credential=_credential(ruling, gate),
            changes=(*changes, "", *ruling.remove, "", *ruling.query_remove),
        ),
        canonical=canonical_digest(
            key, **who, upstream=upstream, route=route.name, value=_meaning(reading.request)
        ),
    )  # fmt: skip


def _meaning(request: RerankRequest) -> dict[str, object]:
    """Return what a call asks for, without what only names the call or is nothing to a reranker."""
    texts = [(text.role, text.position, text.value) for text in request.texts if text.role is not Role.OTHER]
    return {"operation": request.operation, "model": request.model, "top_n": request.top_n, "texts": texts}


def _credential(ruling: Ruling, gate: Gate) -> str:
    return ":".join(filter(None, (gate.settings.credentials.broker, ruling.credential)))


def _ask(case: Case, gate: Gate, requirement: Requirement, caller: Caller, why: str) -> Ask:
    """Return what people are asked; long work for a large body."""
    approvals, route, reading, masks, ruling = gate.approvals, case.route, case.reading, case.masks, case.ruling
    if not (approvals and route and reading and masks and ruling):
        raise GateError(Reason.INTERNAL, "incomplete case")
    now_ms, request = int(gate.clock() * 1000), reading.request
    digests = _digests(case, gate, ruling, approvals.key)
    model = None if request.model is None else gate.clean(request.model, case.tenant)
    return Ask(
        id=approvals.new_id(now_ms / 1000),
        deployment=gate.settings.deployment,
        decision_id=case.decision_id,
        opened_ms=now_ms,
        expires_ms=now_ms + 1000 * requirement.ttl_s,
        use_digest=digests.use,
        plan_digest=digests.plan,
        canonical_digest=digests.canonical,
        requirement=requirement,
        caller=caller,
        route=route.name,
        path=case.http.path,
        upstream=gate.settings.upstream.host,
        dialect=request.dialect,
        model=model,
        document_count=request.document_count,
        total_chars=case.total_chars,
        plan=PlanSummary(
            masks.request_name, masks.response_name, ruling.drop, len(case.kept), _credential(ruling, gate),
            masks.relaxed,
        ),
        findings=case.counts,
        risk=ruling.risk,
        reasons=case.reasons,
        policy_revision=case.policy_revision,
        preview=_preview(case, gate, approvals),
        break_glass=why,
    )  # fmt: skip


def _preview(case: Case, gate: Gate, approvals: Approvals) -> str:
    """Return what approvers see, sealed to them: every type redacted, whatever the plan says."""
    reading = case.reading
    if approvals.sealer is None or reading is None:
        return ""
    masker = gate.masker(case.tenant, approvals.redact)
    shown: dict[Role, list[tuple[int, str]]] = {role: [] for role in Role}
    for text in reading.request.texts:
        if text.role is not Role.OTHER:
            masked = masker.mask(text.value, reading.findings.get(text.ordinal, ()))
            shown[text.role].append((text.position or 0, masked))
    query = "\n".join(text for _, text in shown[Role.QUERY])
    instruction = "\n".join(text for _, text in shown[Role.INSTRUCTION]) or None
    return approvals.sealer.seal(redacted(query, instruction, shown[Role.DOCUMENT]))


def _hold(case: Case, gate: Gate) -> float:
    ruled = case.ruling.approval.hold_s if case.ruling and case.ruling.approval else None
    dialect = case.reading.request.dialect if case.reading else ""
    return hold_seconds(gate.settings.approvals.hold_s, ruled, dialect, case.http.values)


def _may_break_glass(principal: Principal, settings: ApprovalSettings, now: float) -> None:
    """Return where the caller has the right to go ahead; raise GateError otherwise: who asks for it is told."""
    right = settings.break_glass
    issued = principal.claims.get("iat")
    if right.scope is None or right.scope not in principal.scopes:
        raise GateError(Reason.BREAK_GLASS_REFUSED, "scope")
    if not isinstance(issued, int) or principal.expires - issued > right.token_s or now >= principal.expires:
        raise GateError(Reason.BREAK_GLASS_REFUSED, "token lifetime")


def _why(case: Case, gate: Gate) -> str:
    """Return the caller's reason, masked; raise GateError where it gives none, or more than one."""
    given_ = [value.decode("latin-1").strip() for value in case.http.values(REASON_HEADER)]
    if len(given_) != 1 or not 0 < len(given_[0]) <= REASON_CHARS or not given_[0].isprintable():
        raise GateError(Reason.BREAK_GLASS_REFUSED, "reason")
    return gate.clean(given_[0], case.tenant)
