"""Bytes at the reranker and at the caller, through a whole gate."""

from __future__ import annotations

import gzip
import json

import pytest
import pytest_asyncio
from flow.gate import Gate
from flow.upstream import Script

POLICY = """
package rankgate

import rego.v1

decision := {"allowed": true, "rankgate": {"documents": {"drop": drop}}}

drop := [position | some position, id in input.rerank.ids; id == "hidden"]
"""
MAIL = "maren.oldfield@example.org"
CARD = "4111 1111 1111 1111"

pytestmark = [pytest.mark.flow, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running():
    routes = [
        {"name": "cohere-v2", "path": "/v2/rerank", "dialect": "cohere.v2", "query_parameters": ["trace"]},
        {"name": "cohere-v1", "path": "/v1/rerank", "dialect": "cohere.v1"},
        {"name": "rerank", "path": "/rerank"},
    ]
    async with Gate({"routes": routes}, policy=POLICY) as gate:
        yield gate


@pytest.fixture
def gate(running):
    running.upstream.requests.clear()
    running.upstream.script = Script()
    return running


def call(documents, **more):
    return {"model": "m", "query": f"find {MAIL}", "documents": documents, **more}


# -- towards the reranker ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/rerank", call([{"text": f"to {MAIL}", "note": f"card {CARD}"}, CARD])),
        ("/v2/rerank", call([f"to {MAIL}", CARD])),
        ("/rerank", {"query": MAIL, "texts": [f"to {MAIL}", CARD]}),
        ("/rerank", call([f"to {MAIL}", CARD], instruction=f"prefer {MAIL}", user=MAIL)),
    ],
)
async def test_no_dialect_lets_a_value_through_in_any_text(gate, path, body):
    answer = await gate.post(path, body)
    assert answer.status == 200
    (sent,) = gate.upstream.requests
    assert b"maren" not in sent.raw
    assert b"4111" not in sent.raw


async def test_a_body_with_nothing_to_mask_arrives_byte_for_byte(gate):
    raw = b'{ "query" : "caf\xc3\xa9 \\u00e9" ,\n "model":"m", "documents":[ "a","b" ],"top_n": 2, "x":1.50e1 }'
    await gate.post("/v2/rerank", raw)
    assert gate.upstream.requests[0].body == raw


async def test_only_the_masked_literals_of_a_body_change(gate):
    raw = b'{ "query" : "to %s" ,\n "model":"m", "documents":[ "a","b" ],"max_tokens_per_doc": 1.0e2 }' % MAIL.encode()
    await gate.post("/v2/rerank", raw)
    before, after = raw.split(b"to " + MAIL.encode())
    sent = gate.upstream.requests[0].body
    assert sent.startswith(before)
    assert sent.endswith(after)


@pytest.mark.parametrize("chunked", [False, True])
async def test_the_length_of_a_changed_body_is_right_with_and_without_content_length(gate, chunked):
    raw = json.dumps(call(["a"])).encode()
    token = gate.token().encode()
    head = (
        b"POST /v2/rerank HTTP/1.1\r\nhost: gate\r\nauthorization: Bearer %s\r\ncontent-type: application/json\r\n"
        % token
    )
    if chunked:
        data = head + b"transfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(raw), raw)
    else:
        data = head + b"content-length: %d\r\n\r\n%s" % (len(raw), raw)
    assert (await gate.raw(data)).startswith(b"HTTP/1.1 200")
    assert json.loads(gate.upstream.requests[0].body)["documents"] == ["a"]


async def test_the_reranker_gets_the_gates_credential_and_never_the_callers(gate):
    token = gate.token()
    await gate.post("/v2/rerank", call(["a"]), {"cookie": "s=1", "x-api-key": "k", "x-user": MAIL}, token=token)
    (sent,) = gate.upstream.requests
    assert sent.values("authorization") == [f"Bearer {gate.credential}"]
    assert token.encode() not in sent.raw
    for name in ("cookie", "x-api-key", "x-user", "x-forwarded-for", "x-envoy-internal"):
        assert sent.values(name) == []
    assert sent.values("accept-encoding") == ["identity"]


