"""Cards and national identifiers made of digits: what is found, and what only resembles it."""

from __future__ import annotations

import pytest

from rankgate.detect import Detector

FOUND = [
    ("CREDIT_CARD", "4012888888881881"),
    ("CREDIT_CARD", "4012 8888 8888 1881"),
    ("CREDIT_CARD", "4012-8888-8888-1881"),
    ("CREDIT_CARD", "4012 8888\n8888 1881"),
    ("CREDIT_CARD", "**4012888888881881**"),
    ("CREDIT_CARD", "3782 822463 10005"),
    ("CREDIT_CARD", "4 0 1 2 8 8 8 8 8 8 8 8 1 8 8 1"),
    ("CREDIT_CARD", "x4012888888881881y"),
    ("CREDIT_CARD", "4012.8888.8888.1881"),
    ("CREDIT_CARD", "4012+8888+8888+1881"),
    ("US_SSN", "219-09-9998"),
    ("US_SSN", "219 09 9998"),
    ("US_SSN", "his ssn: 219099998"),
    ("UK_NHS", "943 476 5919"),
    ("UK_NHS", "NHS no 9434765919"),
    ("IN_AADHAAR", "2341 2341 2346"),
    ("IN_AADHAAR", "aadhaar 234123412346"),
    ("PL_PESEL", "44051401359"),
    ("DE_TAX_ID", "86 095 742 719"),
    ("DE_TAX_ID", "36574261809"),
    ("UK_NHS", "NHS 94\n3 476 5919"),
]
CLEAN = [
    "4012888888881882",
    "order 234123412346",
    "219099998",
    "000-12-3456",
    "666-12-3456",
    "912-34-5678",
    "219-00-9998",
    "219-09-0000",
    "219-09 9998",
    "9434765919",
    "234123412346",
    "+1 943 476 5919",
    "call 943 476 5919",
    "1234 5678 9012 3456",
    "4012 8888 8888",
    "4012\n8888\n8888\n1881",
    "1 0 0 1 0 1 1 0 0 0 1 1 1 0 0 1 0 1",
    "0000000000000000",
]
TYPES = {"DE_TAX_ID", "PL_PESEL", "IN_AADHAAR", "UK_NHS", "US_SSN", "CREDIT_CARD"}


@pytest.mark.parametrize(("name", "text"), FOUND)
def test_a_value_is_found_once(name: str, text: str, detector: Detector) -> None:
    assert [one.type for one in detector.detect(text)] == [name]


@pytest.mark.parametrize("text", CLEAN)
def test_a_look_alike_is_left_alone(text: str, detector: Detector) -> None:
    assert not TYPES & {one.type for one in detector.detect(text)}


def test_the_number_alone_is_found(detector: Detector) -> None:
    text = "4012 8888 8888 1881 123"
    (found,) = detector.detect(text)
    assert text[found.start : found.end] == "4012 8888 8888 1881"


def test_two_numbers_in_one_run_are_both_found(detector: Detector) -> None:
    assert len(detector.detect("219-09-9998 536-90-4399")) == 2


def test_a_card_among_many_single_digits_is_found(detector: Detector) -> None:
    text = " ".join("99940128888888818811227")
    assert [one.type for one in detector.detect(text)] == ["CREDIT_CARD"]


def test_the_kind_that_is_named_wins(detector: Detector) -> None:
    assert [one.type for one in detector.detect("tax id 47650813918")] == ["DE_TAX_ID"]
    assert [one.type for one in detector.detect("PESEL 47650813918")] == ["PL_PESEL"]
