"""What is written down about a call: from its case and decision to the audit event.

Whatever a caller can write is masked with every type before it enters, whether or not the call was understood.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from ext_authz.case import Case
from ext_authz.gate import Gate
from rankgate.audit import (
    Approval,
    Ballot,
    Call,
    Caller,
    Capture,
    DecisionEvent,
    Plan,
    StoredQuestion,
    capture_texts,
    store_question,
)
from rankgate.decision import Allow, Decision
from rankgate.detect import Finding
from rankgate.errors import Reason
from rankgate.headers import traceparent
from rankgate.masking import keyed_digest, tighten
from rankgate.policy import encode_question
from rankgate.policy.storing import storable
from rankgate.policy.verdict import Verdict, cleaned, verdict
from rankgate.request import Role

__all__ = ["decision_event"]

METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
# Of a path that no route names.
PATH_CHARS = 256


def decision_event(case: Case, decision: Decision, gate: Gate, finished: float) -> DecisionEvent:
    """Return the event for a decision made between `case.now` and `finished`, both in seconds."""
    principal, ruling, masks = case.principal, case.ruling, case.masks
    asked = case.route is not None and bool(case.question_digest)
    capture, question = _texts(case, gate)
    return DecisionEvent(
        decision_id=case.decision_id,
        time=int(case.now * 1000),
        allowed=isinstance(decision, Allow),
        reason=Reason.ALLOWED if isinstance(decision, Allow) else decision.reason,
        caller=Caller(principal.issuer, principal.subject, principal.tenant, principal.groups) if principal else None,
        call=_call(case, gate),
        status=None if isinstance(decision, Allow) else decision.status,
        policy_reasons=case.reasons,
        risk=ruling.risk if ruling else None,
        policy_revision=case.policy_revision,
        policy_inputs=case.route.policy_inputs if case.route and asked else (),
        detector_revision=gate.detector.revision,
        plan=Plan(
            mask_request=masks.request_name,
            mask_response=masks.response_name,
            dropped=ruling.drop,
            kept=len(case.kept),
            capture=masks.capture,
            relaxed=masks.relaxed,
        )
        if masks and ruling
        else None,
        findings=case.counts,
        lease=case.lease.fingerprint if case.lease else "",
        capture=capture,
        question_digest=case.question_digest,
        duration_us=max(0, int((finished - case.now) * 1_000_000)),
        trace=traceparent(case.http.values("traceparent")),
        detail=case.detail,
        approval=_approval(case, gate),
        question=question,
        ruling=_ruling(case, gate) if question else {},
    )


def _approval(case: Case, gate: Gate) -> Approval | None:
    """Return who agreed or refused. People's reasons are masked like every text that somebody else wrote."""
    consent = case.consent
    if consent is None:
        return None
    standing = consent.standing
    votes = () if standing is None else (*standing.approvals, *filter(None, (standing.denial,)))
    return Approval(
        id=consent.ask.id,
        state=consent.state.value,
        groups=consent.ask.requirement.groups,
        quorum=consent.ask.requirement.quorum,
        votes=tuple(
            Ballot(vote.voter.person, vote.choice.value, gate.clean(vote.reason, case.tenant), vote.time_ms)
            for vote in votes
        ),
        break_glass=consent.ask.break_glass,
    )


def _call(case: Case, gate: Gate) -> Call:
    http, tenant = case.http, case.tenant
    request = case.reading.request if case.reading else None
    return Call(
        # Envoy's own: a caller's x-request-id does not survive.
        request_id=next(iter(http.values("x-request-id")), b"").decode("ascii", "replace"),
        route=case.route.name if case.route else "",
        method=http.method if http.method in METHODS else "other",
        path=http.path if case.route else _strange_path(case, gate),
        source_address=http.source_address,
        dialect=request.dialect if request else "",
        operation=request.operation if request else "",
        model=gate.clean(request.model, tenant) if request and request.model is not None else None,
        document_count=request.document_count if request else None,
        total_chars=case.total_chars if request else None,
        body_bytes=len(http.body),
        body_digest=case.body_digest or keyed_digest(gate.keys.digest(tenant), http.body),
    )


