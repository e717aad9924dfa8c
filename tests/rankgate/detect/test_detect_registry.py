"""Every structured type has a recogniser that keeps the rules of the interface."""

from __future__ import annotations

import re2

from rankgate.detect.recognizer import LONGEST
from rankgate.detect.registry import recognizers
from rankgate.settings import STRUCTURED_TYPES

ALL = recognizers(("US", "GB"))


def test_the_recognisers_find_exactly_the_structured_types() -> None:
    assert {name for one in ALL for name in one.types} == set(STRUCTURED_TYPES)


def test_every_recogniser_brings_a_positive_of_each_of_its_types() -> None:
    for one in ALL:
        assert {name for name, _ in one.positives} == set(one.types)
        for name, text in one.positives:
            assert name in {found.type for found in one.find(text)}


def test_every_positive_fires_one_of_the_triggers() -> None:
    for one in ALL:
        for _, text in one.positives:
            assert any(re2.search(trigger, text) for trigger in one.triggers), (one.types, text)


def test_a_window_overlap_holds_the_longest_value() -> None:
    assert all(len(text) < LONGEST for one in ALL for _, text in one.positives if not one.long)
