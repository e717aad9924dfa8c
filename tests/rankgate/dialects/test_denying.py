"""rankgate.dialects.denying: every refusal is JSON that says whether to come back."""

from __future__ import annotations

import json

import pytest

from rankgate import dialects
from rankgate.errors import Reason

EVERY = pytest.mark.parametrize("name", dialects.NAMES)
STATUSES = sorted(
    {reason.status for reason in Reason} | {402, 409, 418, 422, 424, 498, 499, 500, 501, 504, 599, 0, 700}
)


@EVERY
@pytest.mark.parametrize("status", STATUSES)
def test_every_status_has_a_body_with_the_message(name, status):
    headers, body = dialects.by_name(name).denial(status, "refused: é (receipt dec-1)", "dec-1")
    members = json.loads(body)
    inner = members.get("error")
    assert "refused: é (receipt dec-1)" in [*members.values(), *(inner.values() if isinstance(inner, dict) else [])]
    assert dict(headers)["content-type"] == "application/json"
    assert len({key for key, _ in headers}) == len(headers)


@EVERY
@pytest.mark.parametrize("status", [status for status in STATUSES if status != 429])
def test_a_refusal_asks_not_to_be_retried(name, status):
    headers, _ = dialects.by_name(name).denial(status, "m", "dec-1")
    assert headers == (("content-type", "application/json"), ("x-should-retry", "false"))


@EVERY
def test_waiting_asks_to_come_back_in_30_seconds(name):
    headers, _ = dialects.by_name(name).denial(429, "m", "dec-1")
    assert dict(headers) == {"content-type": "application/json", "retry-after": "30", "x-should-retry": "true"}


@EVERY
@pytest.mark.parametrize("message", ['a "quoted" \\ text', "\ud800", "\x00\n", ""])
def test_no_message_breaks_the_body(name, message):
    _, body = dialects.by_name(name).denial(403, message, "dec-1")
    assert isinstance(json.loads(body), dict)


@EVERY
def test_a_body_that_is_not_understood_has_the_apis_own_status(name):
    expected = 422 if name in {"tei", "jina", "voyage", "nvidia.ranking"} else 400
    for reason in Reason:
        invalid = reason in {Reason.BODY_INVALID, Reason.DIALECT_UNKNOWN}
        assert dialects.by_name(name).status(reason) == (expected if invalid else reason.status)
