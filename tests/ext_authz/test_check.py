"""The way of one request: each step refuses for its own reason, nothing is allowed unrecorded, all is recorded."""

import asyncio
import dataclasses
import json

import pytest
from fakes.handing import DETECTOR, EVERYTHING, KEYS

from ext_authz.check import check
from ext_authz.gate import Gate
from rankgate.credentials import Lease, Secret, fingerprint
from rankgate.decision import Allow, Deny
from rankgate.errors import GateError, Reason
from rankgate.handoff import from_metadata, to_metadata
from rankgate.identity import Principal
from rankgate.masking import Plan, keyed_digest
from rankgate.request import HttpRequest
from rankgate.settings import load

MAIL = "maren.oldfield@example.org"
PRINCIPAL = Principal(
    issuer="https://issuer.example",
    subject="search-svc",
    tenant="acme",
    groups=("search",),
    scopes=(),
    claims={},
    kind="service",
    bound=False,
    expires=2_000_000_000,
    token_id=None,
)


class Tokens:
    """Knows one good token."""

    async def verify(self, token, audiences, now):
        if token != "good":
            raise GateError(Reason.TOKEN_INVALID, "signature")
        return PRINCIPAL


class Policy:
    """Answers every question with `result`, or by calling it."""

    revision = "policy-1"
    ready = True

    def __init__(self, result=True):
        self.result = result
        self.questions = []

    async def decide(self, question):
        self.questions.append(question)
        result = self.result(question) if callable(self.result) else self.result
        if isinstance(result, Exception):
            raise result
        if asyncio.iscoroutine(result):
            return await result
        return result


class Processor:
    def __init__(self, ready=True):
        self.answer = ready

    async def ready(self):
        return self.answer


class Broker:
    def __init__(self, fault=None):
        self.fault = fault
        self.grants = []

    async def lease(self, grant):
        self.grants.append(grant)
        if self.fault:
            raise self.fault
        return Lease("authorization", Secret("Bearer sk-up"), fingerprint(KEYS.lease(), "sk-up"))


class Trail:
    """Keeps what is appended."""

    ready = True

    def __init__(self, fault=None):
        self.fault = fault
        self.events = []

    async def append(self, event):
        if self.fault:
            raise self.fault
        self.events.append(event)


def gate(policy=True, *, route=None, processor=True, broker=None, trail=None, limits=None):
    settings = load(
        None,
        upstream={"url": "http://127.0.0.1:9"},
        issuers=[{"issuer": "https://issuer.example", "audiences": ["rerank"]}],
        routes=[{"name": "rerank", "path": "/v2/rerank", "dialect": "cohere.v2", **(route or {})}],
        masking={
            "key_file": "unused",
            "profiles": {
                "default": {"types": ["EMAIL_ADDRESS"]},
                "strict": {"types": ["US_SSN"], "operator": "redact"},
            },
        },
        audit={"directory": "unused"},
        sockets={"directory": "unused"},
        limits=limits or {},
        policy={"timeout_s": 0.05},
    )
    return Gate(
        settings=settings,
        keys=KEYS,
        plans={name: Plan.of(profile) for name, profile in settings.masking.profiles.items()} | {"none": Plan.none()},
        all_types=EVERYTHING,
        detector=DETECTOR,
        verifier=Tokens(),
        policy=policy if isinstance(policy, Policy) else Policy(policy),
        processor=Processor(processor),
        credentials=broker or Broker(),
        audit=trail or Trail(),
        clock=lambda: 1_800_000_000.0,
    )


BODY = json.dumps({"model": "m", "query": f"for {MAIL}", "documents": ["a", f"b {MAIL}", "c"]}).encode()


def call(body=BODY, *, headers=(), route="rerank", **changes):
    fields = {
        "id": "1",
        "method": "POST",
        "path": "/v2/rerank",
        "query": "",
        "host": "gate",
        "scheme": "http",
        "protocol": "HTTP/1.1",
        "body": body,
        "route": route,
        "source_address": "127.0.0.1:1",
        "headers": (
            (":method", b"POST"),
            ("authorization", b"Bearer good"),
            ("content-type", b"application/json"),
            *headers,
        ),
    }
    return HttpRequest(**{**fields, **changes})


async def decide(one, http=None):
    """Return the decision and its event."""
    decision = await check(http or call(), one, "dec-1")
    (event,) = one.audit.events
    return decision, event


