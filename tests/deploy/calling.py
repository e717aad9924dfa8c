"""A caller as callers are: the cohere SDK with another base URL."""

from __future__ import annotations

import cohere
import httpx

__all__ = ["DOCUMENTS", "rerank"]

DOCUMENTS = ["opening hours of the store", "refund for maren.oldfield@example.org", "weather report"]


def rerank(url: str, token: str, **call: object) -> cohere.V2RerankResponse:
    """Rerank three documents through the gate at `url`."""
    call = {"model": "rerank-v3.5", "query": "refund maren.oldfield@example.org", "documents": DOCUMENTS, **call}
    with httpx.Client() as http:
        return cohere.ClientV2(api_key=token, base_url=url, httpx_client=http).rerank(**call)  # type: ignore[arg-type]
