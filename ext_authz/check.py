"""May this call pass? The way of one request, in order, in one place.

    1 identity   token -> claims -> principal
    2 surface    route, method, parameters, headers, content: or refuse
    3 dialect    body -> rerank request, or refuse
    4 detect     texts -> findings; the only detection of a request
    5 policy     identity, rerank call and findings together -> ruling
    6 approval   if the ruling requires one
    7 ready?     can the bodies be processed
    8 lease      an upstream credential, for this call alone
    9 record     the decision is appended and synced
    10 answer

Nothing is allowed before its record is durable; whatever goes wrong on the way is a denial with a reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from ext_authz.answers import allow, denied_by_policy, deny, nothing_left
from ext_authz.case import Case, Masks
from ext_authz.gate import Gate
from ext_authz.record import decision_event
from ext_authz.surface import admit
from rankgate import dialects, jsontext
from rankgate.bearer import bearer
from rankgate.credentials import Grant
from rankgate.decision import Decision
from rankgate.errors import GateError, Reason
from rankgate.identity import Principal
from rankgate.masking import Plan, is_tighter_or_equal, keyed_digest, tighten
from rankgate.policy import Ruling, build_question, encode_question, parse_ruling
from rankgate.request import HttpRequest
from rankgate.rewrite import detect_request, unmaskable
from rankgate.settings import RouteSettings

__all__ = ["check"]

# Longer bodies are parsed and searched in a thread, so that none delays a small one.
INLINE_BYTES = 65_536
# Of Envoy's time for a Check; the rest is for the record and the answer.
DEADLINE_SHARE = 0.8
# No replacement is longer than what it replaces plus this many bytes.
GROWTH_BYTES = 64


async def check(http: HttpRequest, gate: Gate, decision_id: str) -> Decision:
    """Decide one call, record it, and return what it is answered. Never raises."""
    case = Case(http=http, decision_id=decision_id, now=gate.clock(), route=gate.settings.route(http.route))
    decision: Decision
    try:
        async with asyncio.timeout(gate.settings.limits.check_timeout_s * DEADLINE_SHARE):
            decision = await _decide(case, gate)
    except GateError as refusal:
        decision = deny(case, refusal)
    except TimeoutError:
        decision = deny(case, GateError(Reason.DEADLINE_EXCEEDED))
    except Exception as error:  # noqa: BLE001 - an unknown fault is a denial, and its text goes nowhere
        decision = deny(case, GateError(Reason.INTERNAL, type(error).__name__))
    # 9 record: permit and record are one act
    try:
        await gate.audit.append(decision_event(case, decision, gate, gate.clock()))
    except Exception as error:  # noqa: BLE001 - what cannot be recorded does not pass
        decision = deny(case, GateError(Reason.AUDIT_UNAVAILABLE, type(error).__name__))
    # 10 answer
    return decision


async def _decide(case: Case, gate: Gate) -> Decision:
    http, route, settings = case.http, case.route, gate.settings
    # 1 identity
    token = bearer(http.values("authorization"))
    case.principal = principal = await gate.verifier.verify(token, route.audiences if route else (), case.now)
    # 2 surface
    if route is None:
        raise GateError(Reason.PATH_UNKNOWN)
    admit(http, route, settings.limits, gate.detector, principal.tenant)
    # 3 dialect, 4 detect
    if len(http.body) > INLINE_BYTES:
        await asyncio.to_thread(_read, case, route, principal, gate)
    else:
        _read(case, route, principal, gate)
    # 5 policy
    ruling = await _ask(case, route, principal, gate)
    case.masks = _masks(route, ruling, gate.plans)
    if not ruling.allowed:
        return denied_by_policy(case)
    _limit(case, ruling, settings.limits.masked_body_bytes)
    # 6 approval
    if ruling.approval is not None:
        raise GateError(Reason.APPROVAL_UNAVAILABLE)
    if not case.kept:
        return nothing_left(case)
    # 7 ready?
    if not await gate.processor.ready():
        raise GateError(Reason.PROCESSOR_UNAVAILABLE)
    # 8 lease
    grant = Grant(case.decision_id, principal.subject, principal.tenant, route.name, ruling.credential)
    case.lease = await gate.credentials.lease(grant)
    return allow(case, gate)


def _read(case: Case, route: RouteSettings, principal: Principal, gate: Gate) -> None:
    """Steps 3 and 4. Runs in a thread for long bodies, so it touches nothing but its case."""
    case.json = jsontext.parse(case.http.body)
    case.dialect = dialects.choose(route.dialect, case.http.path, case.json)
    case.request = case.dialect.read(case.json)
    most = gate.settings.limits.documents
    if case.request.document_count > most:
        raise GateError(Reason.TOO_MANY_DOCUMENTS, public=f"at most {most} documents are accepted")
    if word := unmaskable(case.json, gate.detector, gate.plans[route.profile].operators):
        raise GateError(Reason.SENSITIVE_STRUCTURE, word)
    case.findings = detect_request(case.request, gate.detector, principal.tenant)


async def _ask(case: Case, route: RouteSettings, principal: Principal, gate: Gate) -> Ruling:
    """Step 5: put the question and read the ruling. The policy's texts may quote the call, so they are masked."""
    question = build_question(
        case.http,
        principal,
        case.request,
        case.findings,
        upstream=gate.settings.upstream.host,
        now=case.now,
        opt_ins=route.policy_inputs,
    )
    case.question_digest = keyed_digest(gate.keys.digest(principal.tenant), encode_question(question).encode())
    answer = await gate.policy.decide(question)
    case.policy_revision = gate.policy.revision
    count = case.request.document_count if case.request else 0
    ruling = parse_ruling(answer, document_count=count, credential_header=gate.settings.credentials.header)
    masker = gate.masker(principal.tenant, gate.all_types)
    case.reasons = tuple(masker.mask(text, gate.detector.detect(text)) for text in ruling.reasons)
    if ruling.body is not None:
        ruling = replace(ruling, body=masker.mask(ruling.body, gate.detector.detect(ruling.body)))
    case.ruling = ruling
    return ruling


