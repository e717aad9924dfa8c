"""The way of one request: each step refuses for its own reason, nothing is allowed unrecorded, all is recorded."""

import asyncio
import dataclasses
import json

import pytest
from fakes.gate import BODY, MAIL, PRINCIPAL, Broker, Policy, Trail, call, gate
from fakes.handing import CREDENTIAL, KEYS

from ext_authz.check import check
from ext_authz.wire import rendered
from rankgate.clients.offload import Offload
from rankgate.decision import Allow, Deny
from rankgate.errors import GateError, Reason
from rankgate.handoff import from_metadata, to_metadata
from rankgate.masking import Plan, keyed_digest


async def decide(one, http=None):
    """Return the decision and its event."""
    decision, answer = await check(http or call(), one, "dec-1", rendered)
    assert answer == rendered(decision)
    (event,) = one.audit.events
    return decision, event


def without(name, *others, **changes):
    """Return a call without its header `name`, with `others` instead."""
    kept = tuple(pair for pair in call().headers if pair[0] != name)
    return dataclasses.replace(call(), headers=(*kept, *others), **changes)


# -- an allow ---------------------------------------------------------------------------------------------------------


async def test_a_credential_is_asked_for_this_caller_this_token_and_this_body():
    one = gate({"allowed": True, "rankgate": {"credential": "other"}})
    decision, event = await decide(one)
    (grant,) = one.credentials.grants
    assert (grant.decision_id, grant.route, grant.kind) == ("dec-1", "rerank", "other")
    assert (grant.issuer, grant.subject, grant.tenant) == (PRINCIPAL.issuer, PRINCIPAL.subject, PRINCIPAL.tenant)
    assert (grant.token.reveal(), grant.expires) == ("good", PRINCIPAL.expires)
    assert grant.body_digest == keyed_digest(KEYS.digest("acme"), BODY)
    assert grant.body_digest == decision.handoff.body_digest == event.call.body_digest


async def test_an_allowed_call_gets_a_handoff_a_lease_and_a_record():
    one = gate()
    decision, event = await decide(one)
    assert isinstance(decision, Allow)
    assert decision.lease.value.reveal() == f"Bearer {CREDENTIAL}"
    assert decision.handoff.body_digest == keyed_digest(KEYS.digest("acme"), BODY)
    assert {types for edit in decision.handoff.edits for _, _, types in edit[3]} == {("EMAIL_ADDRESS",)}
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
        assert CREDENTIAL not in text


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
    decision, _ = await check(call(), gate(trail=Trail(fault)), "dec-1", rendered)
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


async def test_the_record_holds_the_queries_of_the_documents_that_are_ranked():
    body = json.dumps({"queries": ["q0", "q1", "q2"], "documents": ["a", "b", "c"]}).encode()
    own = {"allowed": True, "rankgate": {"documents": {"drop": [1]}}}
    _, event = await decide(gate(own, route={"dialect": "vllm.score"}), dataclasses.replace(call(), body=body))
    assert event.capture.query.text == "q0\nq2"
    assert [document.text for _, document in event.capture.documents] == ["a", "c"]


@pytest.mark.parametrize(("dialect", "status"), [("voyage", 422), ("vllm.rerank", 400), ("tei", 422)])
async def test_a_body_that_is_not_understood_has_the_status_of_its_api(dialect, status):
    decision, event = await decide(gate(route={"dialect": dialect}), dataclasses.replace(call(), body=b"{}"))
    assert (decision.status, event.status, event.reason) == (status, status, Reason.BODY_INVALID)


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


# -- what callers and policies write ----------------------------------------------------------------------------------


async def test_nothing_a_caller_writes_enters_the_record_unmasked():
    body = json.dumps({"model": MAIL, "query": "q", "documents": ["a"], "user": MAIL}).encode()
    _, event = await decide(gate(), call(body, headers=(("traceparent", MAIL.encode()),)))
    assert MAIL not in repr(event)
    for http in (call(route="", path=f"/{MAIL}"), call(method=MAIL), call(query=f"a={MAIL}")):
        _, event = await decide(gate(), http)
        assert MAIL not in repr(event)


async def test_of_callers_nobody_knows_the_record_holds_no_path():
    _, event = await decide(gate(), without("authorization", route="", path="/" + "x" * 5000))
    assert event.call.path == ""


async def test_a_ruling_that_masks_more_covers_keys_and_numbers_too():
    own = {"allowed": True, "rankgate": {"mask": {"request": "strict"}}}
    body = json.dumps({"model": "m", "query": "q", "documents": ["a"], "ssn": 78051127}).encode()
    number = json.dumps({"model": "m", "query": "q", "documents": ["a"], "078-05-1127": 1}).encode()
    for unmaskable in (body.replace(b"78051127", b"536228734"), number):
        one = gate(own)
        decision, _ = await decide(one, call(unmaskable))
        assert (decision.status, decision.reason) == (422, Reason.SENSITIVE_STRUCTURE)
        assert one.credentials.grants == []
        assert isinstance((await decide(gate(), call(unmaskable)))[0], Allow)


