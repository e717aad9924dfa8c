"""Dates of birth: what is found, and what only resembles it."""

from __future__ import annotations

import pytest

from rankgate.detect import Detector

FOUND = [
    ("DATE_OF_BIRTH", "date of birth: 1984-03-12"),
    ("DATE_OF_BIRTH", "DOB 12/03/1984"),
    ("DATE_OF_BIRTH", "born on March 12, 1984"),
    ("DATE_OF_BIRTH", "born 12 Mar 84"),
    ("DATE_OF_BIRTH", "born in Paris on 3/4/85"),
    ("DATE_OF_BIRTH", "geb. am 12.03.1984"),
    ("DATE_OF_BIRTH", "née le 3 août 1985"),
    ("DATE_OF_BIRTH", "fecha de nacimiento: 3 de marzo de 1985"),
    ("DATE_OF_BIRTH", "nato a Roma il 03/04/1985"),
    ("DATE_OF_BIRTH", "12/03/1984 (DOB)"),
    ("DATE_OF_BIRTH", "dob=19840312"),
    ("DATE_OF_BIRTH", '"dateOfBirth":"1984-03-12"'),
    ("DATE_OF_BIRTH", "生年月日: 1985年3月4日"),
    ("DATE_OF_BIRTH", "birthday March 3rd, 1985"),
    ("DATE_OF_BIRTH", "date of birth1984-03-12"),
]
CLEAN = [
    "1984-03-12",
    "born in 1984",
    "born 12 times",
    "she was born to lead 12 people",
    "date of birth unknown; signed 2024-01-02",
    "born-again 13.2.7",
]
TYPES = {"DATE_OF_BIRTH"}


@pytest.mark.parametrize(("name", "text"), FOUND)
def test_a_value_is_found_once(name: str, text: str, detector: Detector) -> None:
    assert [one.type for one in detector.detect(text)] == [name]


@pytest.mark.parametrize("text", CLEAN)
def test_a_look_alike_is_left_alone(text: str, detector: Detector) -> None:
    assert not TYPES & {one.type for one in detector.detect(text)}
