"""Bare numbers count only where they prove themselves, or their key names them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankgate.detect.numbers import in_number


def _types(literal: str, key: str = "value") -> list[str]:
    return [one.type for one in in_number(literal, key)]


@pytest.mark.parametrize(
    ("literal", "key", "found"),
    [
        ("4012888888881881", "value", "CREDIT_CARD"),
        ("-4012888888881881", "value", "CREDIT_CARD"),
        ("4012888888881881.0", "value", "CREDIT_CARD"),
        ("4.012888888881881e15", "value", "CREDIT_CARD"),
        ("378282246310005", "n", "CREDIT_CARD"),
        ("234123412346", "aadhaarNumber", "IN_AADHAAR"),
        ("234123412346", "uid", "IN_AADHAAR"),
        ("44051401359", "n", "PL_PESEL"),
        ("36574261809", "n", "DE_TAX_ID"),
        ("219099998", "ssn", "US_SSN"),
        ("219099998", "customerSSN", "US_SSN"),
        ("219099998", "social_security_number", "US_SSN"),
        ("9434765919", "nhsNumber", "UK_NHS"),
        ("4155552671", "phone", "PHONE_NUMBER"),
        ("19840312", "dateOfBirth", "DATE_OF_BIRTH"),
    ],
)
def test_a_proven_or_named_number_is_found(literal: str, key: str, found: str) -> None:
    assert _types(literal, key) == [found]


@pytest.mark.parametrize(
    ("literal", "key"),
    [
        ("219099998", "id"),
        ("234123412346", "id"),
        ("234123412346", "fluid"),
        ("234123412347", "aadhaar"),
        ("9434765919", "views"),
        ("4012888888881882", "value"),
        ("0.4012888888881881", "score"),
        ("4012888888881881.5", "price"),
        ("1700000000", "created"),
        ("1700000000000", "ts_ms"),
        ("1700000000000000", "ts_us"),
        ("4096", "total_tokens"),
        ("1e400", "x"),
        ("1e999999999999", "x"),
        ("NaN", "x"),
        ("", "x"),
        ("true", "x"),
        ("4155552671", "telemetry_bytes"),
        ("99999999999999999999999999", "x"),
        ("19841399", "dob"),
        ("000000000", "ssn"),
    ],
)
def test_other_numbers_are_not(literal: str, key: str) -> None:
    assert _types(literal, key) == []


@given(st.integers(1_000_000_000, 2_000_000_000), st.sampled_from([1, 1000, 1_000_000, 1_000_000_000]))
def test_unix_timestamps_of_any_unit_are_never_findings(second: int, unit: int) -> None:
    assert _types(str(second * unit), "timestamp") == []


@given(st.floats(allow_nan=False, allow_infinity=False).filter(lambda value: value != int(value)))
def test_a_fraction_is_never_a_finding(value: float) -> None:
    assert _types(repr(value), "score") == []


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_literal_and_key_are_survived(literal: str, key: str) -> None:
    list(in_number(literal, key))


def test_now_is_not_a_finding() -> None:
    assert _types(str(time.time_ns()), "now") == []
