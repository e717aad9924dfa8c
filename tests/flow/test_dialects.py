"""Dialects that no client here speaks in full, through a real gate."""

from __future__ import annotations

import json

import pytest
import pytest_asyncio
from flow.gate import Gate
from flow.upstream import Exchanged, Script

POLICY = """
package rankgate

import rego.v1

decision := {"allowed": input.rerank.operation == "score", "rankgate": {"documents": {"drop": [1]}}}
"""
ROUTES = [
    {"name": "score", "path": "/score"},
    {"name": "vllm", "path": "/vllm/rerank", "dialect": "vllm.rerank"},
    {"name": "voyage", "path": "/v1/rerank", "dialect": "voyage"},
    {"name": "jina", "path": "/jina/v1/rerank", "dialect": "jina"},
    {"name": "nvidia", "path": "/v1/ranking"},
]
IMAGE = {"content": [{"type": "image_url", "image_url": {"url": "https://img.example.org/a.png"}}]}

pytestmark = pytest.mark.asyncio(loop_scope="module")


def scored(request: Exchanged) -> bytes:
    """Answer as vLLM does: one score for each document, in their order."""
    count = len(request.json["text_2"])
    data = [{"index": index, "object": "score", "score": 0.25 * (index + 1)} for index in range(count)]
    return json.dumps({"id": "score-1", "object": "list", "model": "m", "data": data}).encode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running():
    async with Gate({"routes": ROUTES}, policy=POLICY) as gate:
        yield gate


@pytest.fixture
def gate(running):
    running.upstream.requests.clear()
    return running


async def test_scores_of_pairs_keep_the_places_of_documents_that_were_dropped(gate):
    gate.upstream.script = Script(body=scored)
    queries = ["about maren.oldfield@example.org", "about the withheld", "about the weather"]
    answer = await gate.post("/score", {"model": "m", "text_1": queries, "text_2": ["a", "b", "c"]})
    assert [(one["index"], one["score"]) for one in answer.json["data"]] == [(0, 0.25), (1, 0.0), (2, 0.5)]
    (arrived,) = gate.upstream.requests
    assert arrived.json["text_2"] == ["a", "c"]
    assert arrived.json["text_1"][1:] == ["about the weather"]
    assert b"maren.oldfield" not in arrived.raw
    assert b"withheld" not in arrived.raw


async def test_scores_out_of_order_are_an_error_of_the_reranker(gate):
    gate.upstream.script = Script(body=b'{"data":[{"index":1,"score":1},{"index":0,"score":2}]}')
    answer = await gate.post("/score", {"text_1": "q", "text_2": ["a", "b", "c"]})
    assert (answer.status, answer.json["error"]["type"]) == (502, "Bad Gateway")


@pytest.mark.parametrize(
    ("path", "body", "status", "where"),
    [
        ("/vllm/rerank", {"query": "q", "documents": ["a", IMAGE]}, 400, ("error", "message")),
        ("/vllm/rerank", {"query": "q", "documents": [[1, 2, 3]]}, 400, ("error", "message")),
        ("/score", {"text_1": IMAGE, "text_2": ["a"]}, 400, ("error", "message")),
        ("/v1/rerank", {"query": "q", "documents": [IMAGE]}, 422, ("detail",)),
        ("/jina/v1/rerank", {"query": "q", "documents": [{"image": "data:image/png;base64,AA=="}]}, 422, ("detail",)),
        ("/v1/ranking", {"query": {"text": "q"}, "passages": [{"text": "", "image": "data:,"}]}, 422, ("detail",)),
    ],
)
async def test_content_that_cannot_be_inspected_is_refused_in_the_apis_own_words(gate, path, body, status, where):
    answer = await gate.post(path, body)
    said = answer.json
    for name in where:
        said = said[name]
    assert answer.status == status
    assert "cannot be inspected" in said
    assert answer.headers["x-rankgate-decision-id"] in said
    assert gate.upstream.requests == []
