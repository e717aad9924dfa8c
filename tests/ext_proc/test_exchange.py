"""One call as a conversation: every phase answered in order, everything else aborted, nothing raw let through."""

import json
from dataclasses import replace

import pytest
from fakes.handing import CREDENTIAL, DETECTOR, EVERYTHING, KEYS, MASKERS, hand_over

from ext_proc.conversation import (
    Abort,
    Pass,
    Refuse,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from ext_proc.exchange import Exchange, Tools
from rankgate.audit import Outcome
from rankgate.errors import GateError, Reason
from rankgate.handoff import to_metadata
from rankgate.masking import Plan
from rankgate.settings import RouteSettings

MAIL = "maren.oldfield@example.org"
QUERY = f"refund for {MAIL}"
DOCUMENTS = [f"refund sent to {MAIL}", "opening hours", "card 4111 1111 1111 1111"]
JSON = ((":status", b"200"), ("content-type", b"application/json"))


def tools(**changes):
    route = RouteSettings.model_validate({"name": "rerank", "path": "/v2/rerank"})
    fields = {
        "detector": DETECTOR,
        "keys": KEYS,
        "maskers": MASKERS,
        "all_types": EVERYTHING,
        "routes": {"rerank": route},
        "max_masked_bytes": 1_000_000,
        "max_response_bytes": 1_000_000,
        "hidden": ("authorization", "set-cookie"),
    }
    return Tools(**{**fields, **changes})


def body_of(documents=DOCUMENTS, query=QUERY, **more):
    return json.dumps({"model": "m", "query": query, "documents": documents, **more}).encode()


class Call:
    """A conversation up to some point, with what came of it."""

    def __init__(self, body=None, *, handoff=..., length=True, **tool_changes):
        self.body = body_of() if body is None else body
        self.handoff = hand_over(self.body) if handoff is ... else handoff
        self.exchange = Exchange(tools(**tool_changes))
        self.length = (("content-length", b"0"),) if length else ()

    def head(self, *, end=False, buffered=True, handoff=...):
        values = to_metadata(self.handoff) if handoff is ... and self.handoff else handoff
        return self.exchange.step(RequestHeaders(((":method", b"POST"), *self.length), end, values, buffered))

    def send(self, body=None):
        assert self.head() == Pass()
        return self.exchange.step(RequestBody(self.body if body is None else body))

    def sent(self):
        """Return what the reranker receives."""
        action = self.send()
        assert isinstance(action, Pass), action
        return self.body if action.body is None else action.body

    def answer(self, answer, headers=JSON):
        """Return what the caller receives for the reranker's `answer`."""
        sent = self.sent()
        raw = answer(sent) if callable(answer) else answer
        head = self.exchange.step(ResponseHeaders(headers, False, False, None))
        if not isinstance(head, Pass):
            return head
        action = self.exchange.step(ResponseBody(raw))
        return raw if isinstance(action, Pass) and action.body is None else getattr(action, "body", action)


def ranked(*results):
    return json.dumps(
        {"id": "x", "results": [{"index": i, "relevance_score": s, **more} for i, s, more in results]}
    ).encode()


# -- the order of things ----------------------------------------------------------------------------------------------


def test_a_whole_call_ends_complete():
    call = Call()
    call.answer(ranked((0, 0.9, {}), (1, 0.5, {})))
    assert call.exchange.finished
    summary = call.exchange.end()
    assert (summary.outcome, summary.status, summary.reason) == (Outcome.COMPLETE, 200, None)
    assert summary.masked_request == {"EMAIL_ADDRESS": 2, "CREDIT_CARD": 1}


EVENTS = {
    "request headers": RequestHeaders((), False, {}, True),
    "request body": RequestBody(b"{}"),
    "request trailers": RequestTrailers(()),
    "response headers": ResponseHeaders(JSON, False, False, None),
    "response body": ResponseBody(b"{}"),
    "response trailers": ResponseTrailers(()),
}
EXPECTED = {
    "start": {"request headers", "response headers"},
    "head": {"request body", "response headers"},
    "sent": {"request trailers", "response headers"},
    "answer": {"response body"},
    "local": {"response body"},
    "done": {"response trailers"},
}


def call_in(state):
    call = Call()
    if state == "head":
        call.head()
    elif state in {"sent", "answer", "done"}:
        call.sent()
    if state in {"answer", "done"}:
        call.exchange.step(ResponseHeaders(JSON, False, False, None))
    if state == "local":
        call.exchange.step(ResponseHeaders(((":status", b"403"),), False, True, True))
    if state == "done":
        call.exchange.step(ResponseBody(ranked((0, 0.9, {}))))
    return call


OUT_OF_TURN = [(state, name) for state, expected in EXPECTED.items() for name in EVENTS if name not in expected]


@pytest.mark.parametrize(("state", "name"), OUT_OF_TURN)
def test_scenario_48_a_message_out_of_turn_aborts_and_so_does_everything_after_it(state, name):
    call = call_in(state)
    assert call.exchange.step(EVENTS[name]) == Abort("unexpected_message")
    assert not call.exchange.finished
    for later in EVENTS.values():
        assert isinstance(call.exchange.step(later), Abort)


def test_scenario_46_a_call_that_stops_anywhere_is_not_finished():
    for state in ("start", "head", "sent", "answer"):
        assert not call_in(state).exchange.finished


def test_scenario_46_an_unknown_fault_aborts_with_a_constant_word():
    class Broken:
        revision = "x"

        def detect(self, *_args, **_more):
            raise ValueError(MAIL)

    call = Call(detector=Broken())
    call.handoff = hand_over(call.body, spans=False)
    assert call.send() == Abort("internal")


# -- what lets a request through --------------------------------------------------------------------------------------


@pytest.mark.parametrize("handoff", [None, {}, {"decision_id": "dec-1"}])
def test_scenario_35_a_request_without_a_handoff_goes_nowhere(handoff):
    call = Call()
    assert isinstance(call.head(handoff=handoff), Abort)
    assert call.exchange.end() is None


def test_scenario_35_other_bytes_than_the_authorised_ones_go_nowhere():
    for other in (body_of(query="another"), b"", body_of() + b" "):
        action = Call().send(other)
        assert isinstance(action, Refuse)
        assert action.status == 503


@pytest.mark.parametrize("buffered", [False, None])
def test_bodies_that_will_not_come_whole_are_refused_before_any_arrives(buffered):
    assert Call().head(buffered=buffered) == Abort("body_mode")


def test_a_request_without_a_body_is_refused():
    assert isinstance(Call().head(end=True), Refuse)


def test_a_route_the_gate_does_not_know_is_refused():
    call = Call()
    call.handoff = hand_over(call.body, route="other")
    assert isinstance(call.head(), Refuse)


def test_scenario_43_request_trailers_are_refused():
    call = Call()
    call.sent()
    action = call.exchange.step(RequestTrailers(("x-note",)))
    assert isinstance(action, Refuse)
    assert action.status == 400


# -- what the reranker receives ---------------------------------------------------------------------------------------


def test_every_text_is_masked_and_the_rest_keeps_its_bytes():
    raw = b'{ "query":"ask %s" ,"documents":["a","to %s"],"model":"m","top_n":1.0e0,"x":{"note":"%s"} }' % (
        (MAIL.encode(),) * 3
    )
    raw = raw.replace(b"1.0e0", b"1")
    sent = Call(raw).sent()
    assert MAIL.encode() not in sent
    assert json.loads(sent)["x"]["note"] == json.loads(sent)["query"].removeprefix("ask ")
    assert sent.startswith(b'{ "query":"ask ')
    assert b'"model":"m","top_n":1,' in sent


def test_a_value_gets_the_same_pseudonym_in_query_and_documents():
    sent = json.loads(Call().sent())
    pseudonym = sent["query"].removeprefix("refund for ")
    assert sent["documents"][0] == f"refund sent to {pseudonym}"


def test_without_spans_the_request_is_detected_again_with_the_same_result():
    call = Call()
    call.handoff = hand_over(call.body, spans=False)
    assert call.sent() == Call().sent()


def test_spans_that_do_not_fit_are_not_trusted():
    call = Call()
    call.handoff = hand_over(call.body, text_count=99)
    assert MAIL.encode() not in call.sent()


def test_a_plan_that_masks_nothing_forwards_the_bytes():
    call = Call()
    call.handoff = hand_over(call.body, request_plan=Plan.none())
    assert call.send() == Pass()


def test_content_length_follows_the_body_only_where_the_caller_sent_one():
    action = Call().send()
    assert action.set_headers == (("content-length", str(len(action.body))),)
    assert Call(length=False).send().set_headers == ()


def test_a_body_that_outgrows_the_limit_by_masking_is_refused():
    action = Call(max_masked_bytes=100).send()
    assert isinstance(action, Refuse)
    assert action.status == 413


# -- documents dropped, answers mapped back ---------------------------------------------------------------------------


def test_a_dropped_document_is_not_sent_and_indices_come_back_as_the_callers_own():
    body = body_of(top_n=2)
    call = Call(body, handoff=hand_over(body, kept=(0, 2)))
    answer = json.loads(call.answer(ranked((1, 0.9, {}), (0, 0.1, {}))))
    assert [result["index"] for result in answer["results"]] == [2, 0]


def test_the_answer_to_a_request_without_top_n_lists_the_dropped_last():
    body = body_of()
    call = Call(body, handoff=hand_over(body, kept=(1, 2)))
    answer = json.loads(call.answer(ranked((1, 0.9, {}), (0, 0.1, {}))))
    assert [result["index"] for result in answer["results"]] == [2, 1, 0]


# -- what the caller receives -----------------------------------------------------------------------------------------


def test_an_unchanged_echo_is_left_as_it_is_and_anything_else_is_masked():
    def answer(sent):
        documents = json.loads(sent)["documents"]
        return ranked((0, 0.9, {"document": {"text": documents[0]}}), (1, 0.5, {"document": {"text": f"to {MAIL}"}}))

    answer = Call().answer(answer)
    assert MAIL.encode() not in answer
    assert answer.count(b".invalid") == 2


def test_the_echo_of_another_documents_text_is_not_trusted():
    """A relaxed plan shows document 0 its own text again, and nobody else's."""
    body = body_of()

    def answer(sent):
        echoed = json.loads(sent)["documents"][0]
        return ranked((0, 0.9, {"document": {"text": echoed}}), (1, 0.5, {"document": {"text": echoed}}))

    call = Call(body, handoff=hand_over(body, response_plan=Plan.none()))
    results = json.loads(call.answer(answer))["results"]
    assert results[0]["document"]["text"] == DOCUMENTS[0]
    assert MAIL not in results[1]["document"]["text"]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"not json",
        b"[]",
        b'{"results":[{"index":3,"relevance_score":0.5}]}',
        b'{"results":[{"index":-1,"relevance_score":0.5}]}',
        b'{"results":[{"index":0,"relevance_score":0.5},{"index":0,"relevance_score":0.4}]}',
        b'{"results":[{"index":"0","relevance_score":0.5}]}',
        b'{"results":[{"index":0,"relevance_score":0.5}],"results":[]}',
        b'{"results":[{"index":0,"relevance_score":0.5,"maren.oldfield@example.org":1}]}',
        b'{"results":[{"index":0,"relevance_score":0.5}],"account":4111111111111111}',
        b'{"results":[{"index":0,"relevance_score":4111111111111111}]}',
    ],
)
def test_scenario_44_an_answer_that_cannot_be_inspected_becomes_502(answer):
    call = Call()
    call.sent()
    call.exchange.step(ResponseHeaders(JSON, False, False, None))
    action = call.exchange.step(ResponseBody(answer))
    assert isinstance(action, Refuse)
    assert (action.status, action.details) == (502, "rankgate_upstream_invalid")
    assert MAIL.encode() not in action.body