def _masks(route: RouteSettings, ruling: Ruling, plans: Mapping[str, Plan]) -> Masks:
    """Return what is masked: the route's profile, and what the ruling adds to it, or relaxes where it may."""
    base = plans[route.profile]

    def choose(name: str | None) -> tuple[Plan, str]:
        if name is None or name == route.profile:
            return base, route.profile
        if name not in plans:
            raise GateError(Reason.POLICY_INVALID, "mask names no profile")
        return (plans[name], name) if route.may_relax else (tighten(base, plans[name]), f"{route.profile}+{name}")

    (request, request_name), (response, response_name) = choose(ruling.mask_request), choose(ruling.mask_response)
    relaxed = not (is_tighter_or_equal(request, base) and is_tighter_or_equal(response, base))
    return Masks(request, response, request_name, response_name, relaxed)


def _limit(case: Case, ruling: Ruling, masked_body_bytes: int) -> None:
    """Keep the ruling's limits, and refuse before any lease what could outgrow the reranker's limit by masking."""
    limits, request = ruling.limits, case.request
    if request and limits.documents is not None and request.document_count > limits.documents:
        raise GateError(Reason.TOO_MANY_DOCUMENTS, public=f"at most {limits.documents} documents for this caller")
    if limits.total_chars is not None and case.total_chars > limits.total_chars:
        raise GateError(Reason.BODY_TOO_LARGE, public=f"at most {limits.total_chars} characters for this caller")
    findings = sum(len(found) for found in case.findings.values())
    if len(case.http.body) + GROWTH_BYTES * findings > masked_body_bytes:
        raise GateError(Reason.BODY_TOO_LARGE, "masked")
