"""rankgate.dialects.forms: text passes in every form an API knows, and nothing else does."""

from __future__ import annotations

import json

import pytest
from speaking import call, shape

from rankgate import dialects, jsontext
from rankgate.errors import GateError, Reason
from rankgate.request import Role

CANARY = "canary-7731"
EVERY = pytest.mark.parametrize("name", dialects.NAMES)
SAYS = "text: images, audio, video, token ids and embeddings cannot be inspected"
TEXT = {"type": "text", "text": "t"}
IMAGE = {"type": "image_url", "image_url": {"url": f"https://img.example.org/{CANARY}.png"}}

OPAQUE = {
    "an image beside text": {"content": [TEXT, IMAGE]},
    "an image alone": {"content": [IMAGE]},
    "an image without its type": {"content": [{"image_url": {"url": CANARY}}]},
    "video": {"content": [{"type": "video_url", "video_url": {"url": CANARY}}]},
    "audio": {"content": [{"type": "input_audio", "input_audio": {"data": CANARY}}]},
    "embeddings": {"content": [{"type": "image_embeds", "image_embeds": CANARY}]},
    "a part of another name": {"content": [{"type": CANARY, "text": "t"}]},
    "more in a text part": {"content": [TEXT | {"image_url": CANARY}]},
}
# In these an API of any objects reads members of a document like any others.
OPAQUE_MEMBERS = {
    "a picture": {"image": f"data:image/png;base64,{CANARY}"},
    "a picture with text": {"text": "t", "image": CANARY},
    "token ids by name": {"prompt_token_ids": [1, 2]},
}


def read(name, body):
    return dialects.by_name(name).read(jsontext.parse(json.dumps(body).encode()))


def refusal(name, body) -> str:
    with pytest.raises(GateError) as caught:
        read(name, body)
    assert caught.value.reason is Reason.BODY_INVALID
    assert CANARY not in caught.value.public + caught.value.detail
    return caught.value.public


@EVERY
@pytest.mark.parametrize("opaque", OPAQUE.values(), ids=OPAQUE)
def test_content_that_is_no_text_is_refused_everywhere(name, opaque):
    assert refusal(name, call(name, ["a", opaque])) == f"field '{shape(name).documents}' must be {SAYS}"
    assert refusal(name, call(name, query=opaque)) == f"field '{shape(name).query}' must be {SAYS}"
    if shape(name).single:
        assert refusal(name, call(name) | {shape(name).documents: opaque}).endswith(SAYS)


@pytest.mark.parametrize("name", [n for n in dialects.NAMES if not n.startswith(("cohere", "generic"))])
@pytest.mark.parametrize("opaque", OPAQUE_MEMBERS.values(), ids=OPAQUE_MEMBERS)
def test_members_that_are_no_text_are_refused_where_an_engine_reads_them(name, opaque):
    assert refusal(name, call(name, ["a", opaque])) == f"field '{shape(name).documents}' must be {SAYS}"
    assert refusal(name, call(name, query=opaque)) == f"field '{shape(name).query}' must be {SAYS}"


@EVERY
@pytest.mark.parametrize("ids", [[1, 2, 3], [0.5, -1.0]], ids=["token ids", "an embedding"])
def test_numbers_in_place_of_a_text_are_refused(name, ids):
    assert refusal(name, call(name, ["a", ids])) == f"field '{shape(name).documents}' must be {SAYS}"
    assert refusal(name, call(name, query=ids)) == f"field '{shape(name).query}' must be {SAYS}"
    assert refusal(name, call(name) | {shape(name).documents: ids})


@pytest.mark.parametrize("name", ["jina", "nvidia.ranking", "vllm.rerank", "vllm.score"])
@pytest.mark.parametrize(
    "document",
    [
        {},
        {"text": None},
        {"text": [CANARY]},
        {"text": "t", "Text": CANARY},
        {"text": "t", "url": CANARY},
        {"text": "t", "content": [TEXT]},
        {"content": CANARY},
        {"content": []},
        {"content": [CANARY]},
        {"content": None},
        {"content": [TEXT], "title": CANARY},
    ],
)
def test_an_object_with_members_that_an_engine_might_read_is_refused(name, document):
    refusal(name, call(name, ["a", document]))


@pytest.mark.parametrize("name", ["jina", "nvidia.ranking"])
def test_an_object_with_a_text_may_have_an_id_and_labels(name):
    got = read(name, call(name, [{"id": "d0", "labels": ["a"], "text": "x"}, {"text": ""}], query={"text": "q"}))
    assert (got.query, got.ids, got.labels) == ("q", ("d0", None), (("a",), ()))
    assert [text.value for text in got.of_document(0)] == ["d0", "a", "x"]


@pytest.mark.parametrize("name", ["vllm.rerank", "vllm.score"])
def test_one_document_may_stand_without_an_array(name):
    for document in ("x", {"content": [{"text": "x", "type": "text"}]}):
        body = call(name) | {shape(name).documents: document}
        got = read(name, body)
        assert got.document_count == 1
        assert [text.value for text in got.of_document(0)] == ["x"]
        json_text = jsontext.parse(json.dumps(body).encode())
        assert dialects.by_name(name).drop(json_text, got, [0]) == []


@pytest.mark.parametrize(
    "sides", [("queries", "documents"), ("queries", "items"), ("text_1", "text_2"), ("data_1", "data_2")]
)
def test_scores_are_asked_for_under_four_pairs_of_names(sides):
    query, documents = sides
    got = read("vllm.score", {query: ["q0", "q1"], documents: ["a", "b"]})
    assert (got.operation, got.query, got.document_count) == ("score", "q0\nq1", 2)
    assert [(text.role, text.position) for text in got.texts] == [
        (Role.QUERY, 0), (Role.QUERY, 1), (Role.DOCUMENT, 0), (Role.DOCUMENT, 1),
    ]  # fmt: skip
    assert read("vllm.score", {query: "q", documents: "a"}).document_count == 1
    one = read("vllm.score", {query: ["q"], documents: ["a", "b"]})
    assert [text.position for text in one.texts if text.role is Role.QUERY] == [None]


@pytest.mark.parametrize(("queries", "documents"), [(2, 1), (2, 3), (3, 2)])
def test_queries_that_fit_no_documents_are_refused(queries, documents):
    says = refusal("vllm.score", {"queries": ["q"] * queries, "documents": ["d"] * documents})
    assert says.endswith("or an array with one for each of 'documents'")


@pytest.mark.parametrize(
    "body",
    [
        {"queries": "q", "text_2": ["a"]},
        {"text_1": "q", "documents": ["a"]},
        {"queries": "q", "documents": ["a"], "items": ["b"]},
        {"text_1": "q", "text_2": ["a"], "data_2": ["b"]},
        {"query": "q", "documents": ["a"]},
        {"query": "q", "items": ["a"]},
    ],
)
def test_sides_of_two_pairs_are_refused(body):
    refusal("vllm.score", body)
