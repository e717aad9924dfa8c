"""From what is known of a call to the answer it gets: an Allow with its handoff, or a Deny in its own dialect."""

from __future__ import annotations

from ext_authz.case import Case
from ext_authz.gate import Gate
from ext_authz.surface import unlisted_headers
from rankgate import dialects
from rankgate.decision import Allow, Deny
from rankgate.errors import GateError, Reason
from rankgate.handoff import Handoff
from rankgate.masking import keyed_digest

__all__ = ["RECEIPT", "allow", "denied_by_policy", "deny", "nothing_left"]

RECEIPT = "x-rankgate-decision-id"
# Never forwarded, whatever a route lists.
CREDENTIALS = frozenset({"authorization", "cookie", "proxy-authorization"})


def allow(case: Case, gate: Gate) -> Allow:
    """Return the answer that lets the call pass, with everything ext_proc must do to it."""
    principal, request, route, dialect = case.principal, case.request, case.route, case.dialect
    masks, ruling, lease = case.masks, case.ruling, case.lease
    if not (principal and request and route and dialect and masks and ruling):
        raise GateError(Reason.INTERNAL, "incomplete case")
    handoff = Handoff(
        decision_id=case.decision_id,
        issuer=principal.issuer,
        subject=principal.subject,
        tenant=principal.tenant,
        route=route.name,
        dialect=request.dialect,
        dialect_revision=request.revision,
        body_digest=keyed_digest(gate.keys.digest(principal.tenant), case.http.body),
        body_length=len(case.http.body),
        text_count=len(request.texts),
        document_count=request.document_count,
        request_plan=masks.request.to_text(),
        response_plan=masks.response.to_text(),
        drop_mode=dialect.drop_mode(route.drop_mode, request.top_n, request.document_count),
        kept=None if len(case.kept) == request.document_count else case.kept,
        top_n=request.top_n,
        spans=tuple((o, f.start, f.end, f.type) for o, found in sorted(case.findings.items()) for f in found),
        capture=ruling.capture or route.capture,
        lease_fingerprint=lease.fingerprint if lease else "",
    )
    # Envoy removes after it sets: what is set must not be listed for removal. A caller's header of that name is
    # overwritten, so nothing of it gets through.
    set_headers = (*ruling.headers, ("accept-encoding", "identity"))
    kept_names = {name for name, _ in set_headers} | ({lease.header} if lease else set())
    unlisted = unlisted_headers(case.http, route, gate.detector, principal.tenant)
    return Allow(
        decision_id=case.decision_id,
        handoff=handoff,
        lease=lease,
        set_headers=set_headers,
        remove=tuple(sorted({*CREDENTIALS, *unlisted, *ruling.remove} - kept_names)),
        response_headers=(*ruling.response_headers, (RECEIPT, case.decision_id)),
        query_set=ruling.query_set,
        query_remove=ruling.query_remove,
        metadata=dict(ruling.metadata),
    )


def deny(case: Case, refusal: GateError, status: int | None = None) -> Deny:
    """Return the refusal in the error shape of the caller's own API, with its receipt."""
    case.detail = refusal.detail if refusal.detail != refusal.reason.value else ""
    status = status or refusal.reason.status
    dialect = case.dialect or dialects.for_path(case.route.dialect if case.route else "auto", case.http.path)
    message = f"{refusal.public} (decision {case.decision_id})"
    headers, body = dialect.denial(status, message, case.decision_id)
    extra = [(RECEIPT, case.decision_id)]
    if status == 401:
        # RFC 6750 section 3.1: no error code where no credential was presented.
        presented = refusal.reason is not Reason.TOKEN_MISSING
        extra.append(("www-authenticate", 'Bearer error="invalid_token"' if presented else "Bearer"))
    if status == 405 and case.route is not None:
        extra.append(("allow", ", ".join(case.route.methods)))
    return Deny(case.decision_id, refusal.reason, status, (*headers, *extra), body)


def denied_by_policy(case: Case) -> Deny:
    """Return the policy's denial: its status, headers and body where it wrote them, else its first reason."""
    ruling = case.ruling
    if ruling is None:
        raise GateError(Reason.INTERNAL, "incomplete case")
    public = ": ".join((Reason.POLICY_DENIED.public, *case.reasons[:1]))
    denial = deny(case, GateError(Reason.POLICY_DENIED, public=public), ruling.status)
    headers, body = dict(denial.headers), denial.body
    if ruling.body is not None:
        headers["content-type"] = "text/plain; charset=utf-8"
        body = ruling.body.encode()
    merged = (*((name, value) for name, value in headers.items() if name not in dict(ruling.headers)), *ruling.headers)
    return Deny(case.decision_id, denial.reason, denial.status, merged, body, dict(ruling.metadata))


def nothing_left(case: Case) -> Deny:
    """Return the answer to a call all of whose documents were dropped; the reranker is not asked."""
    if not (case.ruling and case.request and case.dialect and case.route) or case.ruling.on_empty == "deny":
        raise GateError(Reason.NO_DOCUMENTS_LEFT)
    mode = case.dialect.drop_mode(case.route.drop_mode, case.request.top_n, case.request.document_count)
    body = case.dialect.empty_answer(case.request, mode)
    headers = (("content-type", "application/json"), (RECEIPT, case.decision_id))
    return Deny(case.decision_id, Reason.NO_DOCUMENTS_LEFT, 200, headers, body)
