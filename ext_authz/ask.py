"""What people are asked about a call: whose it is, what is needed, and what exactly they would agree to."""

from __future__ import annotations

from collections.abc import Mapping

from ext_authz.case import Case
from ext_authz.gate import Approvals, Gate
from rankgate.approvals import (
    Ask,
    Caller,
    Digests,
    PlanSummary,
    Requirement,
    canonical_digest,
    plan_digest,
    redacted,
    use_digest,
)
from rankgate.errors import GateError, Reason
from rankgate.identity import Principal
from rankgate.policy import Approval, Ruling
from rankgate.request import RerankRequest, Role
from rankgate.rewrite import mask_effort
from rankgate.settings import ApprovalSettings

__all__ = ["ask_of", "caller_of", "requirement_of"]


def caller_of(principal: Principal, settings: ApprovalSettings) -> Caller:
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


def requirement_of(approval: Approval) -> Requirement:
    """Return whose consent a ruling wants, in one writing."""
    return Requirement(tuple(sorted(set(approval.groups))), approval.quorum, approval.ttl_s)


async def ask_of(case: Case, gate: Gate, caller: Caller, requirement: Requirement, why: str = "") -> Ask:
    """Return what people are asked; `why` is the reason of a caller that goes ahead without them.

    Long work for a large body: what approvers see is masked and sealed here.
    """
    effort = mask_effort(case.reading.request, case.reading.findings) + len(case.http.body) if case.reading else 0
    return await gate.work.run(effort, case.tenant, lambda: _ask(case, gate, caller, requirement, why))


def _ask(case: Case, gate: Gate, caller: Caller, requirement: Requirement, why: str) -> Ask:
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


def _digests(case: Case, gate: Gate, ruling: Ruling, key: bytes) -> Digests:
    principal, route, reading, masks = case.principal, case.route, case.reading, case.masks
    if not (principal and route and reading and masks):
        raise GateError(Reason.INTERNAL, "incomplete case")
    http, upstream = case.http, gate.settings.upstream.url
    who = {"issuer": principal.issuer, "subject": principal.subject, "tenant": principal.tenant}
    headers, query = ([f"{name}={value}" for name, value in pairs] for pairs in (ruling.headers, ruling.query_set))
    return Digests(
        use=use_digest(
            key, **who, upstream=upstream, route=route.name, method=http.method,
            path=f"{http.path}?{http.query}" if http.query else http.path,
            content_type=b", ".join(http.values("content-type")), body=http.body,
        ),
        plan=plan_digest(
            key, mask_request=masks.request.text, mask_response=masks.response.text, dropped=ruling.drop,
            on_empty=ruling.on_empty, credential=_credential(ruling, gate),
            changes=(*headers, "", *query, "", *ruling.remove, "", *ruling.query_remove),
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
