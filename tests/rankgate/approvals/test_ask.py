"""What a gate asks: read as it was written, known by its MAC, named by its bytes."""

from __future__ import annotations

import pytest
from fakes.asks import KEY, an_ask
from hypothesis import given
from hypothesis import strategies as st

from rankgate.approvals import (
    Ask,
    PlanSummary,
    Requirement,
    authenticate,
    is_authentic,
    new_approval_id,
    record_digest,
)

FULL = an_ask(
    plan=PlanSummary("m", "n", (1, 2), 3, "minted", True), findings={"email": 2}, risk="high", reasons=("pii",),
    policy_revision="r1", preview="abc", break_glass="pager", model=None,
)  # fmt: skip


@pytest.mark.parametrize("ask", [an_ask(), FULL])
def test_an_ask_is_read_as_it_was_written(ask: Ask) -> None:
    assert Ask.decode(ask.encode()) == ask
    assert ask.encode() == Ask.decode(ask.encode()).encode()


def test_what_a_newer_gate_added_is_passed_over() -> None:
    assert Ask.decode(FULL.encode()[:-1] + b',"newer":{"a":[1]}}') == FULL


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"{}", b'{"id":"x"}', FULL.encode()[:-1], FULL.encode() + b"x",
        FULL.encode().replace(b'"quorum":1', b'"quorum":"1"'), FULL.encode().replace(b"rerank", b"\xff\xfe"),
        FULL.encode()[:-1] + b',"newer":' + b"[" * 100_000,
    ],
)  # fmt: skip
def test_anything_else_is_no_ask(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"^no approval$"):
        Ask.decode(body)


def test_a_mac_is_of_these_bytes_and_this_key() -> None:
    body = FULL.encode()
    mac = authenticate(KEY, body)
    assert is_authentic(KEY, body, mac) and len(mac) == 64
    assert not is_authentic(KEY, body + b" ", mac)
    assert not is_authentic(b"other".ljust(32), body, mac)
    for other in ("", mac[:-1], mac + "0", mac.upper(), mac.replace(mac[0], "g")):
        assert not is_authentic(KEY, body, other)


@pytest.mark.parametrize("mac", ["ü", "\ud800", "０" * 64], ids=ascii)
def test_a_mac_of_other_letters_is_none(mac: str) -> None:
    assert not is_authentic(KEY, FULL.encode(), mac)


def test_a_record_is_named_by_every_byte_of_it() -> None:
    body = FULL.encode()
    assert len({record_digest(body), record_digest(body + b" "), record_digest(body[1:])}) == 3


@given(st.integers(0, 2**47), st.integers(0, 2**47), st.integers(0, 2**80 - 1), st.integers(0, 2**80 - 1))
def test_ids_sort_by_time(one_ms: int, other_ms: int, one: int, other: int) -> None:
    ids = new_approval_id(one_ms / 1000, one), new_approval_id(other_ms / 1000, other)
    assert all(len(name) == 30 and name.isascii() and name == name.lower() for name in ids)
    if int(one_ms / 1000 * 1000) < int(other_ms / 1000 * 1000):
        assert ids[0] < ids[1]


GROUPS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(tuple)
REQUIREMENTS = st.builds(Requirement, GROUPS, st.integers(1, 3), st.integers(60, 62))


@given(REQUIREMENTS, REQUIREMENTS, REQUIREMENTS)
def test_covering_is_an_order(one: Requirement, two: Requirement, three: Requirement) -> None:
    assert one.covers(one)
    assert not (one.covers(two) and two.covers(three)) or one.covers(three)
    if one.covers(two) and two.covers(one):
        assert ({*one.groups}, one.quorum, one.ttl_s) == ({*two.groups}, two.quorum, two.ttl_s)
