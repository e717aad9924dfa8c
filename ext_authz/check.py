"""May this call pass? The way of one request, in order, in one place.

    1 identity   token -> claims -> principal
    2 surface    route, method, parameters, headers, content: or refuse
    3 dialect    body -> rerank request, or refuse
    4 detect     texts -> findings; the only detection of a request
    5 policy     identity, rerank call and findings together -> ruling
    6 approval   if the ruling requires one: find it, or open it and wait; after waiting, identity and policy again
    7 ready?     can the bodies be processed
    8 lease      an upstream credential, for this call alone
    9 consume    the approval, once
    10 record    the decision is appended and synced
    11 answer

Nothing is allowed before its record is durable; whatever goes wrong on the way is a denial with a reason.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from ext_authz.answers import allow, denied_by_policy, deny, nothing_left
from ext_authz.case import Case, Masks, Reading
from ext_authz.consent import Wait, given, spend
from ext_authz.gate import Gate, Shadow
from ext_authz.record import decision_event
from ext_authz.soon import soon
from ext_authz.surface import admit
from rankgate import dialects, jsontext
from rankgate.audit import DecisionEvent
from rankgate.bearer import bearer
from rankgate.credentials import Grant, Secret
from rankgate.decision import Decision, Deny
from rankgate.errors import GateError, Reason
from rankgate.identity import Principal
from rankgate.masking import Plan, is_tighter_or_equal, keyed_digest, tighten
from rankgate.policy import Ruling, build_question, encode_question, parse_ruling
from rankgate.policy.verdict import FAULTS, fault_verdict, verdict
from rankgate.request import HttpRequest
from rankgate.rewrite import detect_effort, detect_request, detect_structure, mask_effort, mask_request, unmaskable
from rankgate.settings import RouteSettings

__all__ = ["check"]

# No replacement is longer than what it replaces plus this many bytes.
GROWTH_BYTES = 64

Answer = TypeVar("Answer")
Got = TypeVar("Got")


async def check(
    http: HttpRequest | None,
    gate: Gate,
    decision_id: str,
    render: Callable[[Decision], Answer],
    left: asyncio.Event | None = None,
) -> tuple[Decision, Answer]:
    """Decide one call, record it, and return the decision with what `render` makes of it. Never raises.

    `http` is None where what Envoy sent could not be read. `render` runs before the record, so that what is recorded
    is what is answered. `left` is set when the caller waits for no answer any more.
    """
    case = Case(http=http or HttpRequest.unreadable(), decision_id=decision_id, now=gate.clock())
    case.left = left or case.left
    async with contextlib.AsyncExitStack() as turn:
        return await _check(http, case, gate, render, turn)


async def _check(
    http: HttpRequest | None,
    case: Case,
    gate: Gate,
    render: Callable[[Decision], Answer],
    turn: contextlib.AsyncExitStack,
) -> tuple[Decision, Answer]:
    limits = gate.settings.limits
    try:
        async with asyncio.timeout(limits.decision_s) as budget, contextlib.AsyncExitStack() as scope:
            loop = asyncio.get_running_loop()
            wait = Wait(lambda seconds: budget.reschedule(loop.time() + seconds + limits.decision_s), scope, turn)
            decision = await _decide(http, case, gate, wait)
        answer = render(decision)
    except GateError as refusal:
        decision = deny(case, refusal)
        answer = render(decision)
    except TimeoutError:
        decision = deny(case, GateError(Reason.DEADLINE_EXCEEDED))
        answer = render(decision)
    except Exception as error:  # noqa: BLE001 - an unknown fault is a denial, and its text goes nowhere
        decision = deny(case, GateError(Reason.INTERNAL, type(error).__name__))
        answer = render(decision)
    # 10 record: permit and record are one act
    try:
        # What deciding did not use of Envoy's time, and always what is set aside for this.
        async with asyncio.timeout(limits.check_timeout_s - min(gate.clock() - case.now, limits.decision_s)):
            try:
                event = await _event(case, decision, gate)
            except GateError as refusal:
                # No place for the long work of a capture: the call is refused, and that is recorded without one.
                case.masks, case.question, decision = None, None, deny(case, refusal)
                answer = render(decision)
                event = await _event(case, decision, gate)
            await gate.audit.append(event)
    except Exception as error:  # noqa: BLE001 - what cannot be recorded does not pass
        decision = deny(case, GateError(Reason.AUDIT_UNAVAILABLE, type(error).__name__))
        answer = render(decision)
    # 11 answer
    if gate.shadow is not None:
        _offer(case, decision, gate.shadow)
    return decision, answer


def _offer(case: Case, decision: Decision, shadow: Shadow) -> None:
    """Let a candidate policy be asked later, where the live one answered by itself."""
    if case.ruled is not None:
        live = verdict(case.ruled)
    elif case.asked and isinstance(decision, Deny) and decision.reason in FAULTS:
        live = fault_verdict(decision.reason.value)
    else:
        return
    count = case.reading.request.document_count if case.reading else 0
    shadow.offer(case.decision_id, case.asked, live, case.policy_revision, count)


async def _event(case: Case, decision: Decision, gate: Gate) -> DecisionEvent:
    """Return the record of a decision. Only what masks texts for the capture is long work."""
    effort = mask_effort(case.reading.request, case.reading.findings) if case.reading and case.masks else 0
    return await gate.work.run(effort, case.tenant, lambda: decision_event(case, decision, gate, gate.clock()))


async def _decide(http: HttpRequest | None, case: Case, gate: Gate, wait: Wait) -> Decision:
    if http is None:
        raise GateError(Reason.INTERNAL, "unreadable")
    settings = gate.settings
    case.route = route = settings.route(http.route)
    # 1 identity
    token = bearer(http.values("authorization"))
    case.principal = principal = await _principal(token, route, gate)
    # 2 surface
    if route is None:
        raise GateError(Reason.PATH_UNKNOWN)
    admit(http, route, settings.limits, gate.detector, principal.tenant)
    in_time = gate.deadline(settings.limits.decision_s)

    def work(effort: int, step: Callable[[], Got]) -> Awaitable[Got]:
        return gate.work.run(effort, principal.tenant, step)

    # 3 dialect
    case.reading = reading = await work(jsontext.parse_effort(http.body), partial(_read, case, route, principal, gate))
    # 4 detect
    effort = detect_effort(reading.json, reading.request, gate.detector, principal.tenant)
    case.reading = reading = await work(effort, partial(_detect, reading, gate, principal.tenant, in_time))
    while True:
        # 5 policy
        asking = partial(_question, case, reading, route, principal, gate)
        answer = await gate.policy.decide(await work(_question_effort(reading, route, http), asking))
        case.policy_revision = gate.policy.revision
        case.ruling = ruling = _ruling(case, answer, reading, principal, gate)
        case.masks = masks = _masks(route, ruling, gate.plans)
        if not ruling.allowed:
            return denied_by_policy(case)
        _keep_bounds(case, reading, ruling, masks)
        await _refuse_outgrown(case, reading, masks, gate, in_time)
        if not case.kept:
            return nothing_left(case)
        # 6 approval
        if ruling.approval is None or await given(case, gate, wait):
            break
        # Somebody decided meanwhile; the token may have run out, and the policy may see it otherwise by now.
        in_time = gate.deadline(settings.limits.decision_s)
        case.principal = principal = await _principal(token, route, gate)
    # 7 ready?
    if not await soon(gate.processor.ready(), Reason.PROCESSOR_UNAVAILABLE):
        raise GateError(Reason.PROCESSOR_UNAVAILABLE)
    # 8 lease
    grant = Grant(
        decision_id=case.decision_id,
        issuer=principal.issuer,
        subject=principal.subject,
        tenant=principal.tenant,
        route=route.name,
        body_digest=case.body_digest,
        token=Secret(token),
        expires=principal.expires,
        kind=ruling.credential,
    )
    case.lease = await soon(gate.credentials.lease(grant), Reason.CREDENTIAL_UNAVAILABLE)
    allowed = await work(mask_effort(reading.request, reading.findings), partial(allow, case, gate, in_time))
    # 9 consume
    if ruling.approval is not None:
        await spend(case, gate)
    return allowed


async def _principal(token: str, route: RouteSettings | None, gate: Gate) -> Principal:
    """Return who calls, by a token that is good now."""
    verifying = gate.identities.verify(token, route.audiences if route else (), gate.clock())
    return await soon(verifying, Reason.KEYS_UNAVAILABLE)


def _read(case: Case, route: RouteSettings, principal: Principal, gate: Gate) -> Reading:
    """Step 3; keeps the keyed digest of the body, which the lease, the orders for ext_proc and the record name."""
    body = case.http.body
    case.body_digest = keyed_digest(gate.keys.digest(principal.tenant), body)
    json = jsontext.parse(body)
    dialect = dialects.choose(route.dialect, case.http.path, json)
    request = dialect.read(json)
    most = gate.settings.limits.documents
    if request.document_count > most:
        raise GateError(Reason.TOO_MANY_DOCUMENTS, public=f"at most {most} documents are accepted")
    return Reading(json, dialect, request)


def _detect(reading: Reading, gate: Gate, tenant: str, in_time: Callable[[], None]) -> Reading:
    """Step 4."""
    found = detect_request(reading.request, gate.detector, tenant, in_time)
    return replace(reading, findings=found, structure=tuple(detect_structure(reading.json, gate.detector)))


def _question_effort(reading: Reading, route: RouteSettings, http: HttpRequest) -> int:
    """Return the effort of the question: little for a query, more for what a route adds of the body."""
    body = len(http.body) // 16 + jsontext.parse_effort(http.body) if route.policy_inputs else 0
    return len(reading.request.query) // 64 + body


def _question(case: Case, reading: Reading, route: RouteSettings, principal: Principal, gate: Gate) -> str:
    """Return the question of step 5, and keep it with its keyed digest."""
    question = build_question(
        case.http,
        principal,
        reading.request,
        reading.findings,
        upstream=gate.settings.upstream.host,
        now=gate.clock(),
        opt_ins=route.policy_inputs,
    )
    case.asked = asked = encode_question(question)
    case.question_digest = keyed_digest(gate.keys.digest(principal.tenant), asked.encode())
    # Of an earlier question, before a person was asked, nothing stays.
    case.question, case.ruled = question if route.capture_question else None, None
    return asked


def _ruling(case: Case, answer: Any, reading: Reading, principal: Principal, gate: Gate) -> Ruling:
    """Read the answer of step 5. A policy's texts may quote the call: its words are masked, its values refused."""
    case.ruled = ruling = parse_ruling(
        answer,
        document_count=reading.request.document_count,
        credential_header=gate.settings.credentials.header,
    )
    values = [value for _, value in (*ruling.headers, *ruling.response_headers, *ruling.query_set)]
    if not gate.is_clean([*values, *_strings(ruling.metadata)], principal.tenant):
        raise GateError(Reason.POLICY_INVALID, "a value holds sensitive data")
    case.reasons = tuple(gate.clean(text, principal.tenant) for text in ruling.reasons)
    body = None if ruling.body is None else gate.clean(ruling.body, principal.tenant)
    return replace(ruling, reasons=case.reasons, body=body)


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(text for item in value.values() for text in _strings(item))]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    return [value] if isinstance(value, str) else []


