"""Readings undo an encoding and lead back to what was encoded."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankgate.detect import Detector
from rankgate.detect.decode import READINGS, tags
from rankgate.detect.view import folded, plain

BY_NAME = {reading.name: reading for reading in READINGS}
VALUE = "jane.roe@example.org"


def _readings(name: str, text: str) -> list[tuple[str, tuple[int, int]]]:
    """Return (text, original span of VALUE in it) of each reading that holds VALUE."""
    found = []
    for view in BY_NAME[name].read(plain(text)):
        at = view.text.find(VALUE)
        if at >= 0:
            found.append((view.text, view.locate(at, at + len(VALUE))))
    return found


@pytest.mark.parametrize(
    ("name", "hidden"),
    [
        ("escapes", "".join(f"%{ord(one):02x}" for one in VALUE)),
        ("escapes", "".join(f"&#{ord(one)};" for one in VALUE)),
        ("escapes", "".join(f"&#x{ord(one):X};" for one in VALUE)),
        ("escapes", "".join(f"\\u{ord(one):04x}" for one in VALUE)),
        ("escapes", "".join(f"\\\\u{ord(one):04x}" for one in VALUE)),
        ("escapes", "".join(f"\\x{ord(one):02x}" for one in VALUE)),
        ("escapes", "jane.roe&commat;example&period;org"),
        ("base64", base64.b64encode(VALUE.encode()).decode()),
        ("base64", base64.urlsafe_b64encode(VALUE.encode()).decode().rstrip("=")),
        ("base64", base64.b64encode(VALUE.encode("utf-16-le")).decode()),
        ("base64", base64.encodebytes((VALUE + " " * 60).encode()).decode().strip()),
        ("hex", VALUE.encode().hex()),
        ("hex", VALUE.encode().hex(":").upper()),
        ("hex", ", ".join(f"0x{byte:02x}" for byte in VALUE.encode())),
        ("spaced", " ".join(VALUE)),
        ("wrapped", "jane.roe@exam\nple.org"),
        ("wrapped", "jane.roe@exam=\r\nple.org"),
    ],
)
def test_an_encoded_value_is_read_and_located(name: str, hidden: str) -> None:
    ((_, span),) = _readings(name, f"see {hidden} now")
    assert span == (4, 4 + len(hidden))


@pytest.mark.parametrize("glue", ["a", "ab", "abc"])
def test_base64_glued_to_letters_is_read_from_each_alignment(glue: str) -> None:
    hidden = glue + base64.b64encode(VALUE.encode()).decode()
    assert _readings("base64", hidden)


def test_an_escape_inside_a_word_is_located_exactly() -> None:
    text = "to jane.roe%40example.org, please"
    ((_, span),) = _readings("escapes", text)
    assert text[slice(*span)] == "jane.roe%40example.org"


def test_a_json_string_inside_a_json_string_is_read() -> None:
    text = json.dumps(json.dumps({"mail": VALUE, "note": "a\nb"}))
    assert _readings("escapes", text)


def test_letters_that_look_like_digits_are_read_as_digits() -> None:
    (view,) = BY_NAME["alike"].read(plain("card 4O12 8888 8888 l88l or"))
    assert view.text == "4012 8888 8888 1881"
    assert view.locate(0, len(view.text)) == (5, 24)


def test_a_word_beside_a_number_is_not_read_as_digits() -> None:
    assert list(BY_NAME["alike"].read(plain("lo 202 555 2084 oil"))) == []


def test_tag_characters_are_read() -> None:
    hidden = "".join(chr(0xE0000 + ord(one)) for one in VALUE)
    (view,) = tags(plain(f"hi{hidden}"))
    assert view.text == VALUE
    assert view.locate(0, len(VALUE)) == (2, 2 + len(VALUE))


@pytest.mark.parametrize("reading", READINGS, ids=lambda reading: reading.name)
@given(text=st.text(alphabet="ab01 4@.%&#;\\ux\n=-_/+OlZ", max_size=200))
def test_no_reading_is_longer_than_its_source_or_leads_outside_of_it(reading: object, text: str) -> None:
    for view in reading.read(folded(plain(text))):  # type: ignore[attr-defined]
        assert len(view.text) <= len(text)
        if view.text:
            low, high = view.locate(0, len(view.text))
            assert 0 <= low < high <= len(text)


def test_words_before_an_encoded_value_still_say_what_it_is(detector: Detector) -> None:
    for hidden in (base64.b64encode(b"1984-03-12").decode(), b"1984-03-12".hex(), " ".join("1984-03-12")):
        (found,) = detector.detect(f"date of birth: {hidden}")
        assert (found.type, found.start, found.end) == ("DATE_OF_BIRTH", 15, 15 + len(hidden))
        assert detector.detect(f"released on: {hidden}") == ()
