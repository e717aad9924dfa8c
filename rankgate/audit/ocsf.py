"""Event -> leaf: the bytes that are stored, hashed and shipped, rendered once.

The body is OCSF 1.9.0: API Activity (6003) for decisions and completions, Application Lifecycle (6002) for the gate's
own events. What OCSF has no place for stands under `unmapped.rankgate`, with the log and number of the entry.
docs/schema/audit-event.json describes it. Growth rule: add members, never rename one or change its meaning; a member
that is not known is absent, never null; readers ignore members they do not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, assert_never

import msgspec

from rankgate.audit.capture import Capture, CapturedText, StoredQuestion
from rankgate.audit.event import (
    Approval,
    AuditEvent,
    Caller,
    CompletionEvent,
    DecisionEvent,
    LifecycleEvent,
    Plan,
    What,
)
from rankgate.audit.text import Digest, clip, clip_all, dump

__all__ = ["OCSF_VERSION", "SCHEMA", "Source", "render"]

OCSF_VERSION = "1.9.0"
SCHEMA = 1
NAME_CHARS = 256
PATH_CHARS = 1024
LIST_ITEMS = 64

_API_ACTIVITY = {"category_uid": 6, "class_uid": 6003, "activity_id": 2, "type_uid": 600302}
_LIFECYCLE_ACTIVITY = {What.START: 3, What.STOP: 4, What.POLICY_RELOAD: 8, What.CONFIG_RELOAD: 8}
_OTHER = 99
_INFORMATIONAL, _LOW, _HIGH = 1, 2, 4
_SUCCESS, _FAILURE = 1, 2

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Source:
    """What every entry of one log has in common; `version` is that of rankgate."""

    deployment: str
    log: str
    version: str
    digest: Digest


def render(event: AuditEvent, source: Source, index: int) -> bytes:
    """Return the leaf of `event` as entry `index` of the source's log: one line of compact UTF-8 JSON.

    Long strings are clipped with their length and keyed hash. Raises ValueError on a number JSON cannot hold.
    """
    digest = source.digest
    match event:
        case DecisionEvent():
            body, kind = _decision(event, digest), "decision"
        case CompletionEvent():
            body, kind = _completion(event, digest), "completion"
        case LifecycleEvent():
            body, kind = _lifecycle(event, source), "lifecycle"
        case _:
            assert_never(event)
    metadata: Json = {
        "version": OCSF_VERSION,
        "uid": f"{source.log}#{index}",
        "log_name": source.log,
        "sequence": index,
        "product": _product(source),
    }
    ours = {
        "schema": SCHEMA,
        "kind": kind,
        "deployment": source.deployment,
        "log": source.log,
        "index": index,
    }
    body["metadata"] = metadata | body.get("metadata", {})
    body["unmapped"] = {"rankgate": ours | body["unmapped"]}
    return dump(body)


def _decision(event: DecisionEvent, digest: Digest) -> Json:
    call = event.call
    url = {"path": clip(call.path, PATH_CHARS, digest)}
    body: Json = _API_ACTIVITY | {
        "severity_id": _INFORMATIONAL if event.allowed else _LOW,
        "time": event.time,
        "status_id": _SUCCESS if event.allowed else _FAILURE,
        "status_code": event.reason.value,
        "action_id": 1 if event.allowed else 2,
        "disposition_id": 1 if event.allowed else 2,
        "duration": event.duration_us // 1000,
        "metadata": _request_metadata(event.decision_id, event.caller, event.trace, digest),
        "actor": _actor(event.caller, digest),
        "api": {
            "operation": clip(call.operation, NAME_CHARS, digest) or "unknown",
            "request": {"uid": clip(call.request_id, NAME_CHARS, digest)},
            "service": {"name": clip(call.route, NAME_CHARS, digest) or "unknown"},
        },
        "src_endpoint": _endpoint(call.source_address, digest),
        "http_request": {"http_method": clip(call.method, NAME_CHARS, digest), "url": url},
    }
    if event.status is not None:
        body["http_response"] = {"code": event.status}
    if call.model is not None:
        body["ai_model"] = {"name": clip(call.model, NAME_CHARS, digest), "ai_provider": "unknown"}
    if event.policy_revision:
        body["policy"] = {"name": "rankgate", "version": clip(event.policy_revision, NAME_CHARS, digest)}
    if event.trace:
        body["trace"] = _trace(event.trace, digest)
    body["unmapped"] = _present(
        decision_id=event.decision_id,
        allowed=event.allowed,
        reason=event.reason.value,
        detail=clip(event.detail, PATH_CHARS, digest),
        route=clip(call.route, NAME_CHARS, digest),
        dialect=call.dialect,
        document_count=call.document_count,
        total_chars=call.total_chars,
        body_bytes=call.body_bytes,
        body_digest=call.body_digest,
        policy_reasons=clip_all(event.policy_reasons, PATH_CHARS, LIST_ITEMS, digest),
        risk=clip(event.risk, NAME_CHARS, digest) if isinstance(event.risk, str) else event.risk,
        policy_inputs=list(event.policy_inputs),
        detector_revision=event.detector_revision,
        plan=event.plan and _plan(event.plan),
        findings=dict(event.findings),
        lease=event.lease,
        capture=event.capture and _capture(event.capture),
        question_digest=event.question_digest,
        duration_us=event.duration_us,
        trace=clip(event.trace, NAME_CHARS, digest),
        approval=event.approval and _approval(event.approval, digest),
        question=event.question and _question(event.question),
        ruling=dict(event.ruling),
    )
    return body


def _completion(event: CompletionEvent, digest: Digest) -> Json:
    complete = event.outcome == "complete"
    body: Json = _API_ACTIVITY | {
        "severity_id": _INFORMATIONAL if complete else _LOW,
        "time": event.time,
        "status_id": _SUCCESS if complete else _FAILURE,
        "status_code": event.outcome.value,
        "metadata": _request_metadata(event.decision_id, event.caller, event.trace, digest),
        "actor": _actor(event.caller, digest),
        "api": {"operation": "rerank", "service": {"name": clip(event.route, NAME_CHARS, digest) or "unknown"}},
        "src_endpoint": _endpoint("", digest),
    }
    if event.status is not None:
        body["http_response"] = {"code": event.status}
        if event.upstream_ms is not None:
            body["http_response"]["latency"] = event.upstream_ms
    if event.trace:
        body["trace"] = _trace(event.trace, digest)
    body["unmapped"] = _present(
        decision_id=event.decision_id,
        outcome=event.outcome.value,
        reason=event.reason and event.reason.value,
        route=clip(event.route, NAME_CHARS, digest),
        status=event.status,
        upstream_status=event.upstream_status,
        forwarded_digest=event.forwarded_digest,
        forwarded_bytes=event.forwarded_bytes,
        response_digest=event.response_digest,
        response_bytes=event.response_bytes,
        masked_request=dict(event.masked_request),
        masked_response=dict(event.masked_response),
        upstream_ms=event.upstream_ms,
        trace=clip(event.trace, NAME_CHARS, digest),
        detail=clip(event.detail, PATH_CHARS, digest),
    )
    return body


def _lifecycle(event: LifecycleEvent, source: Source) -> Json:
    activity = _LIFECYCLE_ACTIVITY.get(event.what, _OTHER)
    alarm = event.what is What.ALARM
    body: Json = {
        "category_uid": 6,
        "class_uid": 6002,
        "activity_id": activity,
        "type_uid": 600200 + activity,
        "severity_id": _HIGH if alarm else _INFORMATIONAL,
        "time": event.time,
        "status_id": _FAILURE if alarm else _SUCCESS,
        "app": _product(source),
    }
    if activity == _OTHER:
        body["activity_name"] = event.what.value
    detail = {
        name: clip(value, PATH_CHARS, source.digest) if isinstance(value, str) else value
        for name, value in event.detail.items()
    }
    body["unmapped"] = _present(what=event.what.value, component=event.component, word=event.word, detail=detail)
    return body


def _product(source: Source) -> Json:
    return {"name": "rankgate", "vendor_name": "rankgate", "version": source.version}


def _request_metadata(decision_id: str, caller: Caller | None, trace: str, digest: Digest) -> Json:
    profiles = ["security_control", "ai_operation", *(["trace"] if trace else [])]
    metadata: Json = {"profiles": profiles, "correlation_uid": decision_id}
    if caller is not None:
        metadata["tenant_uid"] = clip(caller.tenant, NAME_CHARS, digest)
    return metadata


def _actor(caller: Caller | None, digest: Digest) -> Json:
    if caller is None:
        return {"user": {"name": "unverified", "type_id": 0}}
    subject = clip(caller.subject, NAME_CHARS, digest)
    user: Json = {"name": subject, "uid": subject, "type_id": 3}
    if caller.groups:
        user["groups"] = [{"name": name} for name in clip_all(caller.groups, NAME_CHARS, LIST_ITEMS, digest)]
    return {"user": user, "idp": {"name": clip(caller.issuer, NAME_CHARS, digest)}}


def _endpoint(address: str, digest: Digest) -> Json:
    return {"ip": clip(address, NAME_CHARS, digest)} if address else {"name": "unknown"}


def _trace(traceparent: str, digest: Digest) -> Json:
    parts = traceparent.split("-")
    if len(parts) < 4:
        return {"uid": clip(traceparent, NAME_CHARS, digest)}
    return {"uid": clip(parts[1], NAME_CHARS, digest), "span": {"uid": clip(parts[2], NAME_CHARS, digest)}}


def _plan(plan: Plan) -> Json:
    return {
        "mask_request": plan.mask_request,
        "mask_response": plan.mask_response,
        "dropped": list(plan.dropped),
        "kept": plan.kept,
        "capture": plan.capture,
        "relaxed": plan.relaxed,
    }


def _approval(approval: Approval, digest: Digest) -> Json:
    return _present(
        id=approval.id,
        state=approval.state,
        groups=clip_all(approval.groups, NAME_CHARS, LIST_ITEMS, digest),
        quorum=approval.quorum,
        votes=[
            {
                "person": clip(vote.person, NAME_CHARS, digest),
                "choice": vote.choice,
                "reason": clip(vote.reason, PATH_CHARS, digest),
                "time": vote.time,
            }
            for vote in approval.votes[:LIST_ITEMS]
        ],
        break_glass=clip(approval.break_glass, PATH_CHARS, digest),
    )


def _capture(capture: Capture) -> Json:
    return _present(
        mode=capture.mode,
        complete=capture.complete,
        query=capture.query and _text(capture.query),
        instruction=capture.instruction and _text(capture.instruction),
        documents=[
            {"position": position, "text": text}
            if text is not None
            else {"position": position, "length": length, "digest": digest}
            for position, (length, text, digest) in capture.documents
        ],
    )


def _question(question: StoredQuestion) -> Json:
    # Raw: it was encoded to be asked, and is not encoded again.
    held = msgspec.Raw(question.input) if question.input else None
    return _present(input=held, exact=question.exact, why=list(question.why))


def _text(text: CapturedText) -> Json:
    return {"text": text.text} if text.text is not None else {"length": text.length, "digest": text.digest}


def _present(**members: Any) -> Json:
    """Leave out what is not known: None, an empty text, list or mapping. Zero and False are knowledge."""
    return {
        name: value
        for name, value in members.items()
        if value is not None and not (isinstance(value, str | list | Mapping) and not value)
    }
