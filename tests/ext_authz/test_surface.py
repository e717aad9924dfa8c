"""What a call looks like from outside decides before its body is read."""

import pytest
from fakes.handing import DETECTOR

from ext_authz.surface import admit, unlisted_headers
from rankgate.errors import GateError, Reason
from rankgate.request import HttpRequest
from rankgate.settings import LimitSettings, RouteSettings

ROUTE = RouteSettings.model_validate({"name": "r", "path": "/rerank", "query_parameters": ["trace"]})


def call(*headers, **changes):
    fields = {
        "id": "1",
        "method": "POST",
        "path": "/rerank",
        "query": "",
        "host": "g",
        "scheme": "http",
        "protocol": "HTTP/1.1",
        "headers": (("content-type", b"application/json"), *headers),
        "body": b"{}",
        "route": "r",
        "source_address": "",
    }
    return HttpRequest(**{**fields, **changes})


def admitted(http):
    admit(http, ROUTE, LimitSettings(), DETECTOR, "acme")


@pytest.mark.parametrize(
    "http",
    [
        call(),
        call(("connection", b"keep-alive")),
        call(("connection", b"Close, Keep-Alive")),
        call(("expect", b"100-continue")),
        call(("content-encoding", b"identity")),
        call(("x-envoy-auth-partial-body", b"false")),
        call(query="trace=a&trace="),
        call(headers=(("content-type", b'application/json ; charset="UTF-8"'),)),
    ],
)
def test_an_ordinary_call_is_admitted(http):
    admitted(http)


@pytest.mark.parametrize(
    ("http", "reason"),
    [
        (call(("connection", b"x-rankgate-lease")), Reason.HEADER_REFUSED),
        (call(("connection", b"keep-alive, authorization")), Reason.HEADER_REFUSED),
        (call(("trailer", b"x-a")), Reason.HEADER_REFUSED),
        (call(("upgrade", b"websocket")), Reason.HEADER_REFUSED),
        (call(("expect", b"200-ok")), Reason.HEADER_REFUSED),
        (call(("x-a", b"\x7f")), Reason.HEADER_REFUSED),
        (call(("x-a", b"a\x00b")), Reason.HEADER_REFUSED),
        (call(("content-type", b"application/json")), Reason.CONTENT_TYPE_UNSUPPORTED),
        (call(headers=(("content-type", b"application/jsonp"),)), Reason.CONTENT_TYPE_UNSUPPORTED),
        (
            call(headers=(("content-type", b"application/json; charset=utf-8; charset=utf-16"),)),
            Reason.CONTENT_TYPE_UNSUPPORTED,
        ),
        (call(("content-encoding", b"")), Reason.CONTENT_ENCODING_UNSUPPORTED),
        (call(query="trace=%ff"), Reason.QUERY_PARAMETER_REFUSED),
        (call(query="TRACE=a"), Reason.QUERY_PARAMETER_REFUSED),
        (call(query="%74race=a"), Reason.QUERY_PARAMETER_REFUSED),
        (call(query="trace=a;x=b&x=c"), Reason.QUERY_PARAMETER_REFUSED),
        (call(query="&".join(["trace=a"] * 65)), Reason.QUERY_PARAMETER_REFUSED),
    ],
)
def test_anything_else_is_refused_for_its_own_reason(http, reason):
    with pytest.raises(GateError) as caught:
        admitted(http)
    assert caught.value.reason is reason


def test_headers_are_an_allow_list_and_framing_is_left_to_envoy():
    http = call(
        ("host", b"g"),
        ("content-length", b"2"),
        ("accept", b"*/*"),
        ("x-request-id", b"4111111111111111"),
        ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("x-user", b"a"),
        ("dpop", b"b"),
    )
    assert set(unlisted_headers(http, ROUTE, DETECTOR, "acme")) == {"x-user", "dpop"}


def test_a_listed_header_is_dropped_for_what_its_value_holds():
    http = call(("user-agent", b"mail maren.oldfield@example.org"), ("traceparent", b"00-x"))
    assert set(unlisted_headers(http, ROUTE, DETECTOR, "acme")) == {"user-agent", "traceparent"}
