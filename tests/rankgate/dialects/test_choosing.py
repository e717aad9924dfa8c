"""rankgate.dialects.choosing: setting, then path, then body; disagreement is refused."""

from __future__ import annotations

import json

import pytest

from rankgate import dialects, jsontext
from rankgate.errors import GateError, Reason

TEXTS = {"query": "q", "texts": ["a"]}
DOCUMENTS = {"query": "q", "documents": ["a"]}
PASSAGES = {"query": {"text": "q"}, "passages": [{"text": "a"}]}
PARTS = {"content": [{"type": "text", "text": "a"}]}
SCORE = {"queries": "q", "documents": ["a"]}


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
        ("/v1/rerank", DOCUMENTS | {"top_k": None}, "voyage"),
        ("/rerank", DOCUMENTS | {"top_k": 3, "truncation": True}, "voyage"),
        ("/v1/rerank", DOCUMENTS | {"truncate_prompt_tokens": 3}, "vllm.rerank"),
        ("/rerank", DOCUMENTS | {"mm_processor_kwargs": {}, "instruction": "i"}, "vllm.rerank"),
        ("/v1/rerank", {"query": "q", "documents": ["a", PARTS]}, "vllm.rerank"),
        ("/rerank", {"query": "q", "documents": PARTS}, "vllm.rerank"),
        ("/rerank", {"query": PARTS, "documents": ["a"]}, "vllm.rerank"),
        ("/v1/rerank", DOCUMENTS | {"overlap_tokens": 3, "max_chunks_per_doc": 2}, "generic"),
        ("/v1/rerank", DOCUMENTS | {"instruction": "i"}, "generic"),
        ("/v1/rerank", DOCUMENTS | {"raw_scores": True, "return_len": False}, "generic"),
        ("/v2/rerank", DOCUMENTS | {"instruction": "i", "raw_scores": True}, "cohere.v2"),
        ("/v1/ranking", PASSAGES, "nvidia.ranking"),
        ("/v1/retrieval/nvidia/reranker-1b/reranking", PASSAGES, "nvidia.ranking"),
        ("/rerank", PASSAGES, "nvidia.ranking"),
        ("/v1/rerank", PASSAGES, "nvidia.ranking"),
        ("/score", SCORE, "vllm.score"),
        ("/v1/score", {"text_1": "q", "text_2": ["a"]}, "vllm.score"),
        ("/ranking", DOCUMENTS, "generic"),
        ("/v1/models/reranking", DOCUMENTS, "generic"),
        ("/underscore", DOCUMENTS, "generic"),
    ],
)
def test_path_and_body_decide_together(path, body, name):
    assert choose("auto", path, body) == name


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
@pytest.mark.parametrize("body", [{}, {"query": "q"}, TEXTS | DOCUMENTS, [], ["texts"], "documents", 1, None])
def test_a_body_of_no_api_or_of_two_is_refused(path, body):
    unknown(choose, "auto", path, body)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/rerank", TEXTS),
        ("/v2/rerank", PASSAGES),
        ("/v2/rerank", DOCUMENTS | {"top_k": 3}),
        ("/v2/rerank", DOCUMENTS | {"truncate_prompt_tokens": 3}),
        ("/v2/rerank", {"query": "q", "documents": [PARTS]}),
        ("/v1/ranking", DOCUMENTS),
        ("/v1/ranking", TEXTS),
        ("/v1/ranking", DOCUMENTS | {"top_k": 3}),
    ],
)
def test_a_path_and_a_body_that_disagree_are_refused(path, body):
    unknown(choose, "auto", path, body)


@pytest.mark.parametrize(
    "body",
    [
        DOCUMENTS | {"top_k": 1, "truncate_prompt_tokens": 3},
        DOCUMENTS | {"top_k": 1, "instruct": "i"},
        DOCUMENTS | {"mm_processor_kwargs": {}, "overlap_tokens": 1},
        {"query": PARTS, "documents": ["a"], "top_k": 1},
        TEXTS | PASSAGES,
        DOCUMENTS | PASSAGES,
    ],
)
@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_members_of_two_apis_are_refused(path, body):
    unknown(choose, "auto", path, body)


@pytest.mark.parametrize("body", [[], "texts", None, SCORE | {"label_token_ids": [1]}, SCORE | {"item_first": True}])
@pytest.mark.parametrize("path", ["/score", "/v1/score"])
def test_scores_of_another_engine_are_refused(path, body):
    unknown(choose, "auto", path, body)


def test_a_name_of_no_dialect_is_refused():
    unknown(choose, "elastic", "/v1/rerank", DOCUMENTS)
    unknown(dialects.for_path, "elastic", "/v1/rerank")
    unknown(dialects.by_name, "auto")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/rerank", "cohere.v1"),
        ("/v2/rerank", "cohere.v2"),
        ("/v1/ranking", "nvidia.ranking"),
        ("/score", "vllm.score"),
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
