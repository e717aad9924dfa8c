"""BM25 ranks what shares rare words with the query first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rankgate.demo.bm25 import scores

TEXTS = st.lists(st.text(max_size=60), min_size=1, max_size=8)


def test_a_shared_rare_word_counts_more_than_a_common_one() -> None:
    rare, common, none = scores("the refund", ["refund issued", "the store", "opening hours the the"])
    assert rare > common > 0
    assert none < rare


def test_a_document_that_shares_no_word_scores_nothing() -> None:
    assert scores("refund", ["opening hours", "refund"])[0] == 0.0


def test_case_does_not_matter() -> None:
    assert scores("REFUND", ["refund", "x"]) == scores("refund", ["Refund", "x"])


def test_the_same_pseudonym_in_query_and_document_still_matches() -> None:
    found = scores("mail to <EMAIL_ADDRESS_abcdefghijklm>", ["from <EMAIL_ADDRESS_abcdefghijklm>", "from nobody"])
    assert found[0] > found[1]


@given(st.text(max_size=60), TEXTS)
def test_scores_are_bounded_and_one_for_each_document(query: str, texts: list[str]) -> None:
    found = scores(query, texts)
    assert len(found) == len(texts)
    assert all(0 <= score < 1 for score in found)