def _masks(route: RouteSettings, ruling: Ruling, plans: Mapping[str, Plan]) -> Masks:
    """Return what is masked and captured: the route's, what the ruling adds, and what it relaxes where it may."""
    base = plans[route.profile]

    def choose(name: str | None) -> tuple[Plan, str]:
        if name is None or name == route.profile:
            return base, route.profile
        if name not in plans:
            raise GateError(Reason.POLICY_INVALID, "mask names no profile")
        return (plans[name], name) if route.may_relax else (tighten(base, plans[name]), f"{route.profile}+{name}")

    (request, request_name), (response, response_name) = choose(ruling.mask_request), choose(ruling.mask_response)
    # Another capture than the route's keeps less evidence or stores more text: neither is tighter.
    capture = ruling.capture if ruling.capture and route.may_relax else route.capture
    relaxed = (
        capture != route.capture or not is_tighter_or_equal(request, base) or not is_tighter_or_equal(response, base)
    )
    return Masks(request, response, request_name, response_name, capture, relaxed)


def _keep_bounds(case: Case, reading: Reading, ruling: Ruling, masks: Masks) -> None:
    """Keep the ruling's limits, and refuse before any lease what masking cannot cover."""
    limits = ruling.limits
    if limits.documents is not None and reading.request.document_count > limits.documents:
        raise GateError(Reason.TOO_MANY_DOCUMENTS, public=f"at most {limits.documents} documents for this caller")
    if limits.total_chars is not None and case.total_chars > limits.total_chars:
        raise GateError(Reason.BODY_TOO_LARGE, public=f"at most {limits.total_chars} characters for this caller")
    if word := unmaskable(reading.structure, masks.request.operators):
        raise GateError(Reason.SENSITIVE_STRUCTURE, word)


async def _refuse_outgrown(case: Case, reading: Reading, masks: Masks, gate: Gate, in_time: Callable[[], None]) -> None:
    """Refuse before any lease what masking would make too large."""
    size, most = len(case.http.body), gate.settings.limits.masked_body_bytes
    findings = sum(len(found) for found in reading.findings.values())
    # Re-encoding and escaped look-alikes at most double a body; only near the limit is it worth masking to know.
    if 2 * size + GROWTH_BYTES * findings <= most:
        return
    masker = gate.masker(case.tenant, masks.request)

    def mask() -> int:
        sent = mask_request(
            reading.json, reading.request, reading.dialect, case.kept, reading.findings, masker, masker, in_time
        )
        return len(sent.body)

    if await gate.work.run(size, case.tenant, mask) > most:
        raise GateError(Reason.BODY_TOO_LARGE, "masked")
