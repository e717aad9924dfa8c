"""Folding makes hidden characters readable and knows where they came from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankgate.detect.view import fold, folded, plain, stretches


@pytest.mark.parametrize(
    ("hidden", "read"),
    [
        ("４", "4"),
        ("٤", "4"),
        ("४", "4"),
        ("𝟜", "4"),
        ("④", "4"),
        ("➃", "4"),
        ("Ａ", "A"),
        ("𝐀", "A"),
        ("🅐", "A"),
        ("а", "a"),
        ("Ο", "O"),
        ("é", "e"),
        ("\u0301", ""),
        ("\u200b", ""),
        ("\u00ad", ""),
        ("\ufeff", ""),
        ("\ufe0f", ""),
        ("\x00", ""),
        ("\u3164", ""),
        ("\u2011", "-"),
        ("−", "-"),
        ("\u00a0", " "),
        ("\u3000", " "),
        ("\u2028", "\n"),
        ("。", "."),
        ("＠", "@"),
        ("ﬁ", "fi"),
        ("\ud800", "\ufffd"),
        ("\n", "\n"),
        ("\t", "\t"),
        ("x", "x"),
        ("中", "中"),
    ],
)
def test_a_character_folds_to_what_it_reads_as(hidden: str, read: str) -> None:
    assert fold(hidden) == read


def test_plain_ascii_is_its_own_view() -> None:
    view = plain("jane@example.org\n\tdone")
    assert folded(view) is view


def test_spans_lead_back_to_the_hidden_characters_and_the_marks_behind_them() -> None:
    source = "a ４\u0332１\u200b１ ﬁn"
    view = folded(plain(source))
    assert view.text == "a 411 fin"
    assert view.locate(2, 5) == (2, 7)
    assert view.locate(6, 7) == (8, 9)
    assert view.locate(7, 9) == (8, 10)


@given(st.text(alphabet=st.characters(codec=None), max_size=80), st.data())
def test_every_span_of_a_folded_text_lies_in_the_source(source: str, data: st.DataObject) -> None:
    view = folded(plain(source))
    assert len(view.text) <= 4 * len(source)
    view.text.encode("utf-8")
    if view.text:
        start = data.draw(st.integers(0, len(view.text) - 1))
        end = data.draw(st.integers(start + 1, len(view.text)))
        low, high = view.locate(start, end)
        assert 0 <= low < high <= len(source)
        assert view.text[start:end] in folded(plain(source[low:high])).text


@given(st.text(max_size=30), st.lists(st.integers(0, 30), max_size=8, unique=True))
def test_stretches_show_what_was_chosen_and_lead_back_to_it(text: str, marks: list[int]) -> None:
    marks = sorted(mark for mark in marks if mark <= len(text))
    spans = list(zip(marks[::2], marks[1::2], strict=False))
    view = stretches(spans, plain(text))
    places = [index for start, end in spans for index in range(start, end)]
    assert view.text == "".join(text[index] for index in places)
    for first in range(len(places)):
        for last in range(first, len(places)):
            assert view.locate(first, last + 1) == (places[first], places[last] + 1)
