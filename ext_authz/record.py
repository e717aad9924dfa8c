"""What is written down about a call: from its case and decision to the audit event."""

from __future__ import annotations

from collections import Counter
from functools import partial

from ext_authz.case import Case
from ext_authz.gate import Gate
from rankgate.audit import Call, Caller, Capture, DecisionEvent, Plan, capture_texts
from rankgate.decision import Allow, Decision
from rankgate.errors import Reason
from rankgate.masking import keyed_digest
from rankgate.request import Role

__all__ = ["decision_event"]


def decision_event(case: Case, decision: Decision, gate: Gate, finished: float) -> DecisionEvent:
    """Return the event for a decision made between `case.now` and `finished`, both in seconds."""
    principal, request, ruling, masks, http = case.principal, case.request, case.ruling, case.masks, case.http
    tenant = principal.tenant if principal else ""
    capture_mode = (ruling.capture if ruling else None) or (case.route.capture if case.route else "none")
    return DecisionEvent(
        decision_id=case.decision_id,
        time=int(case.now * 1000),
        allowed=isinstance(decision, Allow),
        reason=Reason.ALLOWED if isinstance(decision, Allow) else decision.reason,
        detail=case.detail,
        caller=Caller(principal.issuer, principal.subject, principal.tenant, principal.groups) if principal else None,
        call=Call(
            request_id=_header(case, "x-request-id"),
            route=case.route.name if case.route else "",
            method=http.method,
            path=_path(case, tenant, gate),
            source_address=http.source_address,
            dialect=request.dialect if request else "",
            operation=request.operation if request else "",
            model=request.model if request else None,
            document_count=request.document_count if request else None,
            total_chars=case.total_chars if request else None,
            body_bytes=len(http.body),
            body_digest=keyed_digest(gate.keys.digest(tenant), http.body),
        ),
        status=None if isinstance(decision, Allow) else decision.status,
        policy_reasons=case.reasons,
        risk=ruling.risk if ruling else None,
        policy_revision=case.policy_revision,
        policy_inputs=case.route.policy_inputs if case.route and ruling else (),
        detector_revision=gate.detector.revision,
        plan=Plan(
            mask_request=masks.request_name,
            mask_response=masks.response_name,
            dropped=ruling.drop,
            kept=len(case.kept),
            capture=capture_mode,
            relaxed=masks.relaxed,
        )
        if masks and ruling
        else None,
        findings=dict(Counter(finding.type for found in case.findings.values() for finding in found)),
        lease=case.lease.fingerprint if case.lease else "",
        capture=_capture(case, capture_mode, gate),
        question_digest=case.question_digest,
        duration_us=max(0, int((finished - case.now) * 1_000_000)),
        trace=_header(case, "traceparent"),
    )


def _capture(case: Case, mode: str, gate: Gate) -> Capture | None:
    """Return the query and the documents as the reranker receives them; nothing before masking is known."""
    if mode != "masked" or not (case.request and case.masks and case.principal):
        return None
    masker = gate.masker(case.principal.tenant, case.masks.request)
    kept = set(case.kept)
    query, instruction = case.request.query, None
    documents: list[tuple[int, str]] = []
    for text in case.request.texts:
        masked = masker.mask(text.value, case.findings.get(text.ordinal, ()))
        if text.role is Role.QUERY:
            query = masked
        elif text.role is Role.INSTRUCTION:
            instruction = masked
        elif text.position is not None and text.position in kept:
            documents.append((text.position, masked))
    digest = partial(keyed_digest, gate.keys.digest(case.principal.tenant))
    return capture_texts(mode, query, instruction, documents, gate.settings.audit.event_bytes, digest)


def _path(case: Case, tenant: str, gate: Gate) -> str:
    """Return the path asked for; one that no route names is the caller's own text, and masked as such."""
    if case.route is not None:
        return case.http.path
    return gate.masker(tenant, gate.all_types).mask(case.http.path, gate.detector.detect(case.http.path, cache=tenant))


def _header(case: Case, name: str) -> str:
    value = next(iter(case.http.values(name)), b"")
    return value.decode("ascii", "replace")
