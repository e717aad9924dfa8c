from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankgate.detect import Finding
from rankgate.errors import GateError, Reason
from rankgate.identity import Principal
from rankgate.policy import OPT_INS, build_question, encode_question
from rankgate.policy.sample import sample_question
from rankgate.request import HttpRequest, RerankRequest, Role, Text

SCHEMA = json.loads((Path(__file__).parents[3] / "policies" / "schemas" / "question.json").read_text("utf-8"))

CALLER = Principal(
    issuer="https://issuer.example",
    subject="search-svc",
    tenant="acme",
    groups=("search", "eu"),
    scopes=("rerank",),
    claims={"sub": "search-svc", "nested": {"team": "a"}},
    expires=1_700_000_300,
)
HTTP = HttpRequest(
    id="r-1",
    method="POST",
    path="/v2/rerank",
    query="",
    host="gate.example",
    scheme="https",
    protocol="HTTP/2",
    headers=(("content-type", b"application/json"), ("x-a", b"1"), ("x-a", b"2")),
    body=b'{"model":"m"}',
    route="cohere-v2",
    source_address="192.0.2.7:1234",
)
RERANK = RerankRequest(
    dialect="cohere.v2",
    revision=1,
    operation="rerank",
    model="rerank-v3",
    query="where?",
    instruction=None,
    document_count=3,
    texts=(
        Text(0, Role.OTHER, "rerank-v3", 0, 0),
        Text(1, Role.QUERY, "where?", 0, 0),
        Text(2, Role.DOCUMENT, "title", 0, 0, 0),
        Text(3, Role.DOCUMENT, "body", 0, 0, 0),
        Text(4, Role.DOCUMENT, "é😀", 0, 0, 2),
    ),
    top_n=None,
    return_documents=False,
    ids=("d-0", None, "d-2"),
    labels=(("public", "eu"), (), ("eu",)),
)


def question(http=HTTP, request: RerankRequest | None = RERANK, findings=None, **changes):
    usual = {"upstream": "reranker.example", "now": 1_700_000_000.25, "opt_ins": ()}
    return build_question(http, CALLER, request, findings or {}, **(usual | changes))


def found(*types: str) -> tuple[Finding, ...]:
    return tuple(Finding(kind, 0, 1, 1.0) for kind in types)


def test_the_columns_of_a_rerank_call() -> None:
    assert question()["rerank"] == {
        "dialect": "cohere.v2",
        "operation": "rerank",
        "model": "rerank-v3",
        "query": "where?",
        "query_chars": 6,
        "document_count": 3,
        "total_chars": 9 + 6 + 5 + 4 + 2,
        "doc_chars": [9, 0, 2],
        "return_documents": False,
        "labels": {},
        "advisory_labels": {"public": [0], "eu": [0, 2]},
        "ids": ["d-0", None, "d-2"],
    }


def test_what_is_not_known_is_absent_because_null_is_true_under_not() -> None:
    bare = question(request=replace(RERANK, model=None))["rerank"]
    assert not {"model", "instruction", "top_n"} & bare.keys()
    assert "rerank" not in question(request=None)


def test_the_identity_is_the_verified_caller() -> None:
    assert question()["identity"] == {
        "issuer": "https://issuer.example",
        "subject": "search-svc",
        "tenant": "acme",
        "groups": ["search", "eu"],
        "scopes": ["rerank"],
        "claims": {"sub": "search-svc", "nested": {"team": "a"}},
        "kind": "service",
        "bound": False,
    }


def test_findings_are_counted_by_type_and_place_and_never_quoted() -> None:
    asked = question(
        findings={1: found("EMAIL", "EMAIL", "PHONE"), 2: found("EMAIL"), 3: found("IBAN"), 0: found("JWT")}
    )
    assert asked["findings"] == {
        "total": 6,
        "by_type": {"EMAIL": 3, "PHONE": 1, "IBAN": 1, "JWT": 1},
        "query": {"EMAIL": 2, "PHONE": 1},
        "by_document": {"0": {"EMAIL": 1, "IBAN": 1}},
    }


