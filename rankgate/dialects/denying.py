"""A refusal in the caller's own API: the headers every client understands, and JSON every client can parse."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

__all__ = ["Envelope", "Headers", "deny", "error_type", "phrase"]

Headers = tuple[tuple[str, str], ...]
Envelope = Callable[[int, str, str], Mapping[str, object]]
"""(status, message, decision id) to the members of an error body."""

RETRY_AFTER_S = 30
"""The longest wait that old Cohere clients honour; longer ones make them back off on their own."""

_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    501: "not_supported_error",
    503: "unavailable_error",
}
_PHRASES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


def deny(envelope: Envelope, status: int, message: str, decision_id: str) -> tuple[Headers, bytes]:
    """Return headers and body of a refusal. Any status is answered; `message` must hold no request data.

    Clients retry some 4xx and all 5xx of their own accord, so every refusal but 429 says that they should not.
    """
    body = json.dumps(envelope(status, message, decision_id), ensure_ascii=False, separators=(",", ":"))
    headers: Headers = (("content-type", "application/json"),)
    if status == 429:
        headers += (("retry-after", str(RETRY_AFTER_S)), ("x-should-retry", "true"))
    else:
        headers += (("x-should-retry", "false"),)
    return headers, body.encode("utf-8", "replace")


def error_type(status: int) -> str:
    """Return the word that OpenAI-like servers use for `status`."""
    return _ERROR_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")


def phrase(status: int) -> str:
    """Return the reason phrase of `status` (RFC 9110 section 15), or `Error`."""
    return _PHRASES.get(status, "Error")