@pytest.mark.parametrize(
    "headers",
    [
        ((":status", b"200"), ("content-type", b"text/html")),
        ((":status", b"200"), ("content-type", b"application/json; note=maren.oldfield@example.org")),
        ((":status", b"200"), ("content-type", b"application/json; charset=utf-7")),
        (*JSON, ("content-type", b"application/json")),
        ((":status", b"200"),),
        ((":status", b"302"), ("content-type", b"application/json")),
        (*JSON, ("content-encoding", b"gzip")),
        ((":status", b"500"), ("content-encoding", b"br")),
    ],
)
def test_scenario_44_an_answer_of_another_kind_becomes_502(headers):
    call = Call()
    call.sent()
    action = call.exchange.step(ResponseHeaders(headers, False, False, None))
    assert isinstance(action, Refuse)
    assert action.status == 502


@pytest.mark.parametrize("status", [b"401", b"403"])
def test_a_refused_credential_is_the_gates_fault_not_the_callers(status):
    call = Call()
    call.sent()
    action = call.exchange.step(
        ResponseHeaders(((":status", status), ("www-authenticate", b"Bearer")), False, False, None)
    )
    assert isinstance(action, Refuse)
    assert (action.status, action.details) == (502, "rankgate_upstream_refused")
    assert "www-authenticate" not in dict(action.headers)
    assert call.exchange.end().upstream_status == int(status)


