"""Real clients, changed only in their base URL, through a real gate: allowed, with a document dropped, and denied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from flow.clients import DENIED, DOCUMENTS, DROPPED, QUERY, Outcome, ask, gate_for_clients, node, python
from flow.upstream import Exchanged

pytestmark = [pytest.mark.client, pytest.mark.asyncio(loop_scope="module")]


@dataclass(frozen=True, slots=True)
class Client:
    """A client, the prefix of its base URL, what else its script is told, and its error on a denial."""

    name: str
    error: str
    base: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    status: int | None = 403
    # False for the one client that reads no status and no error body.
    says_why: bool = True

    @property
    def id(self) -> str:
        """Return the name of a test run; begins with the environment's."""
        return "-".join((self.name, *str(self.options.get("model", "")).split("/")[:1])).rstrip("-")


def litellm(model: str, error: str, base: str = "") -> Client:
    return Client("litellm", error, base, {"model": model})


CLIENTS = [
    Client("ai-sdk", "AI_APICallError"),
    Client("voyageai", "APIError", "/voyage"),
    Client("langchain-cohere", "ForbiddenError"),
    Client("langchain-nvidia", "Exception", status=None),
    Client("llama-index-cohere", "ForbiddenError"),
    Client("llama-index-tei", "AssertionError", status=None, says_why=False),
    litellm("cohere/rerank-v3.5", "PermissionDeniedError"),
    litellm("jina_ai/jina-reranker-v3", "PermissionDeniedError"),
    litellm("voyage/rerank-2.5", "PermissionDeniedError", "/voyage"),
    litellm("hosted_vllm/reranker-base", "APIError", "/vllm"),
    litellm("huggingface/reranker-base", "APIError"),
    litellm("nvidia_nim/ranking/nvidia/reranker-1b", "APIError"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gate():
    async with gate_for_clients() as running:
        yield running


@dataclass(frozen=True, slots=True)
class Told:
    """What a client made of its three calls, and what of them reached the reranker."""

    client: Client
    allowed: Outcome
    dropped: Outcome
    denied: Outcome
    arrived: Sequence[Exchanged]
    receipts: Sequence[str]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=CLIENTS, ids=lambda client: client.id)
async def told(request, gate):
    client = request.param
    command = node(client.name) if client.name == "ai-sdk" else python(client.name)
    gate.upstream.requests.clear()
    before = len(await gate.decisions())
    outcomes = await ask(command, gate, QUERY, DROPPED, DENIED, base=client.base, **client.options)
    made = (await gate.decisions())[before:]
    receipts = [event["body"]["metadata"]["correlation_uid"] for event in made]
    return Told(client, *outcomes, tuple(gate.upstream.requests), receipts)


async def test_ranked_answers_come_back_and_what_was_sent_is_masked(told):
    assert told.allowed.error == ""
    assert told.allowed.positions == [2, 0, 1]
    assert told.allowed.scores == sorted(told.allowed.scores, reverse=True)
    assert all(b"maren.oldfield" not in request.raw for request in told.arrived)
    assert DOCUMENTS[1].encode() in told.arrived[0].body


async def test_a_dropped_document_is_not_sent_and_the_others_keep_their_positions(told):
    assert told.dropped.error == ""
    assert told.dropped.positions[0] == 2
    assert sorted(told.dropped.positions) == [0, 1, 2]
    assert dict(told.dropped.ranked)[0] == min(told.dropped.scores)
    assert DOCUMENTS[0].encode() not in told.arrived[1].body


async def test_a_denial_is_the_clients_own_error_and_is_not_retried(told):
    denied = told.denied
    assert (denied.error, denied.status) == (told.client.error, told.client.status)
    assert len(told.arrived) == 2
    assert len(told.receipts) == 3
    if told.client.says_why:
        assert "this query is not allowed" in denied.text
        assert any(receipt in denied.text for receipt in told.receipts)