@pytest.mark.parametrize(
    "headers",
    [
        {"x-rankgate-decision-id": "forged"},
        {"X-RankGate-Subject": "admin"},
        {"x-rankgate-lease": "a, b"},
        {"x-envoy-original-path": "/admin", "x-forwarded-client-cert": "By=x"},
    ],
)
async def test_scenario_27_internal_headers_of_a_caller_reach_nobody(gate, headers):
    answer = await gate.post("/v2/rerank", call(["a"]), headers)
    assert answer.status == 200
    sent = gate.upstream.requests[0]
    assert not {name for name, _ in sent.headers if name.startswith(("x-rankgate", "x-envoy", "x-forwarded"))}
    assert answer.headers["x-rankgate-decision-id"].startswith("dec-")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"x-note: \xff\xfe\r\n", 400),
        (b"user-agent: caf\xc3\xa9\r\n", 400),
        (b"authorization: Bearer \xff\r\n", (400, 401)),
    ],
)
async def test_scenario_32_header_values_that_are_not_ascii_are_refused_and_recorded(gate, raw, expected):
    body = json.dumps(call(["a"])).encode()
    head = b"POST /v2/rerank HTTP/1.1\r\nhost: gate\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % len(
        body
    )
    if not raw.startswith(b"authorization"):
        head += b"authorization: Bearer %s\r\n" % gate.token().encode()
    answer = await gate.raw(head + raw + b"\r\n" + body)
    status = int(answer.split(b" ", 2)[1])
    assert status in ((expected,) if isinstance(expected, int) else expected)
    assert gate.upstream.requests == []


async def test_scenario_29_two_credentials_are_never_one(gate):
    body = json.dumps(call(["a"])).encode()
    token = gate.token().encode()
    for lines in (
        b"authorization: Bearer %s\r\nauthorization: Bearer %s\r\n" % (token, token),
        b"authorization: Bearer %s, Bearer %s\r\n" % (token, token),
        b"authorization: Bearer  %s\r\n" % token,
        b"authorization: Basic Zm9vOmJhcg==\r\n",
        b"authorization: Bearer%s\r\n" % token,
    ):
        head = b"POST /v2/rerank HTTP/1.1\r\nhost: g\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % len(
            body
        )
        answer = await gate.raw(head + lines + b"\r\n" + body)
        assert answer.split(b" ", 2)[1] in {b"400", b"401"}, lines
    assert gate.upstream.requests == []


async def test_a_scheme_in_any_case_is_accepted(gate):
    answer = await gate.post("/v2/rerank", call(["a"]), {"authorization": f"bEaReR {gate.token()}"}, token=None)
    assert answer.status == 200


# -- refused before the reranker sees anything ------------------------------------------------------------------------


