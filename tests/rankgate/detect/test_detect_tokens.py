"""Our own shapes, and nothing else, are recognised as ours."""

from __future__ import annotations

import pytest

from rankgate.detect.tokens import is_pseudonym, own_spans


@pytest.mark.parametrize("text", ["PERSON_abcdefghijk23", "EMAIL_ADDRESS_abcdefghijk23@masked.invalid"])
def test_a_pseudonym_is_recognised(text: str) -> None:
    assert is_pseudonym(text)
    assert own_spans(f"see {text}.") == [(4, 4 + len(text))]


@pytest.mark.parametrize(
    "text",
    [
        "person_abcdefghijk23",
        "PERSON_abcdefghijk2",
        "PERSON_abcdefghijk234x",
        "PERSON_abcdefghijk21",
        "PERSON_ab22222cdefgh",
        "PERSON_abcdefghijk23@example.org",
        "PERSON_x_abcdefghijk23",
        "P_abcdefghijk23",
        "PERSON__abcdefghijk23",
        "SHOE_SIZE_abcdefghijk23",
        "XPERSON_abcdefghijk23",
        "AKIAQWERTYUIOPASDFGH_abcdefghijklm",
    ],
)
def test_what_only_resembles_one_is_not(text: str) -> None:
    assert not is_pseudonym(text)


def test_hashes_and_redactions_are_ours_too() -> None:
    assert own_spans("PERSON_h_abcdefghijk23 <PERSON>") == [(0, 22), (23, 31)]


def test_a_type_nobody_knows_makes_nothing_ours() -> None:
    assert own_spans("HUNTERTWO_abcdefghijklm <HUNTERTWO> HUNTERTWO_h_abcdefghijklm") == []
    assert own_spans("PERSON_x_abcdefghijklm") == []


def test_five_digits_in_a_row_never_pass_as_ours() -> None:
    for at in range(9):
        code = "a" * at + "22222" + "b" * (8 - at)
        assert own_spans(f"PERSON_{code}") == []
