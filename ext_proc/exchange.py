"""One call from its request headers to its end, as a table of states. Sans-io: events in, actions out.

    START ---request headers---> HEAD ---request body---> SENT ---response headers---> ANSWER ---response body---> DONE
      \\--response headers of a local reply--> LOCAL <------------ of a local reply ------/

Everything that is not in the table aborts: the stream then ends with an error status and Envoy forwards nothing,
whereas a stream that ends well lets the rest pass unmasked. The handoff of ext_authz is the only permission:
a call without one, or with a body that differs from the authorised one, goes no further.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from ext_proc.conversation import (
    Abort,
    Action,
    Event,
    Headers,
    Pass,
    Refuse,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from rankgate import dialects, jsontext
from rankgate.audit import Outcome
from rankgate.credentials import contains
from rankgate.decision import RECEIPT
from rankgate.detect import Detector
from rankgate.errors import GateError, Reason
from rankgate.handoff import Handoff, from_metadata
from rankgate.headers import is_json_type, traceparent
from rankgate.masking import Keys, Masker, Maskers, Plan, keyed_digest
from rankgate.rewrite import (
    Inspector,
    Sent,
    detect_request,
    findings_of,
    mask_answer,
    mask_error,
    mask_request,
    splice_request,
)
from rankgate.settings import RouteSettings

__all__ = ["Exchange", "State", "Summary", "Tools"]

# Names of the message's own framing, never a header of the route's list.
FRAMING = frozenset({"content-length", "content-type", "transfer-encoding"})


class State(Enum):
    """Where a call stands."""

    START = auto()
    HEAD = auto()
    SENT = auto()
    ANSWER = auto()
    LOCAL = auto()
    DONE = auto()
    FAILED = auto()


@dataclass(slots=True)
class Summary:
    """What the completion event says. No texts."""

    outcome: Outcome = Outcome.ABORTED
    reason: Reason | None = None
    detail: str = ""
    trace: str = ""
    status: int = 0
    upstream_status: int = 0
    forwarded_digest: str = ""
    forwarded_bytes: int = 0
    response_digest: str = ""
    response_bytes: int = 0
    masked_request: Mapping[str, int] = field(default_factory=dict)
    masked_response: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tools:
    """What an exchange works with; the same for every call of a process.

    `hidden` names the headers that Envoy keeps out of this stream, and that so must be removed without being seen.
    `deadline` makes a check that raises GateError(DEADLINE_EXCEEDED) once a step has taken too long.
    """

    detector: Detector
    keys: Keys
    maskers: Maskers
    all_types: Plan
    routes: Mapping[str, RouteSettings]
    max_masked_bytes: int
    max_response_bytes: int
    hidden: tuple[str, ...]
    deadline: Callable[[], Callable[[], None]] = lambda: lambda: None

    def masker(self, tenant: str, plan: Plan) -> Masker:
        """Return what masks a tenant's texts by `plan`."""
        return self.maskers.of(tenant, plan)

    def inspector(self, handoff: Handoff) -> Inspector:
        """Return what a call's answer is inspected with, for as long as a step may take."""
        return Inspector(self.detector, handoff.tenant, self.keys.lease(), handoff.lease_fingerprint, self.deadline())


