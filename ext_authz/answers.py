"""From what is known of a call to the answer it gets: an Allow with its handoff, or a Deny in its own dialect."""

from __future__ import annotations

from collections.abc import Callable

from ext_authz.case import Case
from ext_authz.gate import Gate
from ext_authz.surface import unlisted_headers
from rankgate import dialects
from rankgate.decision import APPROVAL, RECEIPT, Allow, Deny
from rankgate.errors import GateError, Reason
from rankgate.handoff import Handoff
from rankgate.rewrite import edits_of

__all__ = ["allow", "denied_by_policy", "deny", "nothing_left"]

# Never forwarded, whatever a route lists.
CREDENTIALS = frozenset({"authorization", "cookie", "proxy-authorization"})
# RFC 6750 section 3: a challenge has at least one parameter, and an error only where a credential was presented.
CHALLENGE = 'Bearer realm="rankgate"'
CHALLENGES = {
    Reason.TOKEN_MISSING: CHALLENGE,
    Reason.TOKEN_INVALID: f'{CHALLENGE}, error="invalid_token"',
    Reason.AUTHORIZATION_AMBIGUOUS: f'{CHALLENGE}, error="invalid_request"',
}


def allow(case: Case, gate: Gate, in_time: Callable[[], None]) -> Allow:
    """Return the answer that lets the call pass, with everything ext_proc must do to it.

    `in_time` is called on the way, and raises where there is no time left.
    """
    principal, reading, route, masks, ruling = case.principal, case.reading, case.route, case.masks, case.ruling
    if not (principal and reading and route and masks and ruling):
        raise GateError(Reason.INTERNAL, "incomplete case")
    request = reading.request
    handoff = Handoff(
        decision_id=case.decision_id,
        issuer=principal.issuer,
        subject=principal.subject,
        tenant=principal.tenant,
        route=route.name,
        dialect=request.dialect,
        dialect_revision=request.revision,
        body_digest=case.body_digest,
        body_length=len(case.http.body),
        text_count=len(request.texts),
        document_count=request.document_count,
        request_plan=masks.request.text,
        response_plan=masks.response.text,
        drop_mode=reading.dialect.drop_mode(route.drop_mode, request.top_n, request.document_count),
        kept=None if len(case.kept) == request.document_count else case.kept,
        top_n=request.top_n,
        edits=edits_of(request, reading.findings, gate.masker(principal.tenant, masks.request), in_time),
        lease_fingerprint=case.lease.fingerprint if case.lease else "",
    )
    # Envoy removes after it sets: what is set must not be listed for removal. A caller's header of that name is
    # overwritten, so nothing of it gets through.
    set_headers = (*ruling.headers, ("accept-encoding", "identity"))
    kept_names = {name for name, _ in set_headers} | ({case.lease.header} if case.lease else set())
    unlisted = unlisted_headers(case.http, route, gate.detector, principal.tenant)
    return Allow(
        decision_id=case.decision_id,
        handoff=handoff,
        lease=case.lease,
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
    configured = case.route.dialect if case.route else "auto"
    dialect = case.reading.dialect if case.reading else dialects.for_path(configured, case.http.path)
    status = status or dialect.status(refusal.reason)
    message = f"{refusal.public} (decision {case.decision_id})"
    headers, body = dialect.denial(status, message, case.decision_id)
    extra = [(RECEIPT, case.decision_id)]
    if case.consent is not None:
        extra.append((APPROVAL, case.consent.ask.id))
    if refusal.reason in CHALLENGES:
        extra.append(("www-authenticate", CHALLENGES[refusal.reason]))
    elif status == 401:
        extra.append(("www-authenticate", CHALLENGE))
    if refusal.reason is Reason.METHOD_NOT_ALLOWED and case.route is not None:
        extra.append(("allow", ", ".join(case.route.methods)))
    return Deny(case.decision_id, refusal.reason, status, (*headers, *extra), body)


def denied_by_policy(case: Case) -> Deny:
    """Return the policy's denial: its status and headers, its body as the message, else its first reason."""
    ruling = case.ruling
    if ruling is None:
        raise GateError(Reason.INTERNAL, "incomplete case")
    public = ruling.body or ": ".join((Reason.POLICY_DENIED.public, *case.reasons[:1]))
    denial = deny(case, GateError(Reason.POLICY_DENIED, public=public), ruling.status)
    own = {name for name, _ in ruling.headers}
    headers = (*(pair for pair in denial.headers if pair[0] not in own), *ruling.headers)
    return Deny(case.decision_id, denial.reason, denial.status, headers, denial.body, dict(ruling.metadata))


def nothing_left(case: Case) -> Deny:
    """Return the answer to a call all of whose documents were dropped; the reranker is not asked.

    With `on_empty: empty` it has status 200 and is the API's own empty answer: still no allow, and recorded so.
    """
    ruling, reading, route = case.ruling, case.reading, case.route
    if not (ruling and reading and route) or ruling.on_empty == "deny":
        raise GateError(Reason.NO_DOCUMENTS_LEFT)
    request = reading.request
    mode = reading.dialect.drop_mode(route.drop_mode, request.top_n, request.document_count)
    body = reading.dialect.empty_answer(request, mode)
    headers = (*ruling.response_headers, ("content-type", "application/json"), (RECEIPT, case.decision_id))
    return Deny(case.decision_id, Reason.NO_DOCUMENTS_LEFT, 200, headers, body, dict(ruling.metadata))
