from __future__ import annotations

import pytest

from rankgate.audit.names import LogName, StreamId, stream_key, stream_pattern


def test_a_name_reads_back() -> None:
    name = LogName("pod-1.a", "authz", 3, 1_790_000_000_000)
    assert str(name) == "pod-1.a/authz-3/1790000000000"
    assert LogName.parse(str(name)) == name
    assert name.slot == "pod-1.a.authz-3"


@pytest.mark.parametrize(
    "text", ["", "a/b", "a/authz-0/", "../authz-0/1", "a/authz-0/1\n", "a/authz-0/1:x", "A/authz-0/1"]
)
def test_other_text_is_no_name(text: str) -> None:
    with pytest.raises(ValueError, match="log"):
        LogName.parse(text)


def test_stream_ids_are_ordered_as_redis_orders_them() -> None:
    assert StreamId(1, 10) < StreamId(2, 1) < StreamId(2, 2)
    assert StreamId.parse("1790000000000-5") == StreamId(1_790_000_000_000, 5)


@pytest.mark.parametrize("text", ["", "1", "-", "1-", "-1", "a-1", "1-1-1", "1-٣", "+1-1"])
def test_other_text_is_no_stream_id(text: str) -> None:
    with pytest.raises(ValueError, match="stream id"):
        StreamId.parse(text)


def test_all_streams_of_a_deployment_share_one_hash_tag() -> None:
    assert stream_key("prod", "p/authz-0/1") == "audit:{prod}:p/authz-0/1"
    assert stream_pattern("prod") == "audit:{prod}:*"
