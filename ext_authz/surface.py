"""What of a call is let near the reranker at all: methods, parameters, headers, content."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import parse_qsl

from rankgate.detect import Detector
from rankgate.errors import GateError, Reason
from rankgate.headers import is_json_type, traceparent
from rankgate.request import HttpRequest
from rankgate.settings import LimitSettings, RouteSettings

__all__ = ["admit", "unlisted_headers"]

# Envoy's own framing and routing; removing them is Envoy's business.
UNTOUCHED = frozenset({"host", "content-length", "transfer-encoding", "content-type"})
# Machine-made values that detection would take for something else.
UNREAD = frozenset({"x-request-id", "content-length", "content-type", "traceparent"})
# RFC 9110 section 7.6.1: names listed in Connection are for the next hop only. Ours must not be nameable there.
CONNECTION = frozenset({b"", b"close", b"keep-alive"})
# Obs-text and control characters are read differently by every reader (RFC 9110 section 5.5).
UNFIT = re.compile(rb"[^\x20-\x7e\t]")


def admit(http: HttpRequest, route: RouteSettings, limits: LimitSettings, detector: Detector, tenant: str) -> None:
    """Return if the call's outside is acceptable on `route`; raise GateError otherwise."""
    if http.method not in route.methods:
        raise GateError(Reason.METHOD_NOT_ALLOWED)
    _check_query(http, route, detector, tenant)
    for name, value in http.headers:
        if name == "connection" and not {part.strip().lower() for part in value.split(b",")} <= CONNECTION:
            raise GateError(Reason.HEADER_REFUSED, "connection")
        if name in {"trailer", "upgrade", "expect"} and not (name == "expect" and value.lower() == b"100-continue"):
            raise GateError(Reason.HEADER_REFUSED, name)
        if UNFIT.search(value):
            raise GateError(Reason.HEADER_REFUSED, "value")
    if http.values("x-envoy-auth-partial-body") not in ([], [b"false"]):
        raise GateError(Reason.BODY_TOO_LARGE, "partial")
    if any(value.strip().lower() != b"identity" for value in http.values("content-encoding")):
        raise GateError(Reason.CONTENT_ENCODING_UNSUPPORTED)
    if not is_json_type(http.values("content-type")):
        raise GateError(Reason.CONTENT_TYPE_UNSUPPORTED)
    if len(http.body) > limits.body_bytes:
        raise GateError(Reason.BODY_TOO_LARGE)
    if not http.body:
        raise GateError(Reason.BODY_INVALID, public="the body is empty")


def unlisted_headers(http: HttpRequest, route: RouteSettings, detector: Detector, tenant: str) -> Iterator[str]:
    """Yield the request headers the reranker must not receive: not listed, or with sensitive data in the value."""
    listed = set(route.request_headers)
    for name, value in http.headers:
        if name.startswith(":") or name in UNTOUCHED:
            continue
        if (
            name not in listed
            or (name == "traceparent" and not traceparent([value]))
            or (name not in UNREAD and detector.detect(value.decode("latin-1"), cache=tenant))
        ):
            yield name


def _check_query(http: HttpRequest, route: RouteSettings, detector: Detector, tenant: str) -> None:
    if not http.query:
        return
    try:
        pairs = parse_qsl(http.query, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=64)
    except ValueError:
        raise GateError(Reason.QUERY_PARAMETER_REFUSED, "syntax") from None
    # Envoy compares names as they are written: an escaped one would be no parameter that a ruling sets or removes.
    written = {pair.partition("=")[0] for pair in http.query.split("&")}
    if not written <= set(route.query_parameters) or any(detector.detect(value, cache=tenant) for _, value in pairs):
        raise GateError(Reason.QUERY_PARAMETER_REFUSED)
