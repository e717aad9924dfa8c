"""What is written down about an allowed call's end: from its summary to the audit event."""

from __future__ import annotations

from ext_proc.exchange import Summary
from rankgate.audit import Caller, CompletionEvent
from rankgate.handoff import Handoff

__all__ = ["completion_event"]


def completion_event(handoff: Handoff, summary: Summary, started: float, finished: float) -> CompletionEvent:
    """Return the event for a call between `started` and `finished`, both in seconds."""
    return CompletionEvent(
        decision_id=handoff.decision_id,
        time=int(finished * 1000),
        outcome=summary.outcome,
        caller=Caller(handoff.issuer, handoff.subject, handoff.tenant),
        route=handoff.route,
        reason=summary.reason,
        status=summary.status or None,
        upstream_status=summary.upstream_status or None,
        forwarded_digest=summary.forwarded_digest,
        forwarded_bytes=summary.forwarded_bytes,
        response_digest=summary.response_digest,
        response_bytes=summary.response_bytes,
        masked_request=summary.masked_request,
        masked_response=summary.masked_response,
        detail=summary.detail,
        trace=summary.trace,
        upstream_ms=max(0, int((finished - started) * 1000)),
    )