def without(name, *others):
    return (
        call(headers=others)
        if not name
        else dataclasses.replace(
            call(), headers=tuple(pair for pair in call(headers=others).headers if pair[0] != name) + others
        )
    )


# -- an allow ---------------------------------------------------------------------------------------------------------


async def test_an_allowed_call_gets_a_handoff_a_lease_and_a_record():
    one = gate()
    decision, event = await decide(one)
    assert isinstance(decision, Allow)
    assert decision.lease.value.reveal() == "Bearer sk-up"
    assert decision.handoff.body_digest == keyed_digest(KEYS.digest("acme"), BODY)
    assert {span[3] for span in decision.handoff.spans} == {"EMAIL_ADDRESS"}
    assert (event.allowed, event.reason, event.decision_id) == (True, Reason.ALLOWED, "dec-1")
    assert (event.caller.subject, event.caller.tenant, event.policy_revision) == ("search-svc", "acme", "policy-1")
    assert event.findings == {"EMAIL_ADDRESS": 2}


async def test_the_record_holds_the_texts_as_the_reranker_receives_them():
    _, event = await decide(gate())
    assert MAIL not in repr(event)
    assert event.capture.query.text.startswith("for ")
    assert [position for position, _ in event.capture.documents] == [0, 1, 2]


async def test_neither_token_nor_credential_is_in_handoff_or_record():
    decision, event = await decide(gate())
    for text in (repr(event), repr(to_metadata(decision.handoff)), repr(decision)):
        assert "good" not in text
        assert "sk-up" not in text


async def test_the_callers_credentials_and_unlisted_headers_are_removed_and_what_is_set_is_not():
    headers = (("cookie", b"a=b"), ("x-api-key", b"k"), ("user-agent", b"cohere/7"), ("traceparent", b"junk"))
    decision, _ = await decide(gate(), call(headers=headers))
    assert {"cookie", "x-api-key", "traceparent"} <= set(decision.remove)
    assert not {"authorization", "user-agent", "content-type", "accept-encoding"} & set(decision.remove)
    assert ("accept-encoding", "identity") in decision.set_headers


async def test_a_listed_header_with_sensitive_data_is_removed():
    decision, _ = await decide(gate(), call(headers=(("user-agent", f"bot {MAIL}".encode()),)))
    assert "user-agent" in decision.remove


async def test_without_a_lease_the_callers_token_is_removed():
    class Nothing:
        async def lease(self, grant):
            return None

    decision, _ = await decide(gate(broker=Nothing()))
    assert "authorization" in decision.remove


# -- each step refuses ------------------------------------------------------------------------------------------------


DEEP = b"[" * 100_000
REFUSALS = [
    ("no token", lambda: without("authorization"), 401, Reason.TOKEN_MISSING),
    ("two tokens", lambda: call(headers=(("authorization", b"Bearer good"),)), 400, Reason.AUTHORIZATION_AMBIGUOUS),
    ("bad token", lambda: without("authorization", ("authorization", b"Bearer bad")), 401, Reason.TOKEN_INVALID),
    ("unrouted", lambda: call(route=""), 404, Reason.PATH_UNKNOWN),
    ("method", lambda: call(method="GET"), 405, Reason.METHOD_NOT_ALLOWED),
    ("query", lambda: call(query="debug=1"), 400, Reason.QUERY_PARAMETER_REFUSED),
    ("query syntax", lambda: call(query="a"), 400, Reason.QUERY_PARAMETER_REFUSED),
    ("connection", lambda: call(headers=(("connection", b"authorization, x-a"),)), 400, Reason.HEADER_REFUSED),
    ("obs-text", lambda: call(headers=(("user-agent", b"\xff"),)), 400, Reason.HEADER_REFUSED),
    ("gzip", lambda: call(headers=(("content-encoding", b"gzip"),)), 415, Reason.CONTENT_ENCODING_UNSUPPORTED),
    (
        "two encodings",
        lambda: call(headers=(("content-encoding", b"identity, br"),)),
        415,
        Reason.CONTENT_ENCODING_UNSUPPORTED,
    ),
    ("no type", lambda: without("content-type"), 415, Reason.CONTENT_TYPE_UNSUPPORTED),
    (
        "utf-16",
        lambda: without("content-type", ("content-type", b"application/json; charset=utf-16")),
        415,
        Reason.CONTENT_TYPE_UNSUPPORTED,
    ),
    (
        "multipart",
        lambda: without("content-type", ("content-type", b"multipart/form-data; boundary=x")),
        415,
        Reason.CONTENT_TYPE_UNSUPPORTED,
    ),
    ("empty", lambda: call(b""), 400, Reason.BODY_INVALID),
    ("partial", lambda: call(headers=(("x-envoy-auth-partial-body", b"true"),)), 413, Reason.BODY_TOO_LARGE),
    ("large", lambda: call(b" " * 2_097_153), 413, Reason.BODY_TOO_LARGE),
    ("no json", lambda: call(b"query"), 400, Reason.BODY_INVALID),
    ("deep", lambda: call(DEEP), 400, Reason.BODY_INVALID),
    ("not ours", lambda: call(b'{"input":"x"}'), 400, Reason.BODY_INVALID),
    (
        "many",
        lambda: call(json.dumps({"model": "m", "query": "q", "documents": ["d"] * 1001}).encode()),
        413,
        Reason.TOO_MANY_DOCUMENTS,
    ),
    (
        "key",
        lambda: call(json.dumps({"query": "q", "documents": ["d"], MAIL: 1}).encode()),
        422,
        Reason.SENSITIVE_STRUCTURE,
    ),
]


