"""The same hostile requests against the whole gate: what is recorded, and what neither side ever sees."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flow import http2
from flow.gate import Gate
from flow.upstream import Script

from rankgate import resources

CALL = {"query": "invoice of alice@example.com", "documents": ["alice@example.com paid", "nobody paid"]}
HEAD = [(":method", "POST"), (":scheme", "http"), (":authority", "gate"), (":path", "/v2/rerank")]


def details(event: dict[str, Any]) -> dict[str, Any]:
    return event["body"]["unmapped"]["rankgate"]


async def test_one_call_leaves_one_decision_and_one_completion_under_one_id(gate: Gate) -> None:
    answer = await gate.post("/v2/rerank", CALL)
    assert answer.status == 200
    (decision,), (completion,) = await gate.decisions(), await gate.completions()
    (entry,) = await gate.access_log(1)
    assert (
        details(decision)["decision_id"]
        == details(completion)["decision_id"]
        == entry["decision_id"]
        == answer.headers["x-rankgate-decision-id"]
    )
    assert details(decision)["allowed"] is True
    assert details(completion)["outcome"] == "complete"


async def test_the_reranker_receives_the_lent_credential_and_no_personal_data(gate: Gate) -> None:
    token = gate.token()
    await gate.post("/v2/rerank", CALL, {"cookie": "session=1", "x-api-key": "theirs"}, token=token)
    (arrived,) = gate.upstream.requests
    assert arrived.values("authorization") == [f"Bearer {gate.credential}"]
    seen = gate.upstream.bytes_seen
    for secret in (b"alice", token.encode(), b"session=1", b"theirs"):
        assert secret not in seen


async def test_no_log_and_no_event_holds_a_token_a_credential_or_personal_data(gate: Gate) -> None:
    token = gate.token()
    await gate.post("/v2/rerank", CALL, token=token)
    await gate.post("/v2/rerank?email=alice@example.com", CALL, token=token)
    await gate.post("/v2/rerank", b'{"query": "alice@example.com"', token=token)
    gate.upstream.script = Script(status=401, body=json.dumps({"detail": f"bad key {gate.credential}"}).encode())
    refused = await gate.post("/v2/rerank", CALL, token=token)
    assert gate.credential.encode() not in refused.body
    events = json.dumps(await gate.events())
    await gate.access_log(4)
    for secret in ("alice", gate.credential, token, token.rsplit(".", 1)[1]):
        assert secret not in events
        assert secret not in gate.logs()


async def test_scenario_31_the_path_that_is_recorded_is_the_path_that_is_served(gate: Gate) -> None:
    token = gate.token().encode()
    body = json.dumps(CALL).encode()
    for target in (b"//v2/./rerank", b"/v2/x/%2e%2e/rerank", b"/v2/rerank;a=b", b"/V2/rerank"):
        await gate.raw(
            b"POST %s HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (target, token, len(body), body)
        )
    decisions = await gate.decisions()
    paths = [event["body"]["http_request"]["url"]["path"] for event in decisions]
    assert paths == ["/v2/rerank", "/v2/rerank", "/v2/rerank;a=b", "/V2/rerank"]
    assert [details(event)["allowed"] for event in decisions] == [True, True, False, False]
    assert [event.get("subject") for event in decisions] == ["search"] * 4
    assert [arrived.target for arrived in gate.upstream.requests] == ["/v2/rerank", "/v2/rerank"]


async def test_scenario_28_what_callers_say_about_themselves_reaches_no_record(gate: Gate) -> None:
    told = {
        "x-forwarded-for": "10.9.8.7",
        "x-original-url": "/admin",
        "x-request-id": "mine",
        "x-rankgate-decision-id": "d",
    }
    assert (await gate.post("/v2/rerank", CALL, told)).status == 200
    (decision,) = await gate.decisions()
    assert decision["body"]["src_endpoint"]["ip"].startswith("127.0.0.1")
    text = json.dumps(await gate.events())
    assert "10.9.8.7" not in text
    assert '"mine"' not in text
    assert b"mine" not in gate.upstream.bytes_seen


async def test_scenario_36_a_body_over_our_limit_is_refused_with_identity_and_a_record() -> None:
    limits = {"body_bytes": 4096, "masked_body_bytes": 8192, "response_bytes": 8192}
    async with Gate({"limits": limits}) as gate:
        answer = await gate.post("/v2/rerank", {"query": "a", "documents": ["b" * 5000]})
        assert answer.status == 413
        assert "retry-after" not in answer.headers
        assert answer.json["message"].startswith("the body is too large")
        (decision,) = await gate.decisions()
        assert decision["subject"] == "search"
        assert details(decision)["reason"] == "body_too_large"
        assert not gate.upstream.connections


async def test_scenario_43_request_trailers_are_refused_by_the_gate(gate: Gate) -> None:
    connection = await http2.Connection.open(gate.port)
    caller = [("authorization", f"Bearer {gate.token()}"), ("content-type", "application/json")]
    connection.send(http2.HEADERS, http2.END_HEADERS, 1, http2.block(HEAD + caller))
    connection.send(http2.DATA, 0, 1, json.dumps(CALL).encode())
    trailers = http2.block([("x-note", "alice@example.com")])
    connection.send(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, 1, trailers)
    assert await connection.status(1) == 400
    connection.close()
    assert b"alice" not in gate.upstream.bytes_seen
    assert b"x-note" not in gate.upstream.bytes_seen


async def test_scenario_43_response_trailers_reach_no_caller(gate: Gate) -> None:
    gate.upstream.script = Script(trailers=(("x-note", "alice@example.com"),))
    answer = await gate.post("/v2/rerank", CALL)
    assert answer.status == 200
    assert b"alice" not in answer.body
    assert "x-note" not in answer.headers


async def test_scenario_49_without_ext_proc_nothing_is_lent_and_nothing_forwarded(gate: Gate) -> None:
    await gate.stack.child("ext_proc-0").stop(grace_s=10)
    answer = await gate.post("/v2/rerank", CALL)
    assert answer.status == 503
    assert not gate.upstream.connections


@pytest.mark.parametrize(
    "edit",
    [
        ("check_settings: { context_extensions: { route: {{ route | tojson }} } }", "disabled: true"),
        ("untyped: [ envoy.filters.http.ext_authz ]", "untyped: [ nothing ]"),
        ("request_body_mode: BUFFERED", "request_body_mode: NONE"),
        ("request_body_mode: BUFFERED", "request_body_mode: STREAMED"),
        ("response_body_mode: BUFFERED", "response_body_mode: NONE"),
        ("request_header_mode: SEND", "request_header_mode: SKIP"),
        ("overrides: {}", "overrides: { processing_mode: { response_body_mode: BUFFERED } }"),
    ],
    ids=lambda edit: edit[1],
)
async def test_scenario_49_a_weakened_configuration_serves_nothing(
    edit: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    template = resources.envoy_template()
    assert edit[0] in template
    monkeypatch.setattr(resources, "envoy_template", lambda: template.replace(*edit))
    async with Gate() as gate:
        answer = await gate.post("/v2/rerank", CALL)
        assert answer.status >= 400
        assert b"relevance_score" not in answer.body
        assert b"alice" not in gate.upstream.bytes_seen


async def test_scenario_32_bytes_that_are_no_text_in_a_header_are_refused_and_recorded(gate: Gate) -> None:
    body = json.dumps(CALL).encode()
    answer = await gate.raw(
        b"POST /v2/rerank HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"
        b"X-Bytes: \xff\xfe\xc3\r\nContent-Length: %d\r\n\r\n%s" % (gate.token().encode(), len(body), body)
    )
    assert answer.startswith(b"HTTP/1.1 400 ")
    (decision,) = await gate.decisions()
    assert details(decision)["reason"] == "header_refused"
    assert not gate.upstream.connections


@pytest.mark.parametrize("nominated", ["content-type", "x-request-id", "content-length", "accept, host"])
async def test_scenario_30_no_nominated_header_changes_what_is_decided(gate: Gate, nominated: str) -> None:
    body = json.dumps(CALL).encode()
    answer = await gate.raw(
        b"POST /v2/rerank HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"
        b"Connection: %s\r\nContent-Length: %d\r\n\r\n%s" % (gate.token().encode(), nominated.encode(), len(body), body)
    )
    # Envoy takes the nominated header away, and the decision is about what is left.
    expected = b"HTTP/1.1 415 " if nominated == "content-type" else b"HTTP/1.1 200 "
    assert answer.startswith((expected, b"HTTP/1.1 400 "))
    assert b"alice" not in gate.upstream.bytes_seen
    for arrived in gate.upstream.requests:
        assert arrived.values("authorization") == [f"Bearer {gate.credential}"]
        assert not arrived.values("connection")


async def test_a_killed_process_costs_no_call_and_no_decision_and_its_records_arrive_after_its_restart() -> None:
    async with Gate(authz_slots=2, proc_slots=2) as gate:
        assert [(await gate.post("/v2/rerank", CALL)).status for _ in range(4)] == [200] * 4
        for name in ("ext_authz-1", "ext_proc-0"):
            gate.stack.child(name).kill()
            await gate.stack.child(name).wait()
            assert [(await gate.post("/v2/rerank", CALL)).status for _ in range(6)] == [200] * 6
        await gate.stack.start_filter("ext_authz", 1)
        await gate.stack.start_filter("ext_proc", 0)
        # A completion is recorded behind the answer: the last one of a killed process may stay unconfirmed.
        decided = {details(event)["decision_id"] for event in await gate.decisions(unconfirmed=1)}
        completed = {details(event)["decision_id"] for event in await gate.completions(unconfirmed=1)}
        assert len(decided) == 16
        assert len(completed) >= 15
        assert completed <= decided
