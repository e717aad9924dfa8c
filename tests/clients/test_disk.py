from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from rankgate.clients.disk import lock_folder, replace_file, reserve, write_at


def test_a_folder_is_locked_once_and_private(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    lock = lock_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    with pytest.raises(BlockingIOError):
        lock_folder(folder)
    os.close(lock)
    os.close(lock_folder(folder))


def test_a_lock_that_is_refused_leaks_no_descriptor(tmp_path: Path) -> None:
    lock = lock_folder(tmp_path / "a")
    before = len(list(Path("/dev/fd").iterdir()))
    with pytest.raises(BlockingIOError):
        lock_folder(tmp_path / "a")
    assert len(list(Path("/dev/fd").iterdir())) == before
    os.close(lock)


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_replaced_as_a_whole(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "mark"
    replace_file(path, "a longer text", durable=durable)
    replace_file(path, "short", durable=durable)
    assert path.read_text() == "short"
    assert [one.name for one in tmp_path.iterdir()] == ["mark"]


def test_reserved_room_reads_as_zeros_and_bytes_go_where_they_belong(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+b") as file:
        reserve(file.fileno(), 10)
        write_at(file.fileno(), b"abc", 4)
        assert file.read() == b"\0\0\0\0abc\0\0\0"