@pytest.mark.parametrize(("make", "status", "reason"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS])
async def test_what_is_not_acceptable_is_refused_before_any_lease_and_recorded(make, status, reason):
    one = gate()
    decision, event = await decide(one, make())
    assert isinstance(decision, Deny)
    assert (decision.status, decision.reason) == (status, reason)
    assert (event.allowed, event.reason, event.status) == (False, reason, status)
    assert one.credentials.grants == []
    answer = json.loads(decision.body)
    assert "dec-1" in json.dumps(answer)
    assert dict(decision.headers)["x-rankgate-decision-id"] == "dec-1"


@pytest.mark.parametrize(
    ("one", "status", "reason"),
    [
        (lambda: gate(False), 403, Reason.POLICY_DENIED),
        (lambda: gate(None), 503, Reason.POLICY_UNDEFINED),
        (lambda: gate("true"), 503, Reason.POLICY_INVALID),
        (lambda: gate({"allowed": True, "rankgate": {"mask": {"request": "absent"}}}), 503, Reason.POLICY_INVALID),
        (lambda: gate(GateError(Reason.POLICY_TIMEOUT)), 503, Reason.POLICY_TIMEOUT),
        (
            lambda: gate({"allowed": True, "rankgate": {"approval": {"groups": ["g"], "quorum": 1}}}),
            403,
            Reason.APPROVAL_UNAVAILABLE,
        ),
        (
            lambda: gate({"allowed": True, "rankgate": {"documents": {"drop": [0, 1, 2]}}}),
            403,
            Reason.NO_DOCUMENTS_LEFT,
        ),
        (lambda: gate({"allowed": True, "rankgate": {"limits": {"documents": 2}}}), 413, Reason.TOO_MANY_DOCUMENTS),
        (lambda: gate({"allowed": True, "rankgate": {"limits": {"total_chars": 9}}}), 413, Reason.BODY_TOO_LARGE),
        (lambda: gate(processor=False), 503, Reason.PROCESSOR_UNAVAILABLE),
        (lambda: gate(broker=Broker(GateError(Reason.CREDENTIAL_UNAVAILABLE))), 503, Reason.CREDENTIAL_UNAVAILABLE),
        (lambda: gate(broker=Broker(ValueError(MAIL))), 503, Reason.INTERNAL),
        (lambda: gate(limits={"body_bytes": 1024, "masked_body_bytes": 1024}), 200, None),
    ],
)
async def test_every_later_step_refuses_for_its_own_reason(one, status, reason):
    decision, event = await decide(one())
    if reason is None:
        assert isinstance(decision, Allow)
        return
    assert isinstance(decision, Deny)
    assert (decision.status, decision.reason, event.reason) == (status, reason, reason)
    assert MAIL.encode() not in decision.body
    assert MAIL not in repr(event)


async def test_masking_that_could_outgrow_the_limit_is_refused_before_any_lease():
    body = json.dumps({"model": "m", "query": "q", "documents": [f"a{n}@example.org" for n in range(100)]}).encode()
    one = gate(limits={"body_bytes": 4096, "masked_body_bytes": 4096})
    decision, _ = await decide(one, call(body))
    assert (decision.status, decision.reason) == (413, Reason.BODY_TOO_LARGE)
    assert one.credentials.grants == []


