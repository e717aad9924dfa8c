"""Words count when they are near, and only then."""

from __future__ import annotations

from rankgate.detect.context import PHONE, SERIAL, Nearby


def test_a_word_before_within_48_characters_counts() -> None:
    for gap, near in ((10, True), (43, True), (60, False)):
        text = "phone" + " " * gap + "123"
        assert Nearby(text).has(PHONE, 5 + gap, 8 + gap) is near


def test_a_word_behind_within_16_characters_counts() -> None:
    for gap, near in ((1, True), (14, True), (16, False)):
        text = "123" + " " * gap + "(mobile)"
        assert Nearby(text).has(PHONE, 0, 3) is near


def test_just_before_looks_less_far_and_never_behind() -> None:
    assert Nearby("order 12").just_before(SERIAL, 6)
    assert not Nearby("order" + " " * 30 + "12").just_before(SERIAL, 35)
    assert not Nearby("12 order").just_before(SERIAL, 0)


def test_words_are_matched_in_any_case() -> None:
    assert Nearby("TELEFON 12").has(PHONE, 8, 10)
