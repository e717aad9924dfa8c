from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankgate.audit.frame import HEADER_BYTES, MAX_LEAF_BYTES, Damage, Frame, encode, frames, scan

LEAVES = st.lists(st.binary(min_size=1, max_size=60), max_size=8)


def file_of(leaves: list[bytes], *, batch: int = 1, room: int = 64) -> tuple[bytes, list[Frame]]:
    """Return a file written in batches of `batch` entries, with `room` zeros behind them, and its frames."""
    wanted = [Frame(i, 1000 + i, i - i % batch, leaf) for i, leaf in enumerate(leaves)]
    return b"".join(encode(f.index, f.ms, f.synced, f.leaf) for f in wanted) + bytes(room), wanted


def test_the_bytes_of_a_frame_are_final() -> None:
    fields = ["f5524731", "00000007", "0000000000000007", "000001a0c4506c7b", "0000000000000006"]
    assert encode(7, 1_790_000_000_123, 6, b'{"a":1}').hex() == "".join([*fields, "944c3a2e", "7b2261223a317d"])


@pytest.mark.parametrize("leaf", [b"", bytes(MAX_LEAF_BYTES + 1)])
def test_a_leaf_of_no_or_too_many_bytes_is_refused(leaf: bytes) -> None:
    with pytest.raises(ValueError, match="leaf"):
        encode(0, 0, 0, leaf)


@given(LEAVES)
def test_what_is_written_is_read(leaves: list[bytes]) -> None:
    data, wanted = file_of(leaves)
    read = scan(data, 0)
    assert list(read.frames) == wanted
    assert read.damage is None
    assert read.end == sum(frame.size for frame in wanted)


@given(LEAVES, st.data())
def test_any_truncation_yields_a_prefix(leaves: list[bytes], data: st.DataObject) -> None:
    whole, wanted = file_of(leaves, room=0)
    cut = data.draw(st.integers(0, len(whole)))
    read = scan(whole[:cut], 0)
    assert list(read.frames) == wanted[: len(read.frames)]
    assert read.end <= cut
    assert (read.damage is None) == (read.end == cut)
    assert read.damage is None or not read.damage.acknowledged


@given(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=8), st.data())
def test_any_changed_byte_is_noticed_and_no_changed_entry_is_believed(leaves: list[bytes], data: st.DataObject) -> None:
    whole, wanted = file_of(leaves)
    at = data.draw(st.integers(0, len(whole) - 65))
    flipped = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    read = scan(flipped, 0)
    assert list(read.frames) == wanted[: len(read.frames)]
    assert read.damage is not None
    assert read.damage.offset == read.end <= at
    # A later entry of another batch proves that this one had been on disk.
    assert read.damage.acknowledged == (len(read.frames) + 1 < len(wanted))


@given(st.binary(max_size=300), st.integers(0, 2**64 - 1))
def test_whatever_the_bytes_reading_does_not_fail(data: bytes, first: int) -> None:
    read = scan(data, first)
    assert (read.damage is None) == (not data[read.end :].strip(b"\0"))


def test_a_hole_within_an_unsynced_batch_is_a_torn_write() -> None:
    data, wanted = file_of([b"one", b"two", b"three"], batch=3)
    hole = wanted[0].size
    torn = data[:hole] + bytes(wanted[1].size) + data[hole + wanted[1].size :]
    assert scan(torn, 0).damage == Damage(hole, acknowledged=False)


def test_a_hole_that_a_later_batch_vouches_for_is_damage() -> None:
    data, wanted = file_of([b"one", b"two", b"three"], batch=1)
    hole = wanted[0].size
    lost = data[:hole] + bytes(wanted[1].size) + data[hole + wanted[1].size :]
    assert scan(lost, 0).damage == Damage(hole, acknowledged=True)


def test_an_entry_with_the_wrong_number_is_not_read() -> None:
    data = encode(0, 1, 0, b"a") + encode(2, 1, 1, b"c")
    assert [frame.index for frame in frames(data, 0)[0]] == [0]


def test_a_length_beyond_the_file_is_not_followed() -> None:
    header = struct.pack(">4sIQQQI", b"\xf5RG1", MAX_LEAF_BYTES, 0, 0, 0, 0)
    assert len(header) == HEADER_BYTES
    assert scan(header + b"x", 0).damage == Damage(0, acknowledged=False)
