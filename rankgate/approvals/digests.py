"""What an approval is bound to, as keyed digests of a gate: nobody outside can tell or test what they stand for."""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

__all__ = ["Digests", "canonical_digest", "canonical_json", "plan_digest", "use_digest"]


class Digests(NamedTuple):
    """The digests of one request, made with one key."""

    use: str
    plan: str
    canonical: str


def use_digest(
    key: bytes, *, issuer: str, subject: str, tenant: str, upstream: str, route: str,
    method: str, path: str, content_type: bytes, body: bytes,
) -> str:  # fmt: skip
    """Return the digest of one exact request by one caller; `path` includes the query string."""
    head = (issuer, subject, tenant, upstream, route, method, path)
    return _keyed(key, "use", [*(part.encode("utf-8", "surrogatepass") for part in head), content_type, body])


def plan_digest(
    key: bytes, *, mask_request: str, mask_response: str, dropped: Iterable[int], on_empty: str, credential: str,
    changes: Sequence[str] = (),
) -> str:  # fmt: skip
    """Return the digest of what will be done: plans as their texts, positions dropped, the credential's kind.

    `changes` are what else the policy changes of the request: headers and query parameters, each as one text.
    """
    parts = [mask_request, mask_response, ",".join(map(str, dropped)), on_empty, credential, *changes]
    return _keyed(key, "plan", [part.encode("utf-8", "surrogatepass") for part in parts])


def canonical_digest(
    key: bytes, *, issuer: str, subject: str, tenant: str, upstream: str, route: str, value: Any
) -> str:
    """Return the digest of what is asked, however it is written; `value` is what the call means, as JSON."""
    head = (issuer, subject, tenant, upstream, route, canonical_json(value))
    return _keyed(key, "canonical", [part.encode("utf-8", "surrogatepass") for part in head])


def canonical_json(value: Any) -> str:
    """Return one text for all writings of a value: names sorted, white space made one."""
    return json.dumps(_squeezed(value), sort_keys=True, separators=(",", ":"))


def _squeezed(value: Any) -> Any:
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, list | tuple):
        return [_squeezed(item) for item in value]
    if isinstance(value, dict):
        return {" ".join(name.split()): _squeezed(member) for name, member in value.items()}
    # One, 1.0 and 1e0 are one number to a reranker; true is none.
    return float(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53 else value


def _keyed(key: bytes, what: str, parts: Iterable[bytes]) -> str:
    message = hmac.new(key, f"rankgate {what}\n".encode(), "sha256")
    for part in parts:
        message.update(len(part).to_bytes(8, "big") + part)
    return message.hexdigest()
