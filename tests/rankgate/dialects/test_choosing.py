"""rankgate.dialects.choosing: setting, then path, then body; disagreement is refused."""

from __future__ import annotations

import json

import pytest

from rankgate import dialects, jsontext
from rankgate.errors import GateError, Reason

TEXTS = {"query": "q", "texts": ["a"]}
DOCUMENTS = {"query": "q", "documents": ["a"]}


def choose(configured, path, body):
    return dialects.choose(configured, path, jsontext.parse(json.dumps(body).encode())).name


def unknown(call, *args):
    with pytest.raises(GateError) as caught:
        call(*args)
    assert caught.value.reason is Reason.DIALECT_UNKNOWN


@pytest.mark.parametrize("name", dialects.NAMES)
@pytest.mark.parametrize("body", [TEXTS, DOCUMENTS, [], {}])
def test_the_setting_decides_over_path_and_body(name, body):
    assert choose(name, "/v2/rerank", body) == name
    assert dialects.for_path(name, "/v2/rerank").name == name


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        ("/v1/rerank", DOCUMENTS, "cohere.v1"),
        ("/v2/rerank", DOCUMENTS, "cohere.v2"),
        ("/rerank", DOCUMENTS, "generic"),
        ("/rerank", TEXTS, "tei"),
        ("/", TEXTS, "tei"),
        ("/gateway/v1/rerank", DOCUMENTS, "cohere.v1"),
        ("/gateway/v2/rerank", DOCUMENTS, "cohere.v2"),
        ("/av1/rerank", DOCUMENTS, "generic"),
        ("/v1/rerank", DOCUMENTS | {"rank_fields": ["text"], "max_chunks_per_doc": 1, "user": "u"}, "cohere.v1"),
        ("/v1/rerank", TEXTS, "tei"),
        ("/v1/rerank", DOCUMENTS | {"top_k": 3}, "generic"),
        ("/v1/rerank", DOCUMENTS | {"truncate_prompt_tokens": 3}, "generic"),
        ("/v1/rerank", DOCUMENTS | {"overlap_tokens": 3, "max_chunks_per_doc": 2}, "generic"),
    ],
)
def test_path_and_body_decide_together(path, body, name):
    assert choose("auto", path, body) == name


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
@pytest.mark.parametrize("body", [{}, {"query": "q"}, TEXTS | DOCUMENTS, [], ["texts"], "documents", 1, None])
def test_a_body_of_no_api_or_of_two_is_refused(path, body):
    unknown(choose, "auto", path, body)


def test_a_path_and_a_body_that_disagree_are_refused():
    unknown(choose, "auto", "/v2/rerank", TEXTS)


def test_a_name_of_no_dialect_is_refused():
    unknown(choose, "jina", "/v1/rerank", DOCUMENTS)
    unknown(dialects.for_path, "jina", "/v1/rerank")
    unknown(dialects.by_name, "auto")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/rerank", "cohere.v1"),
        ("/v2/rerank", "cohere.v2"),
        ("/rerank", "generic"),
        ("", "generic"),
        ("/x", "generic"),
    ],
)
def test_a_path_alone_shapes_a_refusal(path, name):
    assert dialects.for_path("auto", path).name == name


def test_every_dialect_a_route_may_name_exists():
    from rankgate.settings import RouteSettings

    settable = RouteSettings.model_json_schema()["properties"]["dialect"]["enum"]
    assert set(settable) == {"auto", *dialects.NAMES}
