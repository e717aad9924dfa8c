"""Header names that settings must leave alone, in one place for everyone who takes names."""

from __future__ import annotations

__all__ = [
    "CREDENTIALS",
    "DEFAULT_REQUEST_HEADERS",
    "DEFAULT_RESPONSE_HEADERS",
    "RESERVED_HEADERS",
    "RESERVED_PREFIXES",
    "carries_no_credential",
    "unfit_for_request",
    "unfit_for_response",
]

DEFAULT_REQUEST_HEADERS = (
    "accept",
    "content-type",
    "content-length",
    "user-agent",
    "x-request-id",
    "traceparent",
    "tracestate",
)
DEFAULT_RESPONSE_HEADERS = (
    "content-type",
    "content-length",
    "date",
    "retry-after",
    "x-request-id",
    "x-compute-type",
    "x-compute-time",
    "x-total-time",
    "x-tokenization-time",
    "x-queue-time",
    "x-inference-time",
)

# Credentials of either side, and challenges for them.
CREDENTIALS = ("authorization", "cookie", "proxy-authorization", "set-cookie", "www-authenticate")

# Names only Envoy and the filters may set, on either side.
RESERVED_PREFIXES = ("x-rankgate-", "x-envoy-")

# What callers send to make a server see another caller, path or method than the real one.
RESERVED_HEADERS = (
    "forwarded",
    "x-client-ip",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-uri",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-uri",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
)

# One connection's framing, RFC 9110 sections 7.6.1 and 10.1, and codings, which the filters do not read.
_FRAMING = frozenset({
    "accept-encoding", "connection", "content-encoding", "expect", "host", "http2-settings", "keep-alive",
    "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
_NEVER_PASSED = _FRAMING | {*CREDENTIALS, "authentication-info", "proxy-authenticate", "proxy-authentication-info"}
_PREFIXES = (*RESERVED_PREFIXES, "x-forwarded-")
# What HTTP itself gives a meaning; `content-` ones by their prefix.
_SPOKEN_FOR = (
    _NEVER_PASSED
    | {*RESERVED_HEADERS, *DEFAULT_REQUEST_HEADERS, *DEFAULT_RESPONSE_HEADERS}
    | {"accept-charset", "accept-language", "age", "allow", "cache-control", "dpop", "etag", "from", "if-match"}
    | {"if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "last-modified", "location"}
    | {"max-forwards", "origin", "pragma", "range", "referer", "server", "vary", "via", "warning"}
) - {"authorization"}


def unfit_for_request(name: str) -> bool:
    """Tell whether no reranker may receive the caller's header `name`: it is removed, refused or not the caller's."""
    return name in _NEVER_PASSED or name in RESERVED_HEADERS or name.startswith(_PREFIXES)


def unfit_for_response(name: str) -> bool:
    """Tell whether no caller may receive the reranker's header `name`: it is removed, or belongs to a connection."""
    return name in _NEVER_PASSED or name.startswith(_PREFIXES)


def carries_no_credential(name: str) -> bool:
    """Tell whether the header `name` cannot carry the reranker's credential: something else already gives or reads it."""
    return name in _SPOKEN_FOR or name.startswith((*_PREFIXES, "content-"))
