"""rankgate.dialects.answering: what is no answer, and how positions and dropped documents come back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankgate import dialects, jsontext
from rankgate.dialects import AnswerShape
from rankgate.errors import GateError, Reason

EVERY = pytest.mark.parametrize("name", dialects.NAMES)


def wrapped(shape: AnswerShape, results) -> bytes:
    return json.dumps(results if shape.results is None else {"id": "x", shape.results: results, "n": [0.0]}).encode()


def shape(name: str) -> AnswerShape:
    return dialects.by_name(name).answers[0]


IN_ORDER = [name for name in dialects.NAMES if shape(name).in_order]
BY_SCORE = pytest.mark.parametrize("name", [name for name in dialects.NAMES if name not in IN_ORDER])
RELEVANCE = pytest.mark.parametrize("name", [n for n in dialects.NAMES if n not in IN_ORDER and not shape(n).logits])


def answer(name: str, results) -> bytes:
    """An answer of the dialect's own form; each result is (index, score)."""
    shape = dialects.by_name(name).answers[0]
    return wrapped(shape, [{shape.index: index, shape.score: score} for index, score in results])


def restored(name, raw, kept, document_count, mode, top_n=None):
    """The (index, score) pairs after restoring, by the caller's view of the answer."""
    dialect = dialects.by_name(name)
    json_text = jsontext.parse(raw)
    found = dialect.results(json_text)
    edited = jsontext.splice(raw, dialect.restore(json_text, found, kept, document_count, mode, top_n))
    return [(result.index, result.score) for result in dialect.results(jsontext.parse(edited))]


def refused(name: str, raw: bytes) -> None:
    with pytest.raises(GateError) as caught:
        dialects.by_name(name).results(jsontext.parse(raw))
    assert caught.value.reason is Reason.UPSTREAM_INVALID


@EVERY
@pytest.mark.parametrize(
    "raw",
    [
        b"null",
        b"1",
        b'"a"',
        b"{}",
        b"[1]",
        b"[[]]",
        b'{"results":null}',
        b'{"results":{}}',
        b'{"results":[1]}',
        b'{"message":"no"}',
        b'{"rerank":[]}',
    ],
)
def test_what_has_no_list_of_results_is_refused(name, raw):
    refused(name, raw)


def test_a_bare_array_is_an_answer_only_where_the_api_has_one():
    raw = b'[{"index":0,"score":1,"relevance_score":1}]'
    for name in dialects.NAMES:
        if name in {"tei", "generic"}:
            assert len(dialects.by_name(name).results(jsontext.parse(raw))) == 1
        else:
            refused(name, raw)


@EVERY
@pytest.mark.parametrize("index", [-1, 1.0, 0.5, "0", None, True, [0], {"a": 0}])
def test_an_index_must_be_a_whole_number(name, index):
    refused(name, answer(name, [(index, 0.5)]))


@EVERY
@pytest.mark.parametrize("literal", [b"-0", b"1e0", b"0.0"])
def test_an_index_in_another_notation_is_refused(name, literal):
    refused(name, answer(name, [(77, 0.5)]).replace(b"77", literal))


@EVERY
@pytest.mark.parametrize("score", ["0.5", None, True, [0.5]])
def test_a_score_must_be_a_number(name, score):
    refused(name, answer(name, [(0, score)]))


@EVERY
def test_an_index_given_twice_is_refused(name):
    refused(name, answer(name, [(1, 0.9), (0, 0.8), (1, 0.7)]))


@EVERY
@pytest.mark.parametrize("missing", ["index", "score"])
def test_a_result_without_index_or_score_is_refused(name, missing):
    shape = dialects.by_name(name).answers[0]
    whole = {shape.index: 0, shape.score: 0.5}
    part = {key: value for key, value in whole.items() if key != getattr(shape, missing)}
    refused(name, wrapped(shape, [whole | {shape.index: 1}, part]))


@EVERY
def test_an_index_of_no_sent_document_is_refused(name):
    raw = answer(name, [(0, 0.9), (2, 0.8)])
    for mode in ("omit", "floor"):
        with pytest.raises(GateError) as caught:
            restored(name, raw, [0, 3], 4, mode)
        assert caught.value.reason is Reason.UPSTREAM_INVALID


def test_generic_knows_the_forms_of_other_engines():
    for shape in dialects.by_name("generic").answers:
        raw = wrapped(shape, [{shape.index: 0, shape.score: 0.5, shape.echo[0]: {"a": "x", "b": ["y"]}, "z": "z"}])
        json_text = jsontext.parse(raw)
        (result,) = dialects.by_name("generic").results(json_text)
        assert (result.index, result.score) == (0, 0.5)
        assert [json_text.strings[ordinal].value for ordinal in result.echo] == ["x", "y"]


def test_an_answer_of_two_forms_at_once_is_refused():
    refused("generic", b'{"results":[{"index":0,"relevance_score":1}],"data":[{"index":0,"score":1}]}')
    refused("generic", b'{"results":[],"data":[]}')


@RELEVANCE
def test_the_floor_is_0_below_relevance_scores(name):
    assert restored(name, answer(name, [(1, 0.9), (0, 0.1)]), [0, 2], 3, "floor")[-1] == (1, 0.0)
    assert restored(name, answer(name, [(0, 0)]), [0], 2, "floor")[-1] == (1, 0.0)


