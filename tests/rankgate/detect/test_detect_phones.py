"""Phone numbers: what is found, and what only resembles it."""

from __future__ import annotations

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankgate.detect import Detector
from rankgate.detect.phones import e164
from rankgate.errors import SettingsError

REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "IN")
FOUND = [
    ("PHONE_NUMBER", "+44 20 7946 0958"),
    ("PHONE_NUMBER", "+12025550123"),
    ("PHONE_NUMBER", "001-415-555-2671x890"),
    ("PHONE_NUMBER", "001-555-123-4567x890"),
    ("PHONE_NUMBER", "555.123.4567x55"),
    ("PHONE_NUMBER", "(415) 555-2671"),
    ("PHONE_NUMBER", "415-555-2671"),
    ("PHONE_NUMBER", "415.555.2671"),
    ("PHONE_NUMBER", "1-800-555-0199"),
    ("PHONE_NUMBER", "020 7946 0958"),
    ("PHONE_NUMBER", "(0117) 4960123"),
    ("PHONE_NUMBER", "0171/1234567"),
    ("PHONE_NUMBER", "06 12 34 56 78"),
    ("PHONE_NUMBER", "+33 (0)1 23 45 67 89"),
    ("PHONE_NUMBER", "98765 43210"),
    ("PHONE_NUMBER", "mobile: 9876543210"),
    ("PHONE_NUMBER", "phone=4155552671"),
    ("PHONE_NUMBER", "tel+442079460958"),
    ("PHONE_NUMBER", "call 555-0123"),
    ("PHONE_NUMBER", "+49 30\n901820"),
    ("PHONE_NUMBER", "91 123 45 67"),
    ("PHONE_NUMBER", "reach me on 4155552671"),
]
CLEAN = [
    "order 415-555-2671",
    "SKU 123-456-7890",
    "2023-04-11 12:30:45",
    "12.03.2024 12:30",
    "4155552671",
    "1700000000",
    "0.67653902",
    "192.168.100.200",
    "isbn 0-306-40615-2",
    "978-3-16-148410-0",
    "zip 12345-6789",
    "1-2-3-4-5-6-7",
    "+1 for this",
    "$415 555 2672",
    "population 1 234 567 890",
    "550e8400-e29b-41d4-a716-446655440000",
    "0.5-0.75-1.25",
    "0000000000",
]
TYPES = {"PHONE_NUMBER"}


@pytest.mark.parametrize(("name", "text"), FOUND)
def test_a_value_is_found_once(name: str, text: str, detector: Detector) -> None:
    assert [one.type for one in detector.detect(text)] == [name]


@pytest.mark.parametrize("text", CLEAN)
def test_a_look_alike_is_left_alone(text: str, detector: Detector) -> None:
    assert not TYPES & {one.type for one in detector.detect(text)}


def test_an_extension_belongs_to_the_number(detector: Detector) -> None:
    text = "dial (415) 555-2671 ext. 12 now"
    (found,) = detector.detect(text)
    assert text[found.start : found.end] == "(415) 555-2671 ext. 12"


def test_national_numbers_follow_the_configured_regions() -> None:
    german = Detector(["PHONE_NUMBER"], phone_regions=("DE",), cache_bytes=0)
    assert german.detect("0171/1234567")
    assert german.detect("(415) 555-2671") == ()
    assert german.detect("+1 415 555 2671")


def test_an_unknown_region_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="phone_regions names XX"):
        Detector(["PHONE_NUMBER"], phone_regions=("XX",), cache_bytes=0)


def test_beyond_the_budget_of_questions_a_shape_is_believed(detector: Detector) -> None:
    text = "+44 20 7946 0958, " * 200
    assert len(detector.detect(text)) == 200


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("+44 20 7946 0958", "+442079460958"),
        ("020 7946 0958", "+442079460958"),
        ("0044 20 7946 0958", "+442079460958"),
        ("(415) 555-2671 ext. 12", "+14155552671;ext=12"),
        ("12", None),
        ("", None),
    ],
)
def test_e164_is_one_form_for_all_writings(written: str, expected: str | None) -> None:
    assert e164(written, ("GB", "US")) == expected


def _asked(digits: str) -> str | None:
    """Return what phonenumbers alone says, region by region."""
    for name in REGIONS:
        try:
            parsed = phonenumbers.parse(digits, name)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number(parsed):
            return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    return None


@given(
    st.sampled_from(["", "0", "1", "44", "49", "0180", "39", "91"]), st.from_regex(r"[2-9][0-9]{4,10}", fullmatch=True)
)
@settings(deadline=None, max_examples=500)
def test_a_national_number_has_the_form_phonenumbers_gives_it(prefix: str, rest: str) -> None:
    assert e164(prefix + rest, REGIONS) == _asked(prefix + rest)