@pytest.mark.parametrize(
    "error",
    [
        json.dumps({"error": {"message": f"bad input {MAIL}"}}).encode(),
        f"bad input {MAIL}".encode(),
    ],
)
def test_error_answers_are_masked_with_every_type_whatever_the_profile(error):
    body = body_of()
    call = Call(body, handoff=hand_over(body, response_plan=Plan.none()))
    shown = call.answer(error, ((":status", b"422"), ("content-type", b"text/plain")))
    assert MAIL.encode() not in shown
    assert b"bad input" in shown
    assert call.exchange.end().outcome is Outcome.UPSTREAM_ERROR


@pytest.mark.parametrize(
    "error",
    [
        f"key {CREDENTIAL} is not valid".encode(),
        json.dumps({"message": f"x{CREDENTIAL}y"}).encode(),
        json.dumps({"message": CREDENTIAL}).replace("-", "\\u002d").encode(),
        b"x" * 70_000,
        b"\xff\xfe",
    ],
)
def test_scenario_26_an_error_that_quotes_the_lent_credential_is_replaced(error):
    call = Call()
    call.sent()
    call.exchange.step(ResponseHeaders(((":status", b"400"),), False, False, None))
    action = call.exchange.step(ResponseBody(error))
    assert isinstance(action, Refuse)
    assert CREDENTIAL.encode() not in action.body