@BY_SCORE
def test_the_floor_is_one_below_the_lowest_logit(name):
    assert restored(name, answer(name, [(1, 4.5), (0, -2.25)]), [0, 2], 3, "floor")[-1] == (1, -3.25)
    assert restored(name, answer(name, [(0, -3)]), [0], 2, "floor")[-1] == (1, -4.0)


def test_the_floor_of_logits_is_below_0_too():
    assert restored("nvidia.ranking", answer("nvidia.ranking", [(0, 3.5)]), [0], 2, "floor")[-1] == (1, -1.0)
    assert restored("nvidia.ranking", answer("nvidia.ranking", []), [0], 2, "floor") == [(1, -1.0)]


@BY_SCORE
def test_the_floor_stands_in_an_answer_without_results(name):
    assert [index for index, _ in restored(name, answer(name, []), [1], 3, "floor")] == [0, 2]


@EVERY
def test_white_space_at_the_end_of_the_results_stays(name):
    raw = answer(name, [(0, 0.5)]).replace(b"}]", b"} \n ]", 1)
    json_text = jsontext.parse(raw)
    dialect = dialects.by_name(name)
    edits = dialect.restore(json_text, dialect.results(json_text), [0], 2, "floor", None)
    assert b'},{"index":1,' in jsontext.splice(raw, edits)
    assert b"} \n ]" in jsontext.splice(raw, edits)


@pytest.mark.parametrize("name", IN_ORDER)
@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ([0], [(0, 0.5), (1, 0.0), (2, 0.0)]),
        ([1], [(0, 0.0), (1, 0.5), (2, 0.0)]),
        ([2], [(0, 0.0), (1, 0.0), (2, 0.5)]),
        ([0, 2], [(0, 0.5), (1, 0.0), (2, 0.5)]),
        ([0, 1, 2], [(0, 0.5), (1, 0.5), (2, 0.5)]),
    ],
)
def test_results_in_order_keep_every_place(name, kept, expected):
    sent = answer(name, [(index, 0.5) for index in range(len(kept))])
    assert restored(name, sent, kept, 3, "floor") == expected


@pytest.mark.parametrize("name", IN_ORDER)
@pytest.mark.parametrize("found", [[], [0], [1], [1, 0]])
def test_results_that_lost_their_order_are_refused(name, found):
    with pytest.raises(GateError) as caught:
        restored(name, answer(name, [(index, 0.5) for index in found]), [0, 2], 3, "floor")
    assert caught.value.reason is Reason.UPSTREAM_INVALID


@pytest.mark.parametrize("name", IN_ORDER)
@pytest.mark.parametrize("configured", ["auto", "omit", "floor"])
def test_results_in_order_leave_no_choice_of_mode(name, configured):
    assert dialects.by_name(name).drop_mode(configured, 1, 3) == "floor"


@BY_SCORE
def test_auto_lists_dropped_documents_where_all_were_asked_for(name):
    mode = dialects.by_name(name).drop_mode
    assert mode("auto", None, 3) == mode("auto", 3, 3) == mode("auto", 4, 3) == "floor"
    assert mode("auto", 2, 3) == "omit"
    assert (mode("omit", None, 3), mode("floor", 1, 3)) == ("omit", "floor")


@st.composite
def exchanges(draw):
    """A dialect, what was kept of how many, and what an engine may answer: some of what was sent, best first."""
    count = draw(st.integers(1, 8))
    kept = draw(st.lists(st.integers(0, count - 1), min_size=1, unique=True).map(sorted))
    name = draw(st.sampled_from(dialects.NAMES))
    in_order = name in IN_ORDER
    order = range(len(kept)) if in_order else draw(st.permutations(range(len(kept))))
    returned = order if in_order else order[: draw(st.integers(0, len(kept)))]
    scores = draw(st.lists(st.floats(-1e300, 1e300), min_size=len(returned), max_size=len(returned)))
    if not in_order:
        scores.sort(reverse=True)
    return name, count, kept, list(zip(returned, scores, strict=True))


@settings(deadline=None)
@given(exchanges(), st.sampled_from(["omit", "floor"]), st.none() | st.integers(1, 10))
def test_restoring_equals_a_plain_model(exchange, mode, top_n):
    name, count, kept, found = exchange
    mode = "floor" if name in IN_ORDER else mode
    got = restored(name, answer(name, found), kept, count, mode, top_n)
    real = [(kept[index], score) for index, score in found]
    dropped = [position for position in range(count) if position not in kept]
    assert [pair for pair in got if pair[0] in kept] == real
    floor = [pair for pair in got if pair[0] not in kept]
    assert len({score for _, score in floor}) <= 1
    assert all(low <= score for _, low in floor for _, score in real)
    if name in IN_ORDER:
        assert [position for position, _ in got] == list(range(count))
        return
    room = len(dropped) if top_n is None else max(0, top_n - len(real))
    assert [position for position, _ in got[len(real) :]] == (dropped[:room] if mode == "floor" else [])
    scores = [score for _, score in got]
    assert scores == sorted(scores, reverse=True)


@settings(deadline=None)
@given(exchanges())
def test_nothing_dropped_leaves_the_answer_alone(exchange):
    name, count, _, _ = exchange
    json_text = jsontext.parse(answer(name, [(index, 0.5) for index in range(count)]))
    dialect = dialects.by_name(name)
    assert dialect.restore(json_text, dialect.results(json_text), range(count), count, "floor", None) == []
