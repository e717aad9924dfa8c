"""What Envoy alone does with hostile requests, before, around and after the filters."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from certificates import identity
from flow import http2
from flow.gate import Gate, trivial
from flow.upstream import Script

CALL = {"query": "river bank", "documents": ["a bank by the river", "a bank for money"]}
BODY = json.dumps(CALL).encode()


def request(
    *lines: str, target: str = "/v2/rerank", method: str = "POST", body: bytes = BODY, length: bool = True
) -> bytes:
    """Return a request as bytes, with a bearer and the header lines given."""
    head = [
        f"{method} {target} HTTP/1.1",
        "Host: gate",
        "Authorization: Bearer a.b.c",
        "Content-Type: application/json",
    ]
    head += [f"Content-Length: {len(body)}"] if length else []
    return "\r\n".join([*head, *lines, "", ""]).encode("latin-1") + body


def status(answer: bytes) -> int | None:
    """Return the status of an answer; None where the connection was closed without one."""
    return int(answer.split(b" ", 2)[1]) if answer else None


async def test_an_allowed_call_reaches_the_reranker_and_its_answer_the_caller(edge: Gate) -> None:
    answer = await edge.post("/v2/rerank", CALL)
    assert answer.status == 200
    assert [result["index"] for result in answer.json["results"]] == [0, 1]
    (arrived,) = edge.upstream.requests
    assert arrived.json == CALL
    assert arrived.values("host") == [edge.upstream.url.removeprefix("http://")]
    assert len(arrived.values("x-rankgate-decision-id")) == 1
    assert "server" not in answer.headers


async def test_scenario_28_what_callers_say_about_themselves_reaches_no_filter(edge: Gate) -> None:
    told = {
        "x-envoy-original-path": "/admin", "x-envoy-external-address": "10.0.0.1", "x-envoy-max-retries": "9",
        "x-envoy-upstream-rq-timeout-ms": "1", "x-envoy-internal": "true", "x-forwarded-for": "10.0.0.1",
        "x-forwarded-client-cert": "By=spiffe://x", "x-original-url": "/admin", "x-rewrite-url": "/admin",
        "x-http-method-override": "GET", "x-real-ip": "10.0.0.1", "forwarded": "for=10.0.0.1",
        "x-forwarded-host": "evil", "X-RankGate-Decision": "allow", "x-request-id": "mine",
    }  # fmt: skip
    answer = await edge.post("/v2/rerank", CALL, told)
    assert answer.status == 200
    (check,) = edge.journal("ext_authz")
    seen = dict(check["headers"])
    assert check["source"] == "127.0.0.1"
    assert check["path"] == "/v2/rerank"
    assert check["method"] == "POST"
    assert seen["x-request-id"] != "mine"
    # The two of the list that Envoy sets itself hold its own values.
    assert seen.get("x-envoy-external-address") == "127.0.0.1"
    assert not {name.lower() for name in told} & (set(seen) - {"x-request-id", "x-envoy-external-address"})
    assert b"x-envoy" not in edge.upstream.bytes_seen.lower()


async def test_scenario_27_a_reserved_name_with_underscores_is_refused(edge: Gate) -> None:
    answer = await edge.raw(request("X_RankGate_Decision: allow"))
    assert status(answer) == 400
    assert not edge.journal("ext_authz")
    assert not edge.upstream.connections


@pytest.mark.parametrize(
    ("nominated", "expected"),
    [("authorization", 401), ("authorization, close", 401), ("close, Authorization", 401), ("keep-alive", 200)],
)
async def test_scenario_30_a_nominated_credential_is_a_missing_one(edge: Gate, nominated: str, expected: int) -> None:
    assert status(await edge.raw(request(f"Connection: {nominated}"))) == expected


async def test_scenario_30_nominating_headers_never_reaches_the_reranker(edge: Gate) -> None:
    for nominated in ("content-length", "x-request-id", "host", "content-type, transfer-encoding"):
        await edge.raw(request(f"Connection: {nominated}"))
    for arrived in edge.upstream.requests:
        assert arrived.body == BODY
        assert len(arrived.values("x-request-id")) == 1
        assert not arrived.values("connection")


SERVED = "/v2/rerank"
PATHS = [
    ("//v2//rerank", SERVED),
    ("/v2/./rerank", SERVED),
    ("/v2/x/../rerank", SERVED),
    ("/v2/%2e%2e/v2/rerank", SERVED),
    ("/v2/%72erank", SERVED),
    ("/v2\\rerank", SERVED),
    ("/..;/v2/rerank", SERVED),
    ("http://evil.example/v2/rerank", SERVED),
    ("/v2%2frerank", None),
    ("/v2%5crerank", None),
    ("/v2/rerank%00", None),
    ("/v2/rerank#fragment", None),
    ("/v2/rerank\x00", None),
    ("/v2/rerank x", None),
    ("", None),
    ("*", None),
    ("/v2/rerank;a=b", "unrouted"),
    ("/v2;a=b/rerank", "unrouted"),
    ("/V2/rerank", "unrouted"),
    ("/v2/rerank/", "unrouted"),
    ("/v2/rerank%3fx", "unrouted"),
    ("/v1/../../v2/rerank/..", "unrouted"),
]


async def test_scenario_31_filters_and_reranker_see_the_same_path_or_nothing_is_served(edge: Gate) -> None:
    for target, expected in PATHS:
        checks, arrived = len(edge.journal("ext_authz")), len(edge.upstream.requests)
        answer = await edge.raw(request(target=target), within_s=2)
        new = edge.journal("ext_authz")[checks:]
        if expected == SERVED:
            assert status(answer) == 200, target
            assert [check["path"] for check in new] == [SERVED], target
            assert [item.target for item in edge.upstream.requests[arrived:]] == [SERVED], target
        else:
            assert len(edge.upstream.requests) == arrived, target
            assert status(answer) in {400, 404, None}, target
            assert [check["route"] for check in new] == ([""] if expected == "unrouted" else []), target


DESYNC = [
    request("Transfer-Encoding: chunked", body=b"0\r\n\r\nGET /admin HTTP/1.1\r\nHost: x\r\n\r\n"),
    request(
        "Transfer-Encoding: chunked", "Content-Length: 4", length=False, body=b"5c\r\nGPOST / HTTP/1.1\r\n\r\n0\r\n\r\n"
    ),
    request("Transfer-Encoding: xchunked", length=False, body=b"0\r\n\r\n"),
    request("Transfer-Encoding : chunked", length=False, body=b"0\r\n\r\n"),
    request("Transfer-Encoding: chunked", "Transfer-Encoding: identity", length=False, body=b"0\r\n\r\n"),
    request("Transfer-Encoding: chunked, identity", length=False, body=b"0\r\n\r\n"),
    request("Transfer-Encoding:\x0bchunked", length=False, body=b"0\r\n\r\n"),
    request("Content-Length: 5"),
    request("Content-Length: +5", length=False),
    request("Content-Length: 5, 6", length=False),
    request("Content-Length: -1", length=False),
    request("Content-Length: 0x10", length=False),
    request("X-Folded: a\r\n b"),
    request("X-Bare: a\nX-Injected: b"),
    request("X-Return: a\rX-Injected: b"),
    request("X-Nul: a\x00b"),
    request(": no-name"),
    request("no-colon"),
    request("Host: other"),
    request("Transfer-Encoding: chunked", length=False, body=b"3\r\nabcX\r\n0\r\n\r\n"),
    request("Transfer-Encoding: chunked", length=False, body=b"-1\r\nabc\r\n0\r\n\r\n"),
    request("Transfer-Encoding: chunked", length=False, body=b"ffffffffffffffff0\r\nabc\r\n0\r\n\r\n"),
    request("Transfer-Encoding: chunked", length=False, body=b"3;\nabc\r\nabc\r\n0\r\n\r\n"),
    b"GET /admin\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01",
]


async def test_scenario_33_one_request_in_is_at_most_one_request_out(edge: Gate) -> None:
    async def attack(number: int, broken: bytes) -> None:
        case = b"?case=%d " % number
        canary = request(target=f"/v1/rerank?case={number}")
        await edge.raw(broken.replace(b"/v2/rerank ", b"/v2/rerank" + case) + canary, within_s=3, until_closed=True)

    await asyncio.gather(*(attack(number, broken) for number, broken in enumerate(DESYNC)))
    for number in range(len(DESYNC)):
        targets = [item.target for item in edge.upstream.requests if item.target.endswith(f"?case={number}")]
        first, second = f"/v2/rerank?case={number}", f"/v1/rerank?case={number}"
        # The broken request itself, the canary behind it, or neither.
        assert targets in ([], [first], [second], [first, second]), DESYNC[number]
    # Nothing that stood inside a body ever became a request.
    assert len(edge.upstream.requests) == sum("?case=" in item.target for item in edge.upstream.requests)
    assert b"injected" not in edge.upstream.bytes_seen.lower()


HEAD = [(":method", "POST"), (":scheme", "http"), (":authority", "gate"), (":path", "/v2/rerank")]
CALLER = [("authorization", "Bearer a.b.c"), ("content-type", "application/json")]


async def test_scenario_34_rapid_reset_ends_the_connection_and_not_the_gate(edge: Gate) -> None:
    connection = await http2.Connection.open(edge.port)
    block = http2.block(HEAD + CALLER)
    for stream in range(1, 4001, 2):
        connection.send(http2.HEADERS, http2.END_HEADERS, stream, block)
        connection.send(http2.RST_STREAM, 0, stream, (8).to_bytes(4, "big"))
    ended = False
    try:
        await connection.flush()
        while (frame := await connection.frame(within_s=5)) is not None:
            ended = ended or frame.kind == http2.GOAWAY
        ended = True
    except (ConnectionError, TimeoutError):
        pass
    connection.close()
    assert ended
    assert not edge.upstream.requests
    assert (await edge.post("/v2/rerank", CALL)).status == 200


async def test_scenario_34_an_endless_header_block_ends_the_connection(edge: Gate) -> None:
    connection = await http2.Connection.open(edge.port)
    connection.send(http2.HEADERS, 0, 1, http2.block(HEAD))
    filler = http2.block([("x-filler", "y" * 4000)]) * 4
    try:
        for _ in range(200):
            connection.send(http2.CONTINUATION, 0, 1, filler)
            await connection.flush()
    except ConnectionError:
        pass
    while (frame := await connection.frame()) is not None and frame.kind != http2.GOAWAY:
        pass
    connection.close()
    assert (await edge.post("/v2/rerank", CALL)).status == 200


LIMITS = {"body_bytes": 8192, "masked_body_bytes": 8192, "response_bytes": 8192}


@pytest.mark.parametrize("chunked", [False, True])
async def test_scenario_36_a_body_over_envoys_limit_is_neither_checked_nor_forwarded(chunked: bool) -> None:
    async with Gate({"limits": LIMITS}, filters=trivial) as gate:
        body = b"x" * (gate.stack.settings.envoy_body_bytes + 1)
        if chunked:
            data = request(
                "Transfer-Encoding: chunked", length=False, body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
            )
        else:
            data = request(body=body)
        answer = await gate.raw(data)
        assert status(answer) == 413
        assert b'"message":"the body is too large"' in answer
        assert not gate.journal("ext_authz")
        assert not gate.upstream.connections


async def test_scenario_36_bodies_far_over_the_connections_buffer_pass_whole_in_both_directions(edge: Gate) -> None:
    text = "word " * 300_000
    answer = await edge.post("/v2/rerank", {"query": "word", "documents": [text], "return_documents": True})
    assert edge.upstream.requests[0].json["documents"] == [text]
    assert answer.json["results"][0]["document"] == {"text": text}


@pytest.mark.parametrize("sent", [b"", BODY[:10]])
async def test_scenario_37_a_body_that_stops_frees_its_place_in_time(sent: bytes) -> None:
    async with Gate({"limits": {"request_timeout_s": 1.0}}, filters=trivial) as gate:
        answer = await gate.raw(request(body=BODY)[: -len(BODY)] + sent, within_s=8)
        assert status(answer) == 408
        assert not gate.journal("ext_authz")
        await gate.settled()


async def test_scenario_43_http1_request_trailers_reach_nobody(edge: Gate) -> None:
    body = b"%x\r\n%s\r\n0\r\nX-Secret: trailing\r\n\r\n" % (len(BODY), BODY)
    answer = await edge.raw(request("Transfer-Encoding: chunked", "Trailer: X-Secret", length=False, body=body))
    assert status(answer) == 200
    assert b"trailing" not in edge.upstream.bytes_seen
    assert "trailing" not in json.dumps(edge.journal("ext_proc"))


async def test_scenario_43_http2_request_trailers_are_shown_to_ext_proc_which_refuses_them(edge: Gate) -> None:
    connection = await http2.Connection.open(edge.port)
    connection.send(http2.HEADERS, http2.END_HEADERS, 1, http2.block(HEAD + CALLER))
    connection.send(http2.DATA, 0, 1, BODY)
    trailers = http2.block([("x-secret", "trailing")])
    connection.send(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, 1, trailers)
    assert await connection.status(1) == 400
    connection.close()
    shown = [entry for entry in edge.journal("ext_proc") if entry["kind"] == "request_trailers"]
    assert [entry["trailers"] for entry in shown] == [[["x-secret", "trailing"]]]
    assert not edge.upstream.connections


async def test_scenario_43_response_trailers_never_reach_the_caller(edge: Gate) -> None:
    edge.upstream.script = Script(trailers=(("x-secret", "trailing"),))
    connection = await http2.Connection.open(edge.port)
    connection.send(http2.HEADERS, http2.END_HEADERS, 1, http2.block(HEAD + CALLER))
    connection.send(http2.DATA, http2.END_STREAM, 1, BODY)
    received = b""
    while (frame := await connection.frame()) is not None:
        received += frame.payload
        if frame.stream == 1 and frame.flags & http2.END_STREAM:
            break
    connection.close()
    assert b"relevance_score" in received
    assert b"trailing" not in received
    assert b"trailing" not in await edge.raw(request())


@pytest.mark.parametrize("role", ["ext_authz", "ext_proc"])
async def test_scenario_49_without_one_of_the_filters_nothing_is_forwarded(edge: Gate, role: str) -> None:
    await edge.stack.child(f"{role}-0").stop(grace_s=5)
    answer = await edge.post("/v2/rerank", CALL)
    assert answer.status == 503
    assert answer.json["message"] == "the gate or the reranker is not available"
    assert not edge.upstream.connections


async def test_a_call_without_a_bearer_is_answered_before_its_body_arrives(edge: Gate) -> None:
    for line, expected in (
        ("Authorization: Basic YTpi", 401),
        ("X-No: bearer", 401),
        ("Authorization: Bearer a,b", 400),
    ):
        head = f"POST /v2/rerank HTTP/1.1\r\nHost: gate\r\n{line}\r\nContent-Length: 1000000\r\n\r\n".encode()
        answer = await edge.raw(head, within_s=5)
        assert status(answer) == expected, line
        challenge = b'Bearer realm="rankgate"' + (b', error="invalid_request"' if expected == 400 else b"")
        assert b"www-authenticate: %s\r\n" % challenge in answer
    assert not edge.journal("ext_authz")
    assert not edge.journal("ext_proc")


async def test_two_authorization_headers_are_one_ambiguous_credential(edge: Gate) -> None:
    answer = await edge.raw(request("Authorization: Bearer d.e.f"))
    assert status(answer) == 400
    assert not edge.upstream.connections


@pytest.mark.parametrize(("path", "headers", "expected"), [("/nowhere", {}, 404), ("/v2/rerank", {"a_b": "c"}, 400)])
async def test_envoys_own_refusals_are_json_that_every_sdk_reads(
    edge: Gate, path: str, headers: dict, expected: int
) -> None:
    answer = await edge.post(path, CALL, headers)
    assert answer.status == expected
    assert answer.headers["content-type"] == "application/json"
    message = answer.json["message"]
    assert answer.json == {
        "message": message, "detail": message,
        "error": {"message": message, "type": "rankgate_error", "code": expected},
    }  # fmt: skip


async def test_a_filters_own_denial_stays_as_it_is(edge: Gate) -> None:
    answer = await edge.post("/v2/rerank", CALL, {"x-trivial-deny": "1"})
    assert answer.status == 403
    assert answer.body == b'{"message": "native denial", "detail": null}'
    assert answer.headers["x-rankgate-decision-id"].startswith("id-")
    assert not edge.upstream.connections


async def test_an_unreachable_reranker_says_nothing_about_itself(edge: Gate) -> None:
    await edge.upstream.stop()
    answer = await edge.post("/v2/rerank", CALL)
    assert answer.status == 503
    assert answer.json["detail"] == "the gate or the reranker is not available"


async def test_ext_proc_sees_no_credential_and_the_caller_no_cookie(edge: Gate) -> None:
    forged = (("set-cookie", "session=secret"), ("x-envoy-decorator-operation", "x"), ("x-rankgate-decision-id", "x"))
    edge.upstream.script = Script(headers=forged)
    answer = await edge.post("/v2/rerank", CALL, {"cookie": "a=b"})
    assert answer.status == 200
    assert not {name for name, _ in forged} & set(answer.headers)
    shown = {name for entry in edge.journal("ext_proc") for name, _ in entry.get("headers", [])}
    assert not shown & {"authorization", "cookie", "proxy-authorization", "set-cookie"}


GRPC = ["application/grpc", "application/grpc+proto"]


@pytest.mark.parametrize("kind", GRPC)
async def test_a_caller_who_says_grpc_is_refused_with_a_status_and_a_body_of_http(edge: Gate, kind: str) -> None:
    said, denied = {"content-type": kind}, {"content-type": kind, "x-trivial-deny": "1"}
    for path, headers, token, expected in (
        ("/v2/rerank", said, None, 401),
        ("/v2/rerank", said, "a,b", 400),
        ("/v2%2frerank", said, "", 400),
        ("/nowhere", said, "", 404),
        ("/v2/rerank", denied, "", 403),
    ):
        answer = await edge.post(path, CALL, headers, token=token)
        assert (answer.status, answer.headers["content-type"]) == (expected, "application/json")
        assert answer.json["message"]
        assert not {name for name in answer.headers if name.startswith("grpc-") or name == "x-rankgate-status"}
    assert answer.body == b'{"message": "native denial", "detail": null}'
    assert answer.headers["x-rankgate-decision-id"].startswith("id-")
    assert {entry["code"] for entry in await edge.access_log(5)} == {400, 401, 403, 404}
    assert await edge.counter("http.ingress.lua.errors") == 0


async def test_a_caller_who_says_grpc_over_http2_is_refused_with_a_status_of_http(edge: Gate) -> None:
    connection = await http2.Connection.open(edge.port)
    said = [("authorization", "Bearer a.b.c"), ("content-type", "application/grpc"), ("te", "trailers")]
    connection.send(http2.HEADERS, http2.END_HEADERS, 1, http2.block([*HEAD[:3], (":path", "/nowhere"), *said]))
    connection.send(http2.DATA, http2.END_STREAM, 1, BODY)
    assert await connection.status(1) == 404
    connection.close()


async def test_what_a_caller_who_says_grpc_sends_to_a_gate_that_fails_is_answered_503(edge: Gate) -> None:
    await edge.stack.child("ext_authz-0").stop(grace_s=5)
    answer = await edge.post("/v2/rerank", CALL, {"content-type": "application/grpc"})
    assert (answer.status, answer.json["message"]) == (503, "the gate or the reranker is not available")


@pytest.mark.parametrize("kind", ["application/grpc", "APPLICATION/GRPC", "application/grpc;a=b", "text/plain"])
async def test_the_whole_gate_refuses_what_is_not_json_and_asks_for_a_token_first(gate: Gate, kind: str) -> None:
    said = {"content-type": kind}
    for token, expected in ((None, 401), ("a.b.c", 401), ("", 415)):
        answer = await gate.post("/v2/rerank", CALL, said, token=token)
        assert answer.status == expected
        assert answer.json["message"]
    assert answer.json["id"] == answer.headers["x-rankgate-decision-id"]
    assert "x-rankgate-status" not in answer.headers
    assert not gate.upstream.connections


async def test_no_answer_carries_the_status_meant_for_the_last_filter(edge: Gate) -> None:
    answers = [
        await edge.raw(request()),
        await edge.raw(request("X-Trivial-Deny: 1")),
        await edge.raw(request("A_b: c")),
        await edge.raw(request(target="/v2%2frerank")),
        await edge.raw(b"NONE / HTTP/1.1\r\nHost: gate\r\n\r\n"),
        await edge.raw(b"GET /healthz HTTP/1.1\r\nHost: gate\r\n\r\n"),
    ]
    assert [status(answer) for answer in answers] == [200, 403, 400, 400, 400, 200]
    assert b"x-rankgate-status" not in b"".join(answers).lower()


async def test_the_access_log_has_the_decision_and_neither_query_nor_token(edge: Gate) -> None:
    token = edge.token()
    await edge.post("/v2/rerank?api_key=sesame", CALL, token=token)
    await edge.post("/nowhere?api_key=sesame", CALL, {"x-trivial-deny": "1"}, token=token)
    await edge.post("/v2/rerank?api_key=sesame", CALL, token=None)
    entries = await edge.access_log(3)
    assert [entry["route"] for entry in entries] == ["cohere-v2", "unrouted", "refuse-no-bearer"]
    assert [bool(entry["decision_id"]) for entry in entries] == [True, True, False]
    assert all(entry["request_id"] for entry in entries)
    logs = edge.logs()
    assert "sesame" not in logs
    assert token not in logs
    assert token.rsplit(".", 1)[1] not in logs
    assert "hidden-subject" not in logs


def golden(path: str, bearer: str, method: str = "POST") -> bytes:
    """Return a request that says `gold` wherever a caller can say anything."""
    names = "X-Request-Id", "X-Gold", "User-Agent", "Referer", "Cookie", "Traceparent", "X-Forwarded-For", "X-Real-Ip"
    lines = [f"{method} {path}?gold=gold HTTP/1.1", "Host: gold", f"Authorization: {bearer}", "Content-Length: 4"]
    return "\r\n".join([*lines, *(f"{name}: gold" for name in names), "", "gold"]).encode("latin-1")


async def test_no_text_of_a_caller_enters_a_log_and_no_line_is_long(edge: Gate) -> None:
    long = "/gold" * 4000
    paths = ["/gold", "/v2/rerank", "/gold@example.org", "/gold%2fgold", "/%00gold", long, "gold://gold/gold", "/gold#"]
    for path in paths:
        for bearer in ("Bearer gold.gold.gold", "gold", "Bearer gold,gold"):
            await edge.raw(golden(path, bearer), within_s=3)
    await edge.raw(golden("/gold", "Bearer gold.gold.gold", "GOLD"))
    await edge.raw(golden("/gold", "Bearer gold.gold.gold", "PATCH"))
    connection = await http2.Connection.open(edge.port)
    method = [(":method", "gold" * 50), *HEAD[1:3], (":path", "/gold")]
    said = [("authorization", "Bearer gold.gold.gold"), ("x-request-id", "gold")]
    connection.send(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, 1, http2.block([*method, *said]))
    assert await connection.status(1) == 404
    connection.send(
        http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, 3, http2.block([*method, ("gold gold", "gold")])
    )
    await connection.status(3)
    connection.close()
    # As much as there can be of text that is not Envoy's own: what the reranker's side and a filter say.
    edge.upstream.script = Script(drop=True)
    await edge.post("/v2/rerank", CALL)
    await edge.stack.child("ext_proc-0").stop(grace_s=5)
    await edge.post("/v2/rerank", CALL)
    entries = await edge.access_log(3 * len(paths) + 6)
    assert {entry["method"] for entry in entries} == {"POST", "PATCH", "other", None}
    details = [entry["details"] for entry in entries]
    assert details[-2:] == ["upstream_reset_before_response_started", "ext_proc_error"]
    assert "path_normalization_failed" in details
    logs = edge.logs().lower()
    assert "gold" not in logs
    assert max(map(len, (edge.directory / "run" / "access.log").read_text().splitlines())) < 1000


@pytest.mark.parametrize(("size", "expected"), [(16_384, 200), (24_576, 431)])
async def test_the_longest_token_passes_and_no_header_much_longer(edge: Gate, size: int, expected: int) -> None:
    assert (await edge.post("/v2/rerank", CALL, token="a" * size)).status == expected


async def test_a_long_check_is_one_check() -> None:
    async with Gate({"limits": {"check_timeout_s": 10.0}}, filters=trivial) as gate:
        answer = await gate.post("/v2/rerank", CALL, {"x-trivial-delay": "1.5"})
        assert answer.status == 200
        assert len(gate.journal("ext_authz")) == 1


async def test_a_check_that_takes_too_long_is_refused() -> None:
    async with Gate({"limits": {"check_timeout_s": 0.3}}, filters=trivial) as gate:
        answer = await gate.post("/v2/rerank", CALL, {"x-trivial-delay": "5"})
        assert answer.status == 503
        assert not gate.upstream.connections


async def test_one_process_less_is_not_noticed() -> None:
    async with Gate(filters=trivial, authz_slots=2, proc_slots=2) as gate:
        await gate.stack.child("ext_authz-1").stop(grace_s=5)
        await gate.stack.child("ext_proc-0").stop(grace_s=5)
        assert [(await gate.post("/v2/rerank", CALL)).status for _ in range(12)] == [200] * 12


async def test_processes_that_pass_no_health_check_are_asked_all_the_same() -> None:
    async with Gate(filters=trivial, authz_slots=2, proc_slots=2) as gate:
        assert await gate.counter("cluster.rankgate_ext_authz.health_check.failure") > 0
        assert await gate.counter("cluster.rankgate_ext_authz.membership_healthy") == 0
        assert (await gate.post("/v2/rerank", CALL)).status == 200
        assert len(gate.journal("ext_authz", 0)) + len(gate.journal("ext_authz", 1)) == 1


@pytest.mark.parametrize("role", ["ext_authz", "ext_proc"])
async def test_scenario_49_without_any_of_a_filters_processes_nothing_is_forwarded(role: str) -> None:
    async with Gate(filters=trivial, authz_slots=2, proc_slots=2) as gate:
        for slot in range(2):
            await gate.stack.child(f"{role}-{slot}").stop(grace_s=5)
        assert [(await gate.post("/v2/rerank", CALL)).status for _ in range(4)] == [503] * 4
        assert not gate.upstream.connections


async def test_a_slow_reranker_is_waited_for_and_asked_once(edge: Gate) -> None:
    edge.upstream.script = Script(delay_s=1.5)
    assert (await edge.post("/v2/rerank", CALL)).status == 200
    assert len(edge.upstream.requests) == 1
    assert [entry["kind"] for entry in edge.journal("ext_proc")].count("request_headers") == 1


async def test_health_needs_no_filter_and_no_token(edge: Gate) -> None:
    for role in ("ext_authz", "ext_proc"):
        await edge.stack.child(f"{role}-0").stop(grace_s=5)
    answer = await edge.request("GET", "/healthz", token=None)
    assert (answer.status, answer.body) == (200, b'{"status":"live"}')


async def test_connect_opens_no_tunnel(edge: Gate) -> None:
    answer = await edge.raw(b"CONNECT gate:1 HTTP/1.1\r\nHost: gate:1\r\nAuthorization: Bearer a.b.c\r\n\r\n")
    assert status(answer) == 403
    assert not edge.journal("ext_authz")


async def test_tls_on_both_sides(tmp_path: Path) -> None:
    own, upstream = identity(tmp_path, "127.0.0.1"), identity(tmp_path, "localhost", "127.0.0.1")
    async with Gate(
        {
            "listen": {"certificate_file": own.certificate, "key_file": own.key},
            "upstream": {"trusted_ca": upstream.certificate},
        },
        filters=trivial,
        listen_tls=own.client(),
        upstream_tls=upstream.server(),
    ) as gate:
        assert gate.url.startswith("https://")
        assert (await gate.post("/v2/rerank", CALL)).status == 200
        assert gate.upstream.requests[0].json == CALL


@pytest.mark.parametrize("names", [("127.0.0.1",), ("localhost",)])
async def test_a_reranker_that_cannot_prove_its_name_is_sent_nothing(tmp_path: Path, names: tuple[str, ...]) -> None:
    trusted = identity(tmp_path, *names)
    # Either signed by nobody trusted, or trusted under another name.
    impostor = identity(tmp_path / "other", "127.0.0.1") if names == ("127.0.0.1",) else trusted
    overrides = {"upstream": {"trusted_ca": trusted.certificate}}
    async with Gate(overrides, filters=trivial, upstream_tls=impostor.server()) as gate:
        assert (await gate.post("/v2/rerank", CALL)).status == 503
        assert not gate.upstream.bytes_seen
