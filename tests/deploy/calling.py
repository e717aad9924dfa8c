"""A caller as callers are: the cohere SDK with another base URL."""

from __future__ import annotations

import ssl

import cohere
import httpx

__all__ = ["DOCUMENTS", "denied", "rerank"]

DOCUMENTS = ["opening hours of the store", "refund for maren.oldfield@example.org", "weather report"]


def rerank(url: str, token: str, *, tls: ssl.SSLContext | None = None, **call: object) -> cohere.V2RerankResponse:
    """Rerank three documents through the gate at `url`."""
    call = {"model": "rerank-v3.5", "query": "refund maren.oldfield@example.org", "documents": DOCUMENTS, **call}
    with httpx.Client(verify=tls or True) as http:
        return cohere.ClientV2(api_key=token, base_url=url, httpx_client=http).rerank(**call)  # type: ignore[arg-type]


def denied(url: str, token: str, *, tls: ssl.SSLContext | None = None) -> bool:
    """Tell whether the policy denies such a call."""
    try:
        rerank(url, token, tls=tls)
    except cohere.ForbiddenError:
        return True
    return False