def test_a_finding_counts_under_every_type_merged_into_it_and_once_in_all() -> None:
    merged = Finding("URL_CREDENTIALS", 0, 9, 1.0, ("EMAIL_ADDRESS", "API_KEY"))
    asked = question(findings={1: (merged, *found("EMAIL_ADDRESS")), 3: (merged,)})
    assert asked["findings"] == {
        "total": 3,
        "by_type": {"URL_CREDENTIALS": 2, "EMAIL_ADDRESS": 3, "API_KEY": 2},
        "query": {"URL_CREDENTIALS": 1, "EMAIL_ADDRESS": 2, "API_KEY": 1},
        "by_document": {"0": {"URL_CREDENTIALS": 1, "EMAIL_ADDRESS": 1, "API_KEY": 1}},
    }


def test_findings_without_a_rerank_call_are_still_counted() -> None:
    assert question(request=None, findings={0: found("EMAIL"), 5: ()})["findings"]["total"] == 1


def test_time_is_given_twice_and_is_the_only_clock() -> None:
    assert question()["time"] == {"rfc3339": "2023-11-14T22:13:20.250000Z", "ns": 1_700_000_000_250_000_000}


def test_attributes_have_opa_envoy_plugins_shape() -> None:
    http = replace(
        HTTP,
        query="a=1",
        attributes={
            "source": {"address": {"socketAddress": {"address": "192.0.2.7", "portValue": 1234}}},
            "request": {"time": {"seconds": 5, "nanos": 6}},
        },
    )
    asked = question(http)
    assert asked["version"] == {"ext_authz": "v3", "encoding": "protojson"}
    assert asked["attributes"] == {
        "source": {"address": {"socketAddress": {"address": "192.0.2.7", "portValue": 1234}}},
        "request": {
            "time": {"seconds": 5, "nanos": 6},
            "http": {
                "id": "r-1",
                "method": "POST",
                "headers": {"content-type": "application/json", "x-a": "1,2"},
                "path": "/v2/rerank?a=1",
                "host": "gate.example",
                "scheme": "https",
                "protocol": "HTTP/2",
                "size": 13,
            },
        },
    }


def test_empty_fields_are_absent_as_in_protojson() -> None:
    fields = question(replace(HTTP, scheme="", body=b"", headers=()))["attributes"]["request"]["http"]
    assert fields.keys() == {"id", "method", "headers", "path", "host", "protocol"}


@pytest.mark.parametrize(
    "name",
    [
        "authorization", "Authorization", "proxy-authorization", "cookie", "dpop", "api-key", "x-api-key",
        "X-Goog-Api-Key", "apikey", "x-auth-token", "x-amz-security-token", "ocp-apim-subscription-key",
    ],
)  # fmt: skip
def test_no_credential_enters_the_question(name: str) -> None:
    http = replace(
        HTTP,
        headers=((name, b"hush-hush"),),
        attributes={"request": {"http": {"headers": {"a": "hush-hush"}, "rawBody": "hush-hush"}}},
    )
    asked = question(http)
    assert "hush-hush" not in json.dumps(asked)
    assert asked["attributes"]["request"]["http"]["headers"] == {}


def test_the_given_attributes_stay_as_they_are() -> None:
    attributes: dict[str, object] = {"request": {"time": {"seconds": 5}}}
    question(replace(HTTP, attributes=attributes))
    assert attributes == {"request": {"time": {"seconds": 5}}}


def test_header_bytes_that_are_no_utf8_stay_apart_from_others() -> None:
    http = replace(HTTP, headers=(("x-a", b"caf\xe9"), ("x-b", "café".encode())))
    assert question(http)["attributes"]["request"]["http"]["headers"] == {"x-a": "caf\\xe9", "x-b": "café"}