async def test_a_policy_that_hangs_is_a_denial_within_the_deadline():
    one = gate(lambda _question: asyncio.sleep(60), limits={"check_timeout_s": 0.2})
    decision, _ = await decide(one)
    assert decision.reason is Reason.DEADLINE_EXCEEDED


# -- permit and record are one act ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [GateError(Reason.AUDIT_UNAVAILABLE), OSError(28, MAIL)])
async def test_scenario_57_what_cannot_be_recorded_is_not_allowed(fault):
    decision = await check(call(), gate(trail=Trail(fault)), "dec-1")
    assert isinstance(decision, Deny)
    assert decision.reason is Reason.AUDIT_UNAVAILABLE
    assert MAIL.encode() not in decision.body


# -- rulings ----------------------------------------------------------------------------------------------------------


async def test_a_ruling_may_tighten_the_routes_masking_and_not_loosen_it():
    own = {"allowed": True, "rankgate": {"mask": {"request": "strict", "response": "none"}}}
    decision, event = await decide(gate(own))
    request = Plan.from_text(decision.handoff.request_plan).operators
    assert request == {"EMAIL_ADDRESS": "pseudonym", "US_SSN": "redact"}
    assert Plan.from_text(decision.handoff.response_plan).operators == {"EMAIL_ADDRESS": "pseudonym"}
    assert (event.plan.mask_request, event.plan.relaxed) == ("default+strict", False)


async def test_a_route_that_may_relax_does_and_it_is_on_record():
    own = {"allowed": True, "rankgate": {"mask": {"response": "none"}}}
    decision, event = await decide(gate(own, route={"may_relax": True}))
    assert Plan.from_text(decision.handoff.response_plan).operators == {}
    assert event.plan.relaxed


async def test_dropped_documents_are_handed_over_as_the_positions_kept():
    decision, event = await decide(gate({"allowed": True, "rankgate": {"documents": {"drop": [1]}}}))
    assert from_metadata(to_metadata(decision.handoff)).kept == (0, 2)
    assert (event.plan.dropped, event.plan.kept) == ((1,), 2)
    assert [position for position, _ in event.capture.documents] == [0, 2]


async def test_nothing_left_may_be_answered_natively_without_asking_the_reranker():
    own = {"allowed": True, "rankgate": {"documents": {"drop": [0, 1, 2], "on_empty": "empty"}}}
    one = gate(own)
    decision, event = await decide(one)
    assert (decision.status, json.loads(decision.body)["results"] is not None) == (200, True)
    assert (event.allowed, event.reason) == (False, Reason.NO_DOCUMENTS_LEFT)
    assert one.credentials.grants == []


async def test_a_policys_own_reasons_and_body_are_masked_before_anyone_reads_them():
    own = {"allowed": False, "body": f"ask {MAIL}", "rankgate": {"reasons": [f"not {MAIL}"]}}
    decision, event = await decide(gate(own))
    assert MAIL.encode() not in decision.body
    assert MAIL not in repr(event)


async def test_a_policys_status_headers_and_metadata_are_used_on_a_denial():
    own = {"allowed": False, "http_status": 429, "headers": {"retry-after": "7"}, "dynamic_metadata": {"why": "x"}}
    decision, _ = await decide(gate(own))
    assert (decision.status, dict(decision.headers)["retry-after"]) == (429, "7")
    assert decision.metadata == {"why": "x"}


async def test_the_policy_sees_identity_request_and_findings_and_no_value():
    policy = Policy()
    await decide(gate(policy))
    (question,) = policy.questions
    assert question["identity"]["subject"] == "search-svc"
    assert question["rerank"]["document_count"] == 3
    assert question["findings"]["by_type"] == {"EMAIL_ADDRESS": 2}
    assert "good" not in json.dumps(question)


async def test_a_long_body_is_read_off_the_event_loop_with_the_same_outcome():
    body = json.dumps({"model": "m", "query": f"for {MAIL}", "documents": ["word " * 200] * 100}).encode()
    decision, event = await decide(gate(), call(body))
    assert isinstance(decision, Allow)
    assert event.findings == {"EMAIL_ADDRESS": 1}
