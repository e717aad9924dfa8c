from __future__ import annotations

import pytest

from rankgate.policy.headers import HEADER_VALUE, is_secret, is_untouchable
from rankgate.settings.headers import RESERVED_HEADERS, RESERVED_PREFIXES


@pytest.mark.parametrize("name", ["x-team", "user-agent", "accept", "x-request-id", "www-authenticate", "retry-after"])
def test_ordinary_headers_are_free(name: str) -> None:
    assert not is_secret(name)
    assert not is_untouchable(name, "authorization")


@pytest.mark.parametrize("name", ["authorization", "cookie", "dpop", "x-api-key", "x-goog-api-key", "apikey"])
def test_credentials_are_secret_and_untouchable(name: str) -> None:
    assert is_secret(name)
    assert is_untouchable(name, "x-other")


@pytest.mark.parametrize(
    "name",
    [
        "host",
        "content-type",
        "te",
        "x-envoy-retry-on",
        "x-rankgate-subject",
        "x-forwarded-anything",
        "grpc-status",
        ":path",
        "",
        "a b",
        "a\r\nb",
        "é",
        "x" * 129,
    ],
)
def test_framing_routing_and_what_is_no_name_are_untouchable(name: str) -> None:
    assert is_untouchable(name, "authorization")


def test_the_credentials_header_is_untouchable_whatever_its_name() -> None:
    assert is_untouchable("x-upstream", "X-Upstream")
    assert is_untouchable("x_upstream", "X-Upstream")
    assert is_untouchable("x-upstream", "x_upstream")


@pytest.mark.parametrize("name", [*RESERVED_HEADERS, *(f"{prefix}any" for prefix in RESERVED_PREFIXES)])
def test_what_is_taken_from_callers_no_policy_gives_back(name: str) -> None:
    assert is_untouchable(name, "authorization")
    assert is_untouchable(name.replace("-", "_"), "authorization")


@pytest.mark.parametrize("name", ["transfer_encoding", "content_length", "proxy_authorization", "x_api_key", "api_key"])
def test_an_underscore_is_a_dash_to_many_servers(name: str) -> None:
    assert is_untouchable(name, "authorization")
    assert not is_untouchable("x_team", "authorization")


@pytest.mark.parametrize("value", ["a\rb", "a\nb", "a\x00b", "é", "\x7f"])
def test_a_value_is_visible_ascii(value: str) -> None:
    assert HEADER_VALUE.fullmatch("a b\tc~")
    assert not HEADER_VALUE.fullmatch(value)