@pytest.mark.parametrize(
    ("error", "kind"), [(b'{"message":"no"}', "application/json"), (b"no", "text/plain; charset=utf-8")]
)
def test_the_content_type_of_an_error_is_ours_and_fits_what_it_is(error, kind):
    call = Call()
    call.sent()
    headers = ((":status", b"400"), ("content-type", f"application/json; note={CREDENTIAL}".encode()))
    call.exchange.step(ResponseHeaders(headers, False, False, None))
    action = call.exchange.step(ResponseBody(error))
    assert dict(action.set_headers)["content-type"] == kind


def test_an_error_without_a_body_keeps_no_content_type():
    call = Call()
    call.sent()
    headers = ((":status", b"500"), ("content-type", CREDENTIAL.encode()))
    assert "content-type" in call.exchange.step(ResponseHeaders(headers, True, False, None)).remove
    assert call.exchange.finished


@pytest.mark.parametrize("size", ["answer", "masked answer"])
def test_an_answer_over_the_limit_is_refused_before_and_after_masking(size):
    many = " ".join(f"a{n}@b.co" for n in range(100))
    answer = json.dumps({"results": [], "note": many if size == "masked answer" else "x" * 2000}).encode()
    limit = len(answer) + (10 if size == "masked answer" else -10)
    call = Call(max_response_bytes=limit)
    call.sent()
    call.exchange.step(ResponseHeaders(JSON, False, False, None))
    action = call.exchange.step(ResponseBody(answer))
    assert isinstance(action, Refuse)
    assert (action.status, call.exchange.end().status) == (502, 502)


