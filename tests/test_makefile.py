"""Every task of the Makefile runs whatever lies beside it: the folders bench/ and docs/ have the names of tasks."""

from __future__ import annotations

import re
from pathlib import Path

MAKEFILE = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")


def test_every_task_runs_though_a_folder_has_its_name() -> None:
    (phony,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert phony.split() == re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE)