class Exchange:
    """The story of one call's bodies. `step` answers every event; `end` tells what came of it."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._state = State.START
        self._head: RequestHeaders | None = None
        self._answer: ResponseHeaders | None = None
        self._sent: Sent | None = None
        self.handoff: Handoff | None = None
        self.summary = Summary()

    @property
    def finished(self) -> bool:
        """Tell whether every phase was answered; only then may the stream end well."""
        return self._state is State.DONE

    def effort(self, event: RequestBody | ResponseBody) -> int:
        """Return the effort of `step`: what it will have to detect in or mask."""
        size = len(event.body)
        if isinstance(event, RequestBody):
            handed = self.handoff.edits if self.handoff and self.handoff.kept is None else None
            if handed is None:
                return size
            return size // 64 + sum(end - begin + 16 * len(spans) for _, begin, end, spans in handed)
        # An error quotes what the caller chose; an answer is numbers, for the most part.
        return size if self.summary.upstream_status >= 400 else max(size // 4, jsontext.parse_effort(event.body))

    def step(self, event: Event) -> Action:
        """Return what to do about `event`. Never raises."""
        row = _TABLE.get((self._state, type(event)))
        if row is None:
            return self._fail("unexpected_message")
        try:
            return row(self, event)
        except GateError as refusal:
            return self.refuse(refusal)
        except Exception:  # noqa: BLE001 - whatever it was, nothing may pass and nobody may read its text
            return self._fail("internal")

    def refuse(self, refusal: GateError) -> Action:
        """Return the refusal of the call in its own dialect; an abort where its dialect is not known."""
        self._state = State.FAILED
        reason, handoff = refusal.reason, self.handoff
        self.summary.outcome, self.summary.reason = Outcome.REFUSED, reason
        self.summary.detail = refusal.detail if refusal.detail != reason.value else ""
        self.summary.status = reason.status
        if handoff is None:
            return Abort(reason.value)
        name = handoff.dialect if handoff.dialect in dialects.NAMES else "generic"
        message = f"{refusal.public} (decision {handoff.decision_id})"
        headers, body = dialects.by_name(name).denial(reason.status, message, handoff.decision_id)
        return Refuse(reason.status, (*headers, (RECEIPT, handoff.decision_id)), body, f"rankgate_{reason.value}")

    def end(self) -> Summary | None:
        """Return the summary for a completion event; None for a call that never carried a handoff."""
        return self.summary if self.handoff is not None else None

    def _request_headers(self, event: RequestHeaders) -> Action:
        if event.buffered is not True:
            return self._fail("body_mode")
        self.handoff = from_metadata(event.handoff)
        if event.end or self.handoff.route not in self._tools.routes:
            raise GateError(Reason.HANDOFF_MISMATCH, "no body")
        self.summary.trace = traceparent([value for name, value in event.headers if name == "traceparent"])
        self._head = event
        self._state = State.HEAD
        return Pass()

    def _request_body(self, event: RequestBody) -> Action:
        handoff, tools, head = self._handed(), self._tools, self._head
        digest_key = tools.keys.digest(handoff.tenant)
        # The policy saw these bytes and no others.
        if len(event.body) != handoff.body_length or not hmac.compare_digest(
            keyed_digest(digest_key, event.body), handoff.body_digest
        ):
            raise GateError(Reason.HANDOFF_MISMATCH, "digest")
        sent = self._sent_for(event.body, handoff)
        if len(sent.body) > tools.max_masked_bytes:
            raise GateError(Reason.BODY_TOO_LARGE, "masked")
        self._sent = sent
        self.summary.forwarded_digest = keyed_digest(digest_key, sent.body)
        self.summary.forwarded_bytes = len(sent.body)
        self.summary.masked_request = sent.masked
        self._state = State.SENT
        return _replaced(event.body, sent.body, head.headers if head else ())

    def _sent_for(self, body: bytes, handoff: Handoff) -> Sent:
        dialect, in_time = dialects.by_name(handoff.dialect), self._tools.deadline()
        outgoing, incoming = self._masker(handoff.request_plan), self._masker(handoff.response_plan)
        if (sent := splice_request(body, handoff, dialect, outgoing, incoming, in_time)) is not None:
            return sent
        json = jsontext.parse(body)
        request = dialect.read(json)
        findings = findings_of(handoff, request, dialect)
        if findings is None:
            findings = detect_request(request, self._tools.detector, handoff.tenant, in_time)
        return mask_request(json, request, dialect, handoff.kept, findings, outgoing, incoming, in_time)

    def _request_trailers(self, _event: RequestTrailers) -> Action:
        raise GateError(Reason.TRAILERS_REFUSED)

    def _response_headers(self, event: ResponseHeaders) -> Action:
        if event.local:
            return self._local_reply(event)
        self.summary.status = self.summary.upstream_status = status = _status(event.headers)
        if status in {401, 403}:
            raise GateError(Reason.UPSTREAM_REFUSED)
        if any(value.strip().lower() != b"identity" for value in _values(event, "content-encoding")):
            raise GateError(Reason.UPSTREAM_INVALID, "content encoding")
        if status < 400 and not (
            200 <= status < 300 and is_json_type(_values(event, "content-type")) and not event.end
        ):
            raise GateError(Reason.UPSTREAM_INVALID, "not json")
        self._answer = event
        self._state = State.ANSWER
        # A content-type is a text of the reranker's; the body's answer sets ours.
        unwanted = {*self._unwanted(event.headers), *self._tools.hidden, *(("content-type",) if event.end else ())}
        if event.end:
            self.summary.outcome = Outcome.UPSTREAM_ERROR
            self._state = State.DONE
        return Pass(remove=tuple(sorted(unwanted)))

    def _response_body(self, event: ResponseBody) -> Action:
        handoff, tools = self._handed(), self._tools
        if self._answer is None or self._sent is None:
            return self._fail("internal")
        if len(event.body) > tools.max_response_bytes:
            raise GateError(Reason.UPSTREAM_INVALID, "size")
        inspector, is_json = tools.inspector(handoff), True
        if self.summary.upstream_status >= 400:
            # Errors quote what they please, so every type is masked in them, whatever the profile.
            everything = tools.masker(handoff.tenant, tools.all_types)
            body, is_json, masked = mask_error(event.body, inspector, everything)
        else:
            dialect, incoming = dialects.by_name(handoff.dialect), self._masker(handoff.response_plan)
            body, masked = mask_answer(event.body, self._sent, handoff, dialect, inspector, incoming)
        if len(body) > tools.max_response_bytes:
            raise GateError(Reason.UPSTREAM_INVALID, "masked size")
        self.summary.outcome = Outcome.UPSTREAM_ERROR if self.summary.upstream_status >= 400 else Outcome.COMPLETE
        self.summary.response_digest = keyed_digest(tools.keys.digest(handoff.tenant), body)
        self.summary.response_bytes = len(body)
        self.summary.masked_response = masked
        self._state = State.DONE
        kind = "application/json" if is_json else "text/plain; charset=utf-8"
        ours = () if _values(self._answer, "content-type") == [kind.encode()] else (("content-type", kind),)
        return _replaced(event.body, body, self._answer.headers, *ours)

    def _response_trailers(self, event: ResponseTrailers) -> Action:
        return Pass(remove=(*event.names, *self._tools.hidden))

    def _local_reply(self, event: ResponseHeaders) -> Action:
        """Envoy answered itself: a denial, a limit, an unreachable reranker. Its body holds nothing of the call."""
        self.summary.status = _status(event.headers)
        self.summary.outcome = Outcome.LOCAL_REPLY
        self._state = State.DONE if event.end else State.LOCAL
        return Pass()

    def _first_response_headers(self, event: ResponseHeaders) -> Action:
        # A route that skips the request phases would otherwise carry an unmasked request to the reranker.
        if not event.local:
            return self._fail("response_without_request")
        return self._local_reply(event)

    def _local_body(self, _event: ResponseBody) -> Action:
        self._state = State.DONE
        return Pass()

    def _handed(self) -> Handoff:
        if self.handoff is None:
            raise GateError(Reason.HANDOFF_MISSING)
        return self.handoff

    def _masker(self, plan: str) -> Masker:
        return self._tools.masker(self._handed().tenant, Plan.from_text(plan))

    def _unwanted(self, headers: Headers) -> set[str]:
        """Return the answer's headers that the route does not list, or whose value holds what must not pass."""
        handoff, tools = self._handed(), self._tools
        allowed = {*tools.routes[handoff.route].response_headers, RECEIPT}
        mark, key = handoff.lease_fingerprint, tools.keys.lease()
        return {
            name
            for name, value in headers
            if not name.startswith(":")
            and name not in FRAMING
            and (
                name not in allowed
                or bool(tools.detector.detect(value.decode("latin-1"), cache=handoff.tenant))
                or (bool(mark) and contains(key, mark, value))
            )
        }

    def _fail(self, word: str) -> Abort:
        self._state = State.FAILED
        self.summary.outcome = Outcome.ABORTED
        self.summary.reason = Reason.INTERNAL
        self.summary.detail = word
        return Abort(word)


