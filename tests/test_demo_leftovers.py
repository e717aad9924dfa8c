"""The next demo removes what a killed one left, and nothing else."""

from __future__ import annotations

import time
from pathlib import Path

from rankgate.clients.state import StateDirectory
from rankgate.demo.leftovers import remove_leftovers

LATER = 3600.0


def folder(tmp_path: Path, name: str) -> Path:
    made = tmp_path / name
    with StateDirectory(made).locked():
        (made / "settings.toml").write_text("")
    return made


def test_a_folder_that_nobody_holds_is_removed(tmp_path: Path) -> None:
    left = folder(tmp_path, "rankgate-left")
    assert remove_leftovers(tmp_path, time.time() + LATER) == [left]
    assert not left.exists()


def test_a_folder_in_use_stays(tmp_path: Path) -> None:
    used = folder(tmp_path, "rankgate-used")
    with StateDirectory(used).locked():
        assert remove_leftovers(tmp_path, time.time() + LATER) == []
    assert (used / "settings.toml").exists()


def test_what_is_young_or_no_demos_folder_stays(tmp_path: Path) -> None:
    folder(tmp_path, "rankgate-young")
    (tmp_path / "rankgate-other").mkdir()
    (tmp_path / "rankgate-link").symlink_to(folder(tmp_path, "elsewhere"))
    assert remove_leftovers(tmp_path) == []
    assert remove_leftovers(tmp_path, time.time() + LATER) == [tmp_path / "rankgate-young"]
    assert (tmp_path / "elsewhere" / "lock").exists()
