"""The table of docs/detection.md is what the corpus gives, and its lists are what the code has."""

from __future__ import annotations

from pathlib import Path

from detection import REGIONS, table

from rankgate.detect import Detector
from rankgate.settings import STRUCTURED_TYPES

DOC = (Path(__file__).parents[1] / "docs" / "detection.md").read_text(encoding="utf-8")


def test_the_table_is_what_the_corpus_gives() -> None:
    detector = Detector(STRUCTURED_TYPES, phone_regions=REGIONS, cache_bytes=0)
    _, _, written = DOC.partition("| what | texts or values | found |\n|---|---|---|\n")
    assert written.splitlines() == list(table(detector))


def test_every_type_is_described() -> None:
    described, _, _ = DOC.partition("## Forms")
    assert [name for name in STRUCTURED_TYPES if name not in described] == []