_TABLE: dict[tuple[State, type], Callable[[Exchange, Any], Action]] = {
    (State.START, RequestHeaders): Exchange._request_headers,
    (State.START, ResponseHeaders): Exchange._first_response_headers,
    (State.HEAD, RequestBody): Exchange._request_body,
    (State.HEAD, ResponseHeaders): Exchange._first_response_headers,
    (State.SENT, RequestTrailers): Exchange._request_trailers,
    (State.SENT, ResponseHeaders): Exchange._response_headers,
    (State.ANSWER, ResponseBody): Exchange._response_body,
    (State.LOCAL, ResponseBody): Exchange._local_body,
    (State.DONE, ResponseTrailers): Exchange._response_trailers,
}


def _status(headers: Headers) -> int:
    value = next((value for name, value in headers if name == ":status"), b"")
    return int(value) if value.isdigit() else 0


def _values(event: ResponseHeaders, name: str) -> list[bytes]:
    return [value for key, value in event.headers if key == name]


def _replaced(old: bytes, new: bytes, headers: Headers, *also: tuple[str, str]) -> Pass:
    if new == old:
        return Pass(set_headers=also)
    # Envoy answers 500 to a changed body whose content-length is not corrected in the same message, and to one
    # that gains a content-length where none came.
    sized = any(name == "content-length" for name, _ in headers)
    return Pass(body=new, set_headers=(*also, *((("content-length", str(len(new))),) if sized else ())))
