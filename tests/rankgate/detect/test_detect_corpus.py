"""The bars of detection on the project's own corpus, by counts."""

from __future__ import annotations

from collections import Counter

import corpus
import pytest

from rankgate.detect import Detector, Finding
from rankgate.settings import STRUCTURED_TYPES

BARS = {"CREDIT_CARD": 0.98, "PHONE_NUMBER": 0.90}


def _overlap(finding: Finding, start: int, end: int) -> float:
    inside = max(0, min(finding.end, end) - max(finding.start, start))
    return inside / (max(finding.end, end) - min(finding.start, start))


@pytest.fixture(scope="module")
def counts(detector: Detector) -> dict[str, Counter[str]]:
    """Hits, misses and false findings by type on plain text and hard negatives."""
    found: dict[str, Counter[str]] = {name: Counter() for name in STRUCTURED_TYPES}
    for row in (*corpus.rows("plain"), *corpus.rows("negative")):
        left = list(detector.detect(row.text))
        for name, start, end in row.spans:
            match = next((one for one in left if one.type == name and _overlap(one, start, end) >= 0.5), None)
            found[name]["hit" if match else "miss"] += 1
            if match:
                left.remove(match)
        for one in left:
            found[one.type]["false"] += 1
    return found


def _f(counter: Counter[str], beta: float) -> float:
    weighted = (1 + beta**2) * counter["hit"]
    return weighted / (weighted + beta**2 * counter["miss"] + counter["false"])


def test_the_corpus_holds_every_type_and_every_kind() -> None:
    assert {name for row in corpus.rows("plain") for name, _, _ in row.spans} == set(STRUCTURED_TYPES)
    assert {row.kind for row in corpus.rows()} == {"plain", "unicode", "encoded", "layout", "negative"}
    assert len(corpus.rows("negative")) >= 100


@pytest.mark.parametrize("name", STRUCTURED_TYPES)
def test_each_type_reaches_its_f1(name: str, counts: dict[str, Counter[str]]) -> None:
    assert counts[name]["hit"] >= 16
    assert _f(counts[name], 1) >= BARS.get(name, 0.93), counts[name]


def test_all_structured_types_together_reach_their_f2(counts: dict[str, Counter[str]]) -> None:
    assert _f(sum(counts.values(), Counter()), 2) >= 0.93


def test_hard_negatives_hold_nothing(detector: Detector) -> None:
    false = [(row.text, detector.detect(row.text)) for row in corpus.rows("negative") if detector.detect(row.text)]
    assert len(false) <= len(corpus.rows("negative")) // 50, false


@pytest.mark.parametrize("row", corpus.rows("unicode"), ids=lambda row: row.id)
def test_scenario_42_every_unicode_evasion_is_found_whole(row: corpus.Row, detector: Detector) -> None:
    ((name, start, end),) = row.spans
    found = [one for one in detector.detect(row.text) if one.type == name]
    # A value that needs a word beside it is found without that word.
    assert any(start <= one.start and one.end == end for one in found), found


def test_scenario_42_encoded_values_are_found_in_95_of_100_rows(detector: Detector) -> None:
    missed = []
    for row in corpus.rows("encoded"):
        ((name, start, end),) = row.spans
        found = [one for one in detector.detect(row.text) if one.type == name and start <= one.start < one.end <= end]
        if not found:
            missed.append(row.id)
    assert len(missed) <= len(corpus.rows("encoded")) // 20, missed


@pytest.mark.parametrize("encoding", ["base64", "base64url", "base64 twice", "hex", "percent", "decimal entities"])
def test_scenario_42_a_hit_inside_an_encoding_covers_the_whole_run(encoding: str, detector: Detector) -> None:
    covered = [
        any(one.start <= start and end <= one.end for one in detector.detect(row.text))
        for row in corpus.rows("encoded")
        for _, start, end in row.spans
        if row.encoding == encoding
    ]
    assert covered
    assert sum(covered) >= 0.95 * len(covered)


@pytest.mark.parametrize("row", corpus.rows("layout"), ids=lambda row: row.id)
def test_scenario_42_spaced_broken_and_glued_values_are_found(row: corpus.Row, detector: Detector) -> None:
    ((name, start, end),) = row.spans
    assert any(one.type == name and start <= one.start and one.end <= end for one in detector.detect(row.text))


def test_every_encoding_of_every_gold_value_is_found(detector: Detector) -> None:
    missed = [
        (name, encoding)
        for name, phrase, _ in corpus.values()[::5]
        for encoding, hidden in corpus.encodings(phrase).items()
        if all(one.type != name for one in detector.detect(hidden))
    ]
    assert missed == []
