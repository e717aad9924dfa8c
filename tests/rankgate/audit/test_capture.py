from __future__ import annotations

from fakes.events import DIGEST
from hypothesis import given
from hypothesis import strategies as st

from rankgate.audit.capture import CapturedText, capture_texts
from rankgate.audit.text import dump


def test_within_the_budget_everything_is_kept() -> None:
    capture = capture_texts("masked", "q", "i", [(0, "a"), (3, "b")], 100, DIGEST)
    assert capture.complete
    assert capture.documents == ((0, CapturedText(1, "a")), (3, CapturedText(1, "b")))


def test_documents_are_kept_by_position_until_the_budget_is_spent() -> None:
    capture = capture_texts("masked", "q", None, [(0, "a" * 10), (1, "b" * 50), (2, "c")], 30, DIGEST)
    assert [text.text for _, text in capture.documents] == ["a" * 10, None, None]
    assert capture.documents[1][1] == CapturedText(50, digest=DIGEST(b"b" * 50))
    assert not capture.complete


def test_a_query_beyond_the_budget_is_a_digest_and_takes_nothing_with_it() -> None:
    capture = capture_texts("masked", "q" * 1000, None, [(0, "a")], 100, DIGEST)
    assert capture.query == CapturedText(1000, digest=DIGEST(b"q" * 1000))
    assert capture.documents[0][1].text is None


@given(st.text(), st.lists(st.text(st.characters()), max_size=6), st.integers(0, 200))
def test_what_is_kept_never_renders_to_more_than_the_budget(query: str, texts: list[str], budget: int) -> None:
    capture = capture_texts("masked", query, None, enumerate(texts), budget, DIGEST)
    every = [capture.query, *(text for _, text in capture.documents)]
    assert sum(len(dump(text.text)) for text in every if text and text.text is not None) <= budget
    assert all(text and (text.text is None) == bool(text.digest) for text in every)
    kept = [text is not None and text.text is not None for text in every]
    assert kept == sorted(kept, reverse=True)
