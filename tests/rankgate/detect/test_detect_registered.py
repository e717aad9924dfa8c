"""IBAN, fiscal code, NIF and NIE: what is found, and what only resembles it."""

from __future__ import annotations

import pytest

from rankgate.detect import Detector

FOUND = [
    ("IBAN_CODE", "DE89 3704 0044 0532 0130 00"),
    ("IBAN_CODE", "gb82west12345698765432"),
    ("IBAN_CODE", "ibanDE89370400440532013000x"),
    ("IBAN_CODE", "BE68-5390-0754-7034 and"),
    ("IBAN_CODE", "DE89 3704 0044 0532 0130 00 please"),
    ("IT_FISCAL_CODE", "RCCMNL83S18D969H"),
    ("IT_FISCAL_CODE", "rccmnl83s18d969h"),
    ("ES_NIF", "12345678Z"),
    ("ES_NIF", "12.345.678-Z"),
    ("ES_NIF", "X1234567L"),
    ("ES_NIF", "id12345678Z"),
]
CLEAN = [
    "DE88 3704 0044 0532 0130 00",
    "XX89370400440532013000",
    "RCCMNL83S18D969A",
    "12345678A",
    "112345678Z",
    "12345678Zx",
    "DE89",
    "00000000T",
]
TYPES = {"IT_FISCAL_CODE", "ES_NIF", "IBAN_CODE"}


@pytest.mark.parametrize(("name", "text"), FOUND)
def test_a_value_is_found_once(name: str, text: str, detector: Detector) -> None:
    assert [one.type for one in detector.detect(text)] == [name]


@pytest.mark.parametrize("text", CLEAN)
def test_a_look_alike_is_left_alone(text: str, detector: Detector) -> None:
    assert not TYPES & {one.type for one in detector.detect(text)}