GOOD = json.dumps({"model": "m", "query": "q", "documents": ["a"]})
REFUSED = [
    ("38 gzip", gzip.compress(GOOD.encode()), {"content-encoding": "gzip"}, 415),
    ("38 br", GOOD.encode(), {"content-encoding": "br"}, 415),
    ("38 double", GOOD.encode(), {"content-encoding": "gzip, gzip"}, 415),
    ("38 unknown", GOOD.encode(), {"content-encoding": "snappy"}, 415),
    ("39 utf-16", GOOD.encode("utf-16"), {}, 400),
    ("39 utf-16 charset", GOOD.encode("utf-16"), {"content-type": "application/json; charset=utf-16"}, 415),
    ("39 utf-7", GOOD.encode(), {"content-type": "application/json; charset=utf-7"}, 415),
    ("39 bom", b"\xef\xbb\xbf" + GOOD.encode(), {}, 400),
    ("39 multipart", GOOD.encode(), {"content-type": "multipart/form-data; boundary=x"}, 415),
    ("39 ndjson", GOOD.encode() + b"\n" + GOOD.encode(), {}, 400),
    ("40 duplicate", b'{"model":"m","query":"q","query":"r","documents":["a"]}', {}, 400),
    ("40 escaped duplicate", b'{"model":"m","query":"q","qu\\u0065ry":"r","documents":["a"]}', {}, 400),
    ("41 nan", b'{"model":"m","query":"q","documents":["a"],"x":NaN}', {}, 400),
    ("41 digits", b'{"model":"m","query":"q","documents":["a"],"x":' + b"9" * 10_000 + b"}", {}, 400),
    ("41 surrogate", b'{"model":"m","query":"\\ud800","documents":["a"]}', {}, 400),
    ("41 deep", b'{"model":"m","query":"q","documents":["a"],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", {}, 400),
    ("42 key", json.dumps({"query": "q", "documents": ["a"], MAIL: 1}).encode(), {}, 422),
    ("42 number", b'{"query":"q","documents":["a"],"x":4111111111111111}', {}, 422),
]  # fmt: skip


@pytest.mark.parametrize(("body", "headers", "status"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_scenario_38_to_42_a_body_that_cannot_be_inspected_is_refused(gate, body, headers, status):
    answer = await gate.post("/v2/rerank", body, headers)
    assert answer.status == status
    assert "message" in answer.json
    assert answer.headers["x-rankgate-decision-id"] in answer.json["message"]
    assert gate.upstream.requests == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/rerank", 405), ("DELETE", "/v2/rerank", 405), ("POST", "/v2/rerank?debug=1", 400),
        ("POST", "/v2/rerank?trace=a&trace2=b", 400), ("POST", "/v2/rerank?trace=maren.oldfield%40example.org", 400),
        ("POST", "/v1/score", 404), ("POST", "/", 404), ("POST", "/V2/rerank", 404), ("POST", "/v2/rerank/", 404),
    ],
)  # fmt: skip
async def test_other_methods_paths_and_parameters_are_refused_and_recorded(gate, method, path, status):
    answer = await gate.request(method, path, GOOD.encode())
    assert answer.status == status
    receipt = answer.headers["x-rankgate-decision-id"]
    (event,) = [one for one in await gate.decisions() if one["body"]["metadata"]["correlation_uid"] == receipt]
    assert event["body"]["action_id"] == 2
    assert "maren" not in json.dumps(event)
    assert gate.upstream.requests == []


async def test_a_listed_query_parameter_passes(gate):
    assert (await gate.post("/v2/rerank?trace=a1", GOOD.encode())).status == 200
    assert gate.upstream.requests[0].target == "/v2/rerank?trace=a1"


async def test_scenario_36_a_body_over_our_limit_is_a_native_413_with_identity_and_record(gate):
    answer = await gate.post("/v2/rerank", json.dumps({"query": "q", "documents": ["x" * 2_200_000]}).encode())
    assert answer.status == 413
    assert set(answer.json) == {"id", "message"}
    (event,) = [
        one for one in await gate.decisions()
        if one["body"]["metadata"]["correlation_uid"] == answer.headers["x-rankgate-decision-id"]
    ]  # fmt: skip
    assert event["subject"] == "search"
    assert gate.upstream.requests == []


# -- documents dropped, answers mapped back ---------------------------------------------------------------------------


async def test_dropped_documents_are_never_sent_and_every_index_is_the_callers(gate):
    documents = [
        {"id": "a", "text": "one"},
        {"id": "hidden", "text": "secret plans"},
        {"id": "b", "text": "find it"},
        {"id": "hidden", "text": "more secret plans"},
    ]
    answer = await gate.post(
        "/v1/rerank", {"query": "find", "documents": documents, "top_n": 2, "return_documents": True}
    )
    (sent,) = gate.upstream.requests
    assert b"secret" not in sent.raw
    assert [document["id"] for document in sent.json["documents"]] == ["a", "b"]
    assert [(r["index"], r["document"]["text"]) for r in answer.json["results"]] == [(2, "find it"), (0, "one")]


async def test_a_caller_that_expects_all_documents_gets_the_dropped_ones_last_without_text(gate):
    documents = [{"id": "hidden", "text": "secret"}, {"id": "a", "text": "find"}]
    answer = await gate.post("/v1/rerank", {"query": "find", "documents": documents})
    assert [result["index"] for result in answer.json["results"]] == [1, 0]
    assert answer.json["results"][1]["relevance_score"] <= answer.json["results"][0]["relevance_score"]
    assert b"secret" not in answer.body


# -- towards the caller -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        Script(
            body=b'{"results":[{"index":0,"relevance_score":0.5,"document":{"text":"to maren.oldfield@example.org"}}]}'
        ),
        Script(body=b'{"results":[],"meta":{"warnings":["saw maren.oldfield@example.org"]}}'),
        Script(body=b'{"results":[],"m":"\\u006daren.oldfield\\u0040example.org"}'),
        Script(status=422, body=b'{"detail":[{"input":"maren.oldfield@example.org"}]}'),
        Script(status=500, body=b"failed at maren.oldfield@example.org", content_type="text/plain"),
        Script(headers=(("x-request-id", "maren.oldfield@example.org"), ("x-debug", "maren.oldfield@example.org"))),
        Script(headers=(("set-cookie", "u=maren.oldfield@example.org"), ("server", "maren.oldfield@example.org"))),
        Script(trailers=(("x-note", "maren.oldfield@example.org"),)),
    ],
    ids=["echo", "warning", "escaped", "422", "500", "listed header", "other header", "trailer"],
)
async def test_scenario_44_nothing_the_reranker_says_carries_a_value_to_the_caller(gate, script):
    gate.upstream.script = script
    answer = await gate.post("/v2/rerank", {"model": "m", "query": "q", "documents": ["a"]})
    assert answer.status == script.status
    assert "maren" not in repr(answer)


