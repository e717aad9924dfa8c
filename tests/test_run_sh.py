"""tests/run.sh counts honestly: a ring that died, ran nothing or cannot run never looks like one that passed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from running import environment

RUN = Path(__file__).parent / "run.sh"


def run(folder: Path, *rings: str, says: str = "", code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run rings with a Python that prints `says` and exits with `code`."""
    python = folder / "python"
    python.write_text(f"#!/bin/sh\nprintf '%s\\n' '{says}'\nexit {code}\n")
    python.chmod(0o755)
    return subprocess.run(
        [RUN, *rings],
        capture_output=True,
        text=True,
        check=False,
        env=environment(PYTHON=str(python), RANKGATE_CACHE=str(folder / "cache"), PATH="/usr/bin:/bin"),
        timeout=60,
    )


def test_the_last_line_is_the_total_over_all_rings(tmp_path: Path) -> None:
    done = run(tmp_path, "core", "clients", says="82 passed, 3 skipped, 9 deselected in 0.72s")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-3:] == [
        "ran: core (82 passed, 3 skipped)",
        "ran: clients (82 passed, 3 skipped)",
        "164 passed, 0 failed, 6 skipped",
    ]


@pytest.mark.parametrize(
    ("says", "code", "total"),
    [
        ("2 failed, 81 passed in 0.71s", 1, "81 passed, 2 failed, 0 skipped"),
        ("1 failed, 1 passed, 2 errors in 61.00s (0:01:01)", 1, "1 passed, 3 failed, 0 skipped"),
        ("Segmentation fault", 139, "0 passed, 1 failed, 0 skipped"),
        ("5 passed in 0.10s", 3, "5 passed, 1 failed, 0 skipped"),
    ],
)
def test_a_ring_that_failed_fails_the_run(tmp_path: Path, says: str, code: int, total: str) -> None:
    done = run(tmp_path, "core", says=says, code=code)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == total
    assert "failed: core" in done.stdout


@pytest.mark.parametrize(("says", "code"), [("no tests ran in 0.01s", 5), ("7 skipped in 0.01s", 0)])
def test_a_ring_of_which_nothing_ran_is_named(tmp_path: Path, says: str, code: int) -> None:
    done = run(tmp_path, "core", says=says, code=code)
    assert "not run: core (no test of it ran)" in done.stdout
    assert "ran: core (0" not in done.stdout


def test_a_ring_whose_tool_is_not_there_is_named_with_the_reason(tmp_path: Path) -> None:
    done = run(tmp_path, "wire-oracle", says="no network", code=1)
    assert done.returncode == 0
    assert "not run: wire-oracle (pip could not install xds-protos==1.85.0" in done.stdout


def test_an_unknown_ring_is_wrong_usage(tmp_path: Path) -> None:
    done = run(tmp_path, "cores")
    assert done.returncode == 2
    assert "no ring cores; there are: core clients flow" in done.stderr
