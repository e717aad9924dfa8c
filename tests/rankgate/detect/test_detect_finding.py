"""Overlapping findings become their union."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from rankgate.detect.finding import PRIORITY, Finding, union
from rankgate.settings import STRUCTURED_TYPES

SPANS = st.builds(
    lambda name, start, length: Finding(name, start, start + length, 0.5),
    st.sampled_from(STRUCTURED_TYPES), st.integers(0, 60), st.integers(1, 20),
)  # fmt: skip


def test_priority_ranks_every_structured_type_once() -> None:
    assert sorted(PRIORITY) == sorted(STRUCTURED_TYPES)


def test_an_overlap_is_one_span_of_the_first_type_and_the_best_score() -> None:
    found = union([Finding("PHONE_NUMBER", 4, 12, 0.9), Finding("CREDIT_CARD", 0, 6, 0.4)])
    assert found == (Finding("CREDIT_CARD", 0, 12, 0.9, ("PHONE_NUMBER",)),)


def test_findings_that_only_touch_stay_apart() -> None:
    apart = (Finding("US_SSN", 0, 4, 1.0), Finding("US_SSN", 4, 8, 1.0))
    assert union(reversed(apart)) == apart


@given(st.lists(SPANS, max_size=12))
def test_the_union_covers_the_same_characters_and_never_overlaps(spans: list[Finding]) -> None:
    found = union(spans)
    assert all(left.end <= right.start for left, right in pairwise(found))
    covered = {at for one in spans for at in range(one.start, one.end)}
    assert {at for one in found for at in range(one.start, one.end)} == covered
