"""A lock file has one holder, and is free when the holder is done, however it ended."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from rankgate.clients.locks import held, take
from rankgate.errors import SettingsError

HOLDER = """
import pathlib, sys
from rankgate.clients.locks import take
take(pathlib.Path(sys.argv[1]))
print("held", flush=True)
input()
"""


def hold(path: Path) -> AbstractContextManager[None]:
    return held(path, taken="it is taken", unusable="it cannot be used")


def test_a_lock_is_taken_once_and_its_file_is_private(tmp_path: Path) -> None:
    lock = take(tmp_path / "lock")
    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600
    before = len(list(Path("/dev/fd").iterdir()))
    with pytest.raises(BlockingIOError):
        take(tmp_path / "lock")
    assert len(list(Path("/dev/fd").iterdir())) == before
    os.close(lock)
    os.close(take(tmp_path / "lock"))


def test_who_comes_second_is_told_so(tmp_path: Path) -> None:
    with hold(tmp_path / "lock"), pytest.raises(SettingsError, match=r"^it is taken$"), hold(tmp_path / "lock"):
        pytest.fail("held twice")


def test_a_fault_inside_frees_it(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), hold(tmp_path / "lock"):
        raise RuntimeError
    with hold(tmp_path / "lock"):
        pass


def test_a_lock_that_cannot_be_made_is_named_with_its_cause(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="it cannot be used: No such file"), hold(tmp_path / "none" / "lock"):
        pytest.fail("held")


def test_the_kernel_frees_it_when_its_holder_is_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "lock")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline()
        with pytest.raises(BlockingIOError):
            take(tmp_path / "lock")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        os.close(take(tmp_path / "lock"))