@pytest.mark.parametrize(
    "script",
    [
        Script(gzip=True),
        Script(body=b"<html>maren.oldfield@example.org</html>", content_type="text/html"),
        Script(body=b"maren.oldfield@example.org"),
        Script(body=b'{"anything":"else"}'),
        Script(body=b'{"results":[{"index":7,"relevance_score":0.5}]}'),
        Script(status=204, body=b""),
        Script(status=302, headers=(("location", "http://elsewhere/"),), body=b""),
        Script(status=401, headers=(("www-authenticate", "Bearer"),), body=b"{}"),
        Script(status=403, body=b"{}"),
    ],
    ids=["gzip", "html", "no json", "no results", "index", "204", "302", "401", "403"],
)
async def test_scenario_44_an_answer_that_cannot_be_inspected_is_502_in_the_callers_dialect(gate, script):
    gate.upstream.script = script
    answer = await gate.post("/v2/rerank", {"model": "m", "query": "q", "documents": ["a"]})
    assert answer.status == 502
    assert answer.headers["x-rankgate-decision-id"] in answer.json["message"]
    assert "maren" not in repr(answer)
    assert not {"location", "www-authenticate", "content-encoding"} & set(answer.headers)


async def test_scenario_26_the_lent_credential_shows_nowhere(gate):
    for script in (
        Script(status=400, body=f"key {gate.credential} unknown".encode()),
        Script(status=400, body=json.dumps({"message": f"Bearer {gate.credential}"}).encode()),
        Script(headers=(("retry-after", gate.credential), ("authorization", f"Bearer {gate.credential}"))),
    ):
        gate.upstream.script = script
        answer = await gate.post("/v2/rerank", {"model": "m", "query": "q", "documents": ["a"]})
        assert gate.credential not in repr(answer)
    assert gate.credential not in json.dumps(await gate.events())
    assert gate.credential not in gate.logs()


async def test_scenario_44_a_wrong_length_from_the_reranker_passes_nothing_through(gate):
    for length in ("5", "500"):
        gate.upstream.script = Script(headers=(("content-length", length),), drop=False, body=b'{"results":[]}')
        answer = await gate.raw(
            b"POST /v2/rerank HTTP/1.1\r\nhost: g\r\nauthorization: Bearer %s\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%s" % (gate.token().encode(), len(GOOD), GOOD.encode()),
            within_s=1.0,
        )  # fmt: skip
        assert not answer.startswith(b"HTTP/1.1 200")