def _strange_path(case: Case, gate: Gate) -> str:
    """Return the beginning of a path that no route names, masked; nothing of it for callers that nobody knows."""
    return gate.clean(case.http.path[:PATH_CHARS], case.tenant) if case.principal else ""


def _texts(case: Case, gate: Gate) -> tuple[Capture | None, StoredQuestion | None]:
    """Return what is kept of the call's texts: as the reranker receives them, and as the policy saw them.

    A plan that masks less than the route's profile governs what is sent, not what is stored. Before a ruling is
    understood nobody knows what the reranker would receive, but the question may be kept: with the route's masks.
    """
    masks, reading, route = case.masks, case.reading, case.route
    if not (reading and route) or (masks.capture if masks else route.capture) != "masked":
        return None, None
    if masks is None:
        if case.question is None:
            return None, None
        plan = gate.plans[route.profile]
    else:
        plan = tighten(masks.request, gate.plans[route.profile]) if masks.relaxed else masks.request
    masker = gate.masker(case.tenant, plan)
    kept, findings = set(case.kept) if masks else set(), reading.findings
    queries: list[str] = []
    instruction = None
    documents: list[tuple[int, str]] = []
    asked: dict[Role, list[str]] = {Role.QUERY: [], Role.INSTRUCTION: []}
    for text in reading.request.texts:
        if text.role is Role.OTHER or (text.role is Role.DOCUMENT and text.position not in kept):
            continue
        masked = masker.mask(text.value, findings.get(text.ordinal, ()))
        if text.role is Role.DOCUMENT:
            if text.position is not None:
                documents.append((text.position, masked))
            continue
        asked[text.role].append(masked)
        if text.role is Role.INSTRUCTION:
            instruction = masked
        elif text.position is None or text.position in kept:
            queries.append(masked)
    query, most = "\n".join(queries), gate.settings.audit.event_bytes
    question = None if case.question is None else _question(case, gate, asked, (query, instruction), most)
    if masks is None:
        return None, question
    digest = partial(keyed_digest, gate.keys.digest(case.tenant))
    left = most - len(question.input) if question else most
    return capture_texts(masks.capture, query, instruction, documents, left, digest), question


def _differing(asked: str | None, masked: Sequence[str]) -> str | None:
    """Return how a member of the question reads masked, None where that is what was asked.

    It was made of the texts that `masked` were, one a line; anything else in it is not known to be clean.
    """
    lines = "\n".join(masked)
    return None if asked is None or asked == lines else lines


def _question(
    case: Case, gate: Gate, asked: Mapping[Role, Sequence[str]], first: tuple[str | None, ...], most: int
) -> StoredQuestion | None:
    """Return the question as it may be stored, within `most` bytes beside the texts of `first`; `asked` are masked."""
    if case.question is None or case.reading is None or case.route is None:
        return None
    request = case.reading.request
    kept, why = storable(
        case.question,
        _Looked(gate, case.tenant),
        query=_differing(request.query, asked[Role.QUERY]),
        instruction=_differing(request.instruction, asked[Role.INSTRUCTION]),
        body_is_clean=not any(case.reading.findings.values()) and not case.reading.structure,
        opt_ins=case.route.policy_inputs,
    )
    return store_question(encode_question(kept) if why else case.asked, why, most, first)


def _ruling(case: Case, gate: Gate) -> Verdict:
    """Return the verdict of the policy itself, its words masked where they hold anything."""
    looked = _Looked(gate, case.tenant)
    if case.ruled is None:
        return {}
    return cleaned(verdict(case.ruled), lambda text: looked.clean(text) if looked.detect(text) else text)


class _Looked:
    """The texts of one tenant: what is found in one, and how it reads with every type masked."""

    def __init__(self, gate: Gate, tenant: str) -> None:
        self._gate = gate
        self._tenant = tenant

    def detect(self, text: str) -> Sequence[Finding]:
        return self._gate.detector.detect(text, cache=self._tenant)

    def clean(self, text: str) -> str:
        return self._gate.clean(text, self._tenant)
