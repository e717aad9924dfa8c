"""The demo reranker answers in three shapes and remembers what reached it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from rankgate.demo.reranker import DemoReranker

DOCUMENTS = ["opening hours of the store", "refund issued by the store", "staff rota"]


@pytest.fixture
async def engine() -> AsyncIterator[DemoReranker]:
    reranker = DemoReranker()
    await reranker.start()
    yield reranker
    await reranker.stop()


async def post(engine: DemoReranker, path: str, body: Any, **headers: str) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as http, http.post(engine.url + path, json=body, headers=headers) as answer:
        return answer.status, await answer.json() if answer.content_type == "application/json" else None


async def test_cohere_v2_gives_indices_and_scores_best_first(engine: DemoReranker) -> None:
    status, body = await post(
        engine, "/v2/rerank", {"model": "m", "query": "refund", "documents": DOCUMENTS, "top_n": 2}
    )
    assert status == 200
    assert [result["index"] for result in body["results"]] == [1, 0]
    assert set(body["results"][0]) == {"index", "relevance_score"}


async def test_cohere_v1_echoes_documents_when_asked(engine: DemoReranker) -> None:
    documents = [{"text": "opening hours", "id": "a"}, "refund issued"]
    status, body = await post(
        engine, "/v1/rerank", {"query": "refund", "documents": documents, "return_documents": True}
    )
    assert status == 200
    assert [result["document"] for result in body["results"]] == [{"text": "refund issued"}, documents[0]]


async def test_rank_fields_name_what_is_ranked(engine: DemoReranker) -> None:
    documents = [{"text": "refund", "title": "hours"}, {"text": "hours", "title": "refund"}]
    _, body = await post(engine, "/v1/rerank", {"query": "refund", "documents": documents, "rank_fields": ["title"]})
    assert body["results"][0]["index"] == 1


async def test_tei_answers_a_bare_list_with_one_entry_a_text(engine: DemoReranker) -> None:
    status, body = await post(engine, "/rerank", {"query": "refund", "texts": DOCUMENTS, "return_text": True})
    assert status == 200
    assert sorted(entry["index"] for entry in body) == [0, 1, 2]
    assert all(entry["text"] == DOCUMENTS[entry["index"]] for entry in body)


async def test_what_reached_it_is_kept(engine: DemoReranker) -> None:
    await post(engine, "/rerank", {"query": "refund", "texts": DOCUMENTS})
    assert engine.count == 1
    assert engine.received[-1].path == "/rerank"
    assert engine.received[-1].json["query"] == "refund"


async def test_without_its_key_it_refuses_and_the_refusal_is_kept_too(engine: DemoReranker) -> None:
    engine.key = "upstream-key"
    body = {"query": "refund", "documents": DOCUMENTS}
    assert await post(engine, "/v2/rerank", body) == (401, {"message": "invalid api token"})
    assert (await post(engine, "/rerank", body))[0] == 401
    assert engine.count == 2
    assert (await post(engine, "/v2/rerank", body, authorization="Bearer upstream-key"))[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"query": 1, "documents": ["a"]},
        {"query": "a", "documents": []},
        {"query": "a", "documents": [1]},
        {"query": "a", "documents": ["a"], "top_n": 0},
        {"query": "a", "documents": ["a"], "top_n": True},
    ],
)
async def test_a_malformed_request_gets_the_apis_own_error(engine: DemoReranker, body: Any) -> None:
    status, answer = await post(engine, "/v2/rerank", body)
    assert status == 400
    assert isinstance(answer["message"], str)


async def test_a_malformed_tei_request_gets_teis_own_error(engine: DemoReranker) -> None:
    assert (await post(engine, "/rerank", {"query": "a", "documents": ["a"]}))[1]["error_type"] == "Validation"


def test_it_explains_itself_on_the_command_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rankgate.demo.reranker", "--help"], capture_output=True, text=True, check=True
    )
    assert "--port" in done.stdout