@pytest.mark.parametrize(
    "own",
    [
        {"headers": {"x-q": f"q {MAIL}"}},
        {"response_headers_to_add": {"x-q": MAIL}},
        {"query_parameters_to_set": {"q": MAIL.replace("@", "%40")}},
        {"dynamic_metadata": {"a": [{"b": MAIL}]}},
    ],
)
async def test_a_policy_that_passes_sensitive_values_on_is_refused(own):
    decision, event = await decide(gate({"allowed": True, **own}))
    assert decision.reason is Reason.POLICY_INVALID
    assert MAIL not in repr(event)


async def test_a_ruling_changes_what_is_captured_only_where_the_route_lets_it():
    own = {"allowed": True, "rankgate": {"capture": "masked"}}
    _, event = await decide(gate(own, route={"capture": "none"}))
    assert (event.capture, event.plan.capture, event.plan.relaxed) == (None, "none", False)
    _, event = await decide(gate(own, route={"capture": "none", "may_relax": True}))
    assert (event.capture is None, event.plan.capture, event.plan.relaxed) == (False, "masked", True)


async def test_a_relaxed_plan_relaxes_what_is_sent_and_not_what_is_stored():
    own = {"allowed": True, "rankgate": {"mask": {"request": "none"}}}
    decision, event = await decide(gate(own, route={"may_relax": True}))
    assert Plan.from_text(decision.handoff.request_plan).operators == {}
    assert MAIL not in repr(event)


async def test_a_denials_body_is_the_policys_words_in_the_callers_own_shape():
    decision, _ = await decide(gate({"allowed": False, "body": "ask the data office"}))
    assert set(json.loads(decision.body)) == {"id", "message"}
    assert json.loads(decision.body)["message"] == "ask the data office (decision dec-1)"
    assert dict(decision.headers)["content-type"] == "application/json"


# -- challenges (RFC 6750 section 3) ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "http", "challenge"),
    [
        (gate, lambda: without("authorization"), 'Bearer realm="rankgate"'),
        (
            gate,
            lambda: without("authorization", ("authorization", b"Bearer bad")),
            'Bearer realm="rankgate", error="invalid_token"',
        ),
        (
            gate,
            lambda: call(headers=(("authorization", b"Bearer good"),)),
            'Bearer realm="rankgate", error="invalid_request"',
        ),
        (lambda: gate({"allowed": False, "http_status": 401}), call, 'Bearer realm="rankgate"'),
    ],
)
async def test_a_challenge_says_what_is_wrong_with_the_token_and_nothing_else(one, http, challenge):
    decision, _ = await decide(one(), http())
    assert dict(decision.headers)["www-authenticate"] == challenge


async def test_a_method_that_is_not_allowed_is_told_which_are():
    decision, _ = await decide(gate(), call(method="GET"))
    assert dict(decision.headers)["allow"] == "POST"


# -- time -------------------------------------------------------------------------------------------------------------


async def test_a_step_that_hangs_is_a_denial_that_says_which():
    class Hanging:
        async def lease(self, grant):
            await asyncio.Event().wait()

    decision, _ = await decide(gate(broker=Hanging(), limits={"check_timeout_s": 5}))
    assert decision.reason is Reason.CREDENTIAL_UNAVAILABLE


async def test_a_trail_that_hangs_is_a_denial_in_time():
    class Hanging(Trail):
        async def append(self, event):
            await asyncio.Event().wait()

    decision, _ = await check(call(), gate(trail=Hanging(), limits={"check_timeout_s": 0.5}), "dec-1", rendered)
    assert decision.reason is Reason.AUDIT_UNAVAILABLE


# -- no place for long work -------------------------------------------------------------------------------------------


def long_call(word):
    """A call with texts that no other test has sent, so that nothing of them is remembered."""
    return json.dumps({"model": "m", "query": "q", "documents": [f"{word}_{n} " * 100 for n in range(20)]}).encode()


async def test_a_call_there_is_no_place_for_is_refused_as_busy_and_recorded():
    decision, event = await decide(dataclasses.replace(gate(), work=Offload(places=0)), call(long_call("place")))
    assert (decision.status, decision.reason) == (429, Reason.BUSY)
    assert (event.allowed, event.reason) == (False, Reason.BUSY)


async def test_an_allow_whose_record_finds_no_place_becomes_a_recorded_refusal():
    class Filling:
        """Has a place for everything but the record."""

        def __init__(self):
            self.left = 4

        async def run(self, size, tenant, work):
            self.left -= 1
            if size and self.left < 0:
                raise GateError(Reason.BUSY)
            return work()

    decision, event = await decide(dataclasses.replace(gate(), work=Filling()), call(long_call("record")))
    assert (decision.status, decision.reason) == (429, Reason.BUSY)
    assert (event.allowed, event.reason, event.capture) == (False, Reason.BUSY, None)


async def test_a_long_call_of_nobody_is_recorded_though_there_is_no_place():
    one = dataclasses.replace(gate(), work=Offload(places=0))
    decision, event = await decide(one, dataclasses.replace(without("authorization"), body=long_call("nobody")))
    assert (decision.status, event.reason) == (401, Reason.TOKEN_MISSING)
