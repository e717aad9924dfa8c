"""The files of one log: what is read back after any cut and any damage."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rankgate.audit.frame import HEADER_BYTES
from rankgate.clients.disk import sync_file
from rankgate.clients.segments import PREAMBLE, Entry, LogFiles, Opened, SyncError

BIRTH = 1_790_000_000_000
SEGMENT = 1024


def create(slot: Path, birth: int = BIRTH) -> LogFiles:
    slot.mkdir(parents=True, exist_ok=True)
    return LogFiles.create(slot, birth, SEGMENT, sync_file)


def reopen(files: LogFiles) -> Opened:
    files.close()
    return LogFiles.open(files.folder, SEGMENT, sync_file)


def fill(files: LogFiles, count: int, size: int = 100, *, batch: int = 1) -> None:
    entries = [Entry(files.next + i, 1000 + files.next + i, bytes([65 + i % 26]) * size) for i in range(count)]
    while entries:
        taken = files.write(entries[:batch])
        entries = entries[taken:]


def leaves(files: LogFiles) -> list[tuple[int, int, bytes]]:
    found: list[tuple[int, int, bytes]] = []
    while page := files.read(files.first + len(found), 7):
        found += [(frame.index, frame.ms, frame.leaf) for frame in page]
    return found


def test_entries_go_on_through_segments_and_restarts(tmp_path: Path) -> None:
    files = create(tmp_path)
    fill(files, 20)
    before = leaves(files)
    opened = reopen(files)
    assert (opened.damaged_at, opened.cut_bytes) == (None, 0)
    fill(opened.files, 20)
    after = leaves(opened.files)
    assert after[:20] == before
    assert [index for index, _, _ in after] == list(range(40))
    assert len(list(files.folder.glob("*.seg"))) > 4


def test_an_entry_larger_than_a_segment_gets_a_segment_of_its_own(tmp_path: Path) -> None:
    files = create(tmp_path)
    fill(files, 1)
    fill(files, 1, size=5 * SEGMENT)
    fill(files, 1)
    assert [len(leaf) for _, _, leaf in leaves(reopen(files).files)] == [100, 5 * SEGMENT, 100]


def test_room_is_made_before_an_entry_is_written(tmp_path: Path) -> None:
    files = create(tmp_path)
    (segment,) = files.folder.glob("*.seg")
    assert segment.stat().st_size == SEGMENT
    assert segment.stat().st_blocks * 512 >= SEGMENT


def test_scenario_56_a_torn_tail_is_cut_at_the_last_good_record_wherever_it_was_torn(tmp_path: Path) -> None:
    files = create(tmp_path)
    fill(files, 3)
    files.close()
    (segment,) = files.folder.glob("*.seg")
    whole = segment.read_bytes()
    size = HEADER_BYTES + 100
    begin = len(PREAMBLE) + 2 * size
    for cut in range(size):
        for torn in (whole[: begin + cut], whole[: begin + cut] + bytes(len(whole) - begin - cut)):
            segment.write_bytes(torn)
            opened = LogFiles.open(files.folder, SEGMENT, sync_file)
            assert opened.damaged_at is None
            assert opened.cut_bytes == max(0, len(torn.rstrip(b"\0")) - begin)
            assert [index for index, _, _ in leaves(opened.files)] == [0, 1]
            fill(opened.files, 1, size=50)
            assert leaves(reopen(opened.files).files)[2] == (2, 1002, b"A" * 50)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_scenario_56_after_any_damage_only_whole_entries_in_order_are_read(tmp_path: Path, data: st.DataObject) -> None:
    files = create(Path(tempfile.mkdtemp(dir=tmp_path)))
    fill(files, 12, batch=3)
    wanted = leaves(files)
    files.close()
    segment = data.draw(st.sampled_from(sorted(files.folder.glob("*.seg"))))
    content = bytearray(segment.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    segment.write_bytes(content)
    opened = LogFiles.open(files.folder, SEGMENT, sync_file)
    assert leaves(opened.files) == wanted[: opened.files.next]
    assert opened.files.next == 12 or opened.damaged_at is not None or opened.cut_bytes
    opened.files.close()


def test_scenario_56_damage_before_a_later_batch_is_told_from_a_torn_write(tmp_path: Path) -> None:
    files = create(tmp_path)
    fill(files, 3)
    files.close()
    (segment,) = files.folder.glob("*.seg")
    content = bytearray(segment.read_bytes())
    content[len(PREAMBLE) + HEADER_BYTES + 100 + HEADER_BYTES + 5] ^= 1
    segment.write_bytes(content)
    assert LogFiles.open(files.folder, SEGMENT, sync_file).damaged_at == 1


@pytest.mark.parametrize("fate", ["missing", "empty", "foreign"])
def test_a_lost_segment_is_damage(tmp_path: Path, fate: str) -> None:
    files = create(tmp_path)
    fill(files, 20)
    files.close()
    second = sorted(files.folder.glob("*.seg"))[1]
    if fate == "missing":
        second.unlink()
    else:
        second.write_bytes(b"" if fate == "empty" else b"\x7fELF" + bytes(SEGMENT))
    assert LogFiles.open(files.folder, SEGMENT, sync_file).damaged_at == int(second.stem)


def test_a_log_whose_segments_are_all_gone_is_damaged_not_new(tmp_path: Path) -> None:
    files = create(tmp_path)
    fill(files, 3)
    files.close()
    for segment in files.folder.glob("*.seg"):
        segment.unlink()
    assert LogFiles.open(files.folder, SEGMENT, sync_file).damaged_at == 0


def test_a_log_that_lost_entries_the_stream_was_told_of_is_damaged(tmp_path: Path) -> None:
    files = create(tmp_path)
    fill(files, 3)
    files.deliver(3)
    files.save_mark()
    files.close()
    (segment,) = files.folder.glob("*.seg")
    segment.write_bytes(segment.read_bytes()[: len(PREAMBLE) + 2 * (HEADER_BYTES + 100)])
    assert LogFiles.open(files.folder, SEGMENT, sync_file).damaged_at == 2


def test_a_segment_that_was_not_finished_is_removed(tmp_path: Path) -> None:
    files = create(tmp_path)
    fill(files, 2)
    (files.folder / f"{2:020d}.new").write_bytes(b"half")
    opened = reopen(files)
    assert opened.files.next == 2
    assert not list(files.folder.glob("*.new"))


def test_what_stands_behind_the_end_of_an_ended_log_does_not_count(tmp_path: Path) -> None:
    files = create(tmp_path)
    fill(files, 12)
    files.end("sync_failed")
    (files.folder / "ended").write_text('{"entries": 4, "reason": "sync_failed"}')
    opened = reopen(files)
    assert opened.files.ended
    assert len(leaves(opened.files)) == opened.files.next == 4
    assert opened.files.undelivered_bytes == 4 * (HEADER_BYTES + 100)


def test_bytes_are_counted_from_the_entry_the_stream_holds(tmp_path: Path) -> None:
    files = create(tmp_path)
    fill(files, 20)
    size = HEADER_BYTES + 100
    for mark in (0, 7, 20, 3):
        files.deliver(mark)
        assert files.undelivered_bytes == (20 - mark) * size
    assert reopen(files).files.undelivered_bytes == 20 * size


def test_only_segments_the_stream_holds_whole_are_dropped_and_never_the_last(tmp_path: Path) -> None:
    files = create(tmp_path)
    fill(files, 20)
    assert not files.drop_oldest()
    files.deliver(10)
    while files.drop_oldest():
        pass
    assert 0 < files.first <= 10
    held = files.first
    files.deliver(20)
    files.save_mark()
    while files.drop_oldest():
        pass
    assert held < files.first < 20
    opened = reopen(files)
    assert opened.damaged_at is None
    assert leaves(opened.files)[0][0] == opened.files.first == files.first


def test_a_failed_sync_is_told_apart_from_a_failed_write(tmp_path: Path) -> None:
    files = create(tmp_path)

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    files._sync = fail
    with pytest.raises(SyncError):
        fill(files, 1)
    assert files.next == 0
    assert files.read(0, 1) == []
