"""A question about nobody, as the gate builds it: for smoke tests, examples and a first try."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rankgate.policy.question import build_question
from rankgate.request import HttpRequest, RerankRequest, Role, Text

__all__ = ["sample_question"]


@dataclass(frozen=True, slots=True)
class _Caller:
    issuer: str = "https://issuer.example"
    subject: str = "sample-svc"
    tenant: str = "sample"
    groups: tuple[str, ...] = ("sample",)
    scopes: tuple[str, ...] = ()
    claims: dict[str, Any] = field(default_factory=lambda: {"sub": "sample-svc"})
    kind: str = "service"
    bound: bool = False


@dataclass(frozen=True, slots=True)
class _Found:
    types: tuple[str, ...]


def sample_question() -> dict[str, Any]:
    """Return a question with every key of a rerank call: two documents, one finding in the query."""
    texts = ("where is my order?", "Orders ship on weekdays.", "Returns take a week.")
    body = b'{"model":"rerank-sample","query":"...","documents":["...","..."]}'
    request = RerankRequest(
        dialect="cohere.v2",
        revision=1,
        operation="rerank",
        model="rerank-sample",
        query=texts[0],
        instruction="Prefer recent documents.",
        document_count=2,
        texts=(
            Text(0, Role.QUERY, texts[0], 0, 0),
            Text(1, Role.DOCUMENT, texts[1], 0, 0, 0),
            Text(2, Role.DOCUMENT, texts[2], 0, 0, 1),
        ),
        top_n=2,
        return_documents=False,
        ids=("doc-1", None),
        labels=(("public",), ()),
    )
    http = HttpRequest(
        id="sample-1",
        method="POST",
        path="/v2/rerank",
        query="",
        host="rankgate.example",
        scheme="http",
        protocol="HTTP/1.1",
        headers=(("content-type", b"application/json"), ("user-agent", b"sample/1")),
        body=body,
        route="cohere-v2",
        source_address="192.0.2.1:40000",
        attributes={"source": {"address": {"socketAddress": {"address": "192.0.2.1", "portValue": 40000}}}},
    )
    found = {0: (_Found(("EMAIL_ADDRESS",)),), 1: (_Found(("PHONE_NUMBER",)),)}
    return build_question(http, _Caller(), request, found, upstream="reranker.example", now=1_700_000_000.0)
