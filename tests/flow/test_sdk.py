"""The cohere SDK, changed only in its base URL, works through a real gate and raises its own errors on a denial."""

import asyncio

import cohere
import httpx
import pytest
import pytest_asyncio
from cohere.core.api_error import ApiError
from flow.gate import Gate

POLICY = """
package rankgate

import rego.v1

decision := {"allowed": input.rerank.model != "rerank-secret", "rankgate": {"reasons": ["model not allowed"]}}
"""
DOCUMENTS = ["opening hours of the store", "refund for maren.oldfield@example.org", "weather report"]
CALLS = {"v1": cohere.Client, "v2": cohere.ClientV2}

pytestmark = [pytest.mark.flow, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running():
    async with Gate(policy=POLICY) as gate:
        yield gate


@pytest.fixture
def gate(running):
    running.upstream.requests.clear()
    return running


async def rerank(gate, version, *, token=None, **call):
    """Call in a thread: the SDK is synchronous and the upstream runs on this loop."""
    call = {"model": "rerank-v3.5", "query": "refund maren.oldfield@example.org", "documents": DOCUMENTS, **call}
    with httpx.Client() as http:
        client = CALLS[version](api_key=token or gate.token(), base_url=gate.url, httpx_client=http)
        return await asyncio.to_thread(client.rerank, **call)


@pytest.mark.parametrize("version", CALLS)
async def test_ranked_answers_come_back(gate, version):
    answer = await rerank(gate, version, top_n=2)
    assert len(answer.results) == 2
    assert {result.index for result in answer.results} <= {0, 1, 2}
    assert answer.results[0].relevance_score >= answer.results[1].relevance_score
    (sent,) = gate.upstream.requests
    assert b"maren.oldfield" not in sent.raw


async def test_documents_that_the_reranker_returns_come_back_masked(gate):
    answer = await rerank(gate, "v1", return_documents=True)
    texts = {result.document.text for result in answer.results}
    assert "opening hours of the store" in texts
    assert not any("maren" in text for text in texts)


@pytest.mark.parametrize("version", CALLS)
async def test_a_denial_is_the_sdks_own_typed_error_with_a_receipt_and_is_not_retried(gate, version):
    with pytest.raises(cohere.ForbiddenError) as caught:
        await rerank(gate, version, model="rerank-secret")
    assert "model not allowed" in caught.value.body["message"]
    assert caught.value.headers["x-rankgate-decision-id"] in caught.value.body["message"]
    assert gate.upstream.requests == []
    receipts = [event["body"]["metadata"]["correlation_uid"] for event in await gate.decisions()]
    assert receipts.count(caught.value.headers["x-rankgate-decision-id"]) == 1


@pytest.mark.parametrize("version", CALLS)
async def test_a_bad_token_is_unauthorized(gate, version):
    with pytest.raises(cohere.UnauthorizedError):
        await rerank(gate, version, token=gate.token(aud="another"))
    assert gate.upstream.requests == []


@pytest.mark.parametrize("version", CALLS)
async def test_too_many_documents_are_an_api_error_with_status_413(gate, version):
    with pytest.raises(ApiError) as caught:
        await rerank(gate, version, documents=["d"] * 1001)
    assert caught.value.status_code == 413
    assert "at most 1000 documents" in caught.value.body["message"]
