"""Break glass: a caller with a right of its own goes ahead without people, says why, and is looked at afterwards."""

from __future__ import annotations

from ext_authz.case import Case, Consent
from ext_authz.gate import Approvals, Gate
from ext_authz.soon import soon
from rankgate.approvals import Ask, State, authenticate
from rankgate.audit import LifecycleEvent, What
from rankgate.errors import GateError, Reason
from rankgate.identity import Principal
from rankgate.settings import ApprovalSettings

__all__ = ["REASON_HEADER", "break_glass", "reason_to_break"]

REASON_HEADER = "rankgate-reason"
"""The request header by which a caller says why it goes ahead without an approval."""
REASON_CHARS = 500


def reason_to_break(case: Case, gate: Gate, principal: Principal) -> str:
    """Return why the caller goes ahead, masked; empty where it does not want to.

    Raises GateError(BREAK_GLASS_REFUSED) where it has no right to, or gives no reason: who asks for it is told.
    """
    if not case.http.values(REASON_HEADER):
        return ""
    _has_the_right(principal, gate.settings.approvals, gate.clock())
    given = [value.decode("latin-1").strip() for value in case.http.values(REASON_HEADER)]
    if len(given) != 1 or not 0 < len(given[0]) <= REASON_CHARS or not given[0].isprintable():
        raise GateError(Reason.BREAK_GLASS_REFUSED, "reason")
    return gate.clean(given[0], case.tenant)


async def break_glass(case: Case, gate: Gate, approvals: Approvals, ask: Ask) -> None:
    """Raise the alarm, and leave what a person must look at; raises GateError where either cannot be done."""
    settings = gate.settings.approvals.break_glass
    detail = {"approval_id": ask.id, "decision_id": case.decision_id}
    await gate.audit.append(LifecycleEvent(What.ALARM, int(gate.clock() * 1000), "ext_authz", "break_glass", detail))
    opening = approvals.store.open_review(
        ask, authenticate(approvals.key, ask.encode()), settings.uses, settings.within_s
    )
    if not await soon(opening, Reason.APPROVAL_STORE_UNAVAILABLE):
        raise GateError(Reason.BREAK_GLASS_REFUSED, "limit")
    case.consent = Consent(ask, State.CONSUMED, glass=True)


def _has_the_right(principal: Principal, settings: ApprovalSettings, now: float) -> None:
    """Raise GateError where the token does not give the right, or lives too long to."""
    right = settings.break_glass
    issued = principal.claims.get("iat")
    if right.scope is None or right.scope not in principal.scopes:
        raise GateError(Reason.BREAK_GLASS_REFUSED, "scope")
    if not isinstance(issued, int) or principal.expires - issued > right.token_s or now >= principal.expires:
        raise GateError(Reason.BREAK_GLASS_REFUSED, "token lifetime")