def test_a_step_that_takes_too_long_is_refused():
    def over():
        raise GateError(Reason.DEADLINE_EXCEEDED)

    call = Call(deadline=lambda: over)
    call.handoff = hand_over(call.body, spans=False)
    action = call.send()
    assert isinstance(action, Refuse)
    assert call.exchange.end().reason is Reason.DEADLINE_EXCEEDED


def test_a_dialect_this_process_does_not_know_is_refused_in_the_general_shape():
    call = Call()
    call.handoff = hand_over(call.body, dialect_revision=1)
    call.handoff = replace(call.handoff, dialect="tomorrow.v9")
    action = call.send()
    assert isinstance(action, Refuse)
    assert set(json.loads(action.body)) == {"message", "detail", "error"}


def test_only_listed_response_headers_without_sensitive_values_pass():
    call = Call()
    call.sent()
    headers = (
        *JSON,
        ("server", b"uvicorn"),
        ("x-request-id", f"for {MAIL}".encode()),
        ("x-total-time", b"21"),
        ("retry-after", CREDENTIAL.encode()),
    )
    action = call.exchange.step(ResponseHeaders(headers, False, False, None))
    assert set(action.remove) == {"server", "x-request-id", "retry-after", "authorization", "set-cookie"}


def test_scenario_43_response_trailers_are_removed_seen_or_not():
    call = call_in("done")
    action = call.exchange.step(ResponseTrailers(("x-debug",)))
    assert set(action.remove) == {"x-debug", "authorization", "set-cookie"}


# -- replies of Envoy's own -------------------------------------------------------------------------------------------


def test_a_denial_passes_as_it_is_and_makes_no_completion():
    exchange = Exchange(tools())
    assert exchange.step(ResponseHeaders(((":status", b"403"),), False, True, True)) == Pass()
    assert exchange.step(ResponseBody(b'{"message":"no"}')) == Pass()
    assert exchange.finished
    assert exchange.end() is None


def test_a_stream_that_begins_with_the_rerankers_answer_is_aborted():
    exchange = Exchange(tools())
    assert exchange.step(ResponseHeaders(JSON, False, False, True)) == Abort("response_without_request")


def test_an_unreachable_reranker_is_recorded_as_envoys_reply():
    call = Call()
    call.sent()
    assert call.exchange.step(ResponseHeaders(((":status", b"503"),), True, True, None)) == Pass()
    assert call.exchange.finished
    assert (call.exchange.end().outcome, call.exchange.end().status) == (Outcome.LOCAL_REPLY, 503)


def test_a_refusal_speaks_the_callers_dialect_and_names_the_receipt():
    body = json.dumps({"query": "q", "texts": ["a"]}).encode()
    call = Call(body, handoff=hand_over(body, "tei"))
    action = call.send(b"{}")
    assert set(json.loads(action.body)) == {"error", "error_type"}
    assert "dec-1" in json.loads(action.body)["error"]
    assert dict(action.headers)["x-rankgate-decision-id"] == "dec-1"