class TestOptIns:
    def test_none_is_in_by_default(self) -> None:
        asked = question()
        assert not {"parsed_body", "truncated_body"} & asked.keys()
        assert "documents_text" not in asked["rerank"]
        assert "rawBody" not in asked["attributes"]["request"]["http"]

    def test_documents_text(self) -> None:
        assert question(opt_ins=("documents_text",))["rerank"]["documents_text"] == [["title", "body"], [], ["é😀"]]

    def test_parsed_body(self) -> None:
        asked = question(opt_ins=("parsed_body",))
        assert (asked["parsed_body"], asked["truncated_body"]) == ({"model": "m"}, False)

    @pytest.mark.parametrize("body", [b"", b"{", b'{"a":1,"a":2}', b'{"a":NaN}', b"\xff", b"[" * 100_000])
    def test_a_body_that_is_not_strict_json_is_refused(self, body: bytes) -> None:
        with pytest.raises(GateError) as refused:
            question(replace(HTTP, body=body), opt_ins=("parsed_body",))
        assert refused.value.reason is Reason.BODY_INVALID

    def test_raw_body(self) -> None:
        raw = question(opt_ins=("raw_body",))["attributes"]["request"]["http"]["rawBody"]
        assert base64.b64decode(raw) == HTTP.body

    def test_authorization_alone_of_all_credentials(self) -> None:
        http = replace(HTTP, headers=(("authorization", b"Bearer t"), ("cookie", b"c"), ("x-api-key", b"k")))
        headers = question(http, opt_ins=("authorization",))["attributes"]["request"]["http"]["headers"]
        assert headers == {"authorization": "Bearer t"}

    def test_an_unknown_one_is_a_mistake(self) -> None:
        with pytest.raises(ValueError, match="unknown opt-ins: everything"):
            question(opt_ins=("everything",))


class TestEncoding:
    @pytest.mark.parametrize("value", [2**64, -(2**63) - 1, float("nan"), float("-inf"), "\ud800", object()])
    def test_what_engines_would_read_differently_is_refused(self, value: object) -> None:
        with pytest.raises(GateError) as refused:
            encode_question({"a": [{"b": value}]})
        assert refused.value.reason is Reason.BODY_INVALID

    @pytest.mark.parametrize("value", [2**64 - 1, -(2**63), 0.1, "9" * 40, "\x00", "\u2028", None, True])
    def test_everything_else_survives(self, value: object) -> None:
        assert json.loads(encode_question({"a": value})) == {"a": value}

    def test_a_question_that_contains_itself_is_refused(self) -> None:
        endless: dict[str, object] = {}
        endless["a"] = endless
        with pytest.raises(GateError):
            encode_question(endless)


@pytest.mark.parametrize(
    "asked",
    [question(), question(opt_ins=OPT_INS), question(request=None), sample_question()],
    ids=["plain", "opt-ins", "no rerank call", "sample"],
)
def test_questions_keep_the_shipped_schema(asked: dict) -> None:
    jsonschema.validate(asked, SCHEMA)


def test_the_schema_knows_every_member_and_no_other() -> None:
    asked = question(opt_ins=OPT_INS)
    assert asked.keys() == SCHEMA["properties"].keys()
    for part in ("identity", "rerank", "findings", "time", "version"):
        assert asked[part].keys() | {"top_n", "instruction"} >= SCHEMA["properties"][part]["properties"].keys()


TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)


@given(query=TEXTS, model=TEXTS, ids=st.lists(st.none() | TEXTS, max_size=3))
def test_whatever_the_caller_writes_the_question_says_exactly_that(query: str, model: str, ids: list) -> None:
    request = replace(RERANK, query=query, model=model, ids=tuple(ids))
    read = json.loads(encode_question(question(request=request)))["rerank"]
    assert (read["query"], read["model"], read["ids"]) == (query, model, ids)


def test_a_query_that_is_paired_with_a_document_is_no_part_of_it() -> None:
    paired = replace(
        RERANK,
        operation="score",
        query="one\ntwo",
        document_count=2,
        texts=(
            Text(0, Role.QUERY, "one", 0, 5, 0),
            Text(1, Role.QUERY, "two", 6, 11, 1),
            Text(2, Role.DOCUMENT, "a", 12, 15, 0),
            Text(3, Role.DOCUMENT, "bc", 16, 20, 1),
        ),
        ids=(),
        labels=(),
    )
    asked = question(request=paired, findings={1: found("EMAIL_ADDRESS")}, opt_ins=("documents_text",))
    assert asked["rerank"]["doc_chars"] == [1, 2]
    assert asked["rerank"]["documents_text"] == [["a"], ["bc"]]
    assert (asked["findings"]["query"], asked["findings"]["by_document"]) == ({"EMAIL_ADDRESS": 1}, {})
