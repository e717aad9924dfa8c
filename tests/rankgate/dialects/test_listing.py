"""A listing is read as the whole parser reads it, and only where nothing but positions and scores stands in it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankgate import dialects, jsontext
from rankgate.dialects import by_name
from rankgate.jsontext import MAX_NODES

NAMES = [name for name in dialects.NAMES if not by_name(name).answers[0].result_also]
EVERY = pytest.mark.parametrize("name", NAMES)
PAIRS = st.lists(
    st.tuples(st.integers(0, 9_999_999), st.floats(-1e15, 1e15)), min_size=1, unique_by=lambda pair: pair[0]
)


def body(name, pairs, *, score_first=False, **written):
    shape = by_name(name).answers[0]
    members = [[(shape.index, index), (shape.score, score)] for index, score in pairs]
    array = [dict(entry[::-1] if score_first else entry) for entry in members]
    answer = array if shape.results is None else {"id": "a [{ b", shape.results: array, "meta": {"n": [1]}}
    return json.dumps(answer, **written).encode()


@EVERY
@given(pairs=PAIRS, score_first=st.booleans(), indent=st.none() | st.integers(0, 2))
def test_a_plain_list_is_read_as_the_parser_reads_it(name, pairs, score_first, indent):
    raw = body(name, pairs, score_first=score_first, indent=indent)
    listing = by_name(name).listing(raw)
    read = by_name(name).results(jsontext.parse(raw))
    assert listing is not None
    assert listing.indices == tuple(result.index for result in read)
    assert [float(score) for score in listing.scores] == [result.score for result in read]


@EVERY
@given(pairs=PAIRS)
def test_frame_and_entries_together_are_the_answer(name, pairs):
    raw = body(name, pairs)
    listing = by_name(name).listing(raw)
    frame = listing.frame.body
    assert frame[: listing.start] + raw[listing.start : listing.end] + frame[listing.start :] == raw


def test_edits_of_the_frame_hit_the_same_bytes_of_the_answer():
    raw = b'{"id":"x","results":[{"index":0,"relevance_score":0.5}],"more":"y"}'
    listing = by_name("cohere.v2").listing(raw)
    edits = [(one.start, one.end, b'"Z"') for one in listing.frame.strings]
    edited = jsontext.splice(raw, listing.edits(edits))
    assert edited == b'{"id":"Z","results":[{"index":0,"relevance_score":0.5}],"more":"Z"}'


ENTRY = b'{"index":0,"relevance_score":0.5}'


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b'{"results":[]}',
        b'{"results":[' + ENTRY,
        b'{"results":[' + ENTRY + b"],}",
        b'{"results":[' + ENTRY + b'],"results":[]}',
        b'{"results":[' + ENTRY + b'],"other":NaN}',
        b'{"results":[' + ENTRY + b"," + ENTRY + b"]}",
        b'{"results":[' + ENTRY + b",]}",
        b'{"other":[' + ENTRY + b"]}",
        b'{"other":[' + ENTRY + b'],"results":[]}',
        b'{"other":{"results":[' + ENTRY + b'],"n":1},"results":[]}',
        b'{"text":"[' + ENTRY + b'","results":[]}',
        b'{"text":"[' + ENTRY + b']","results":[]}',
        b'{"text":"\\"[' + ENTRY + b']","results":[]}',
        b'{"results":[{"index":0,"relevance_score":0.5,"text":"a"}]}',
        b'{"results":[{"index":0,"index":0,"relevance_score":0.5}]}',
        b'{"results":[{"index":-1,"relevance_score":0.5}]}',
        b'{"results":[{"index":0.0,"relevance_score":0.5}]}',
        b'{"results":[{"index":00,"relevance_score":0.5}]}',
        b'{"results":[{"index":0,"relevance_score":.5}]}',
        b'{"results":[{"index":0,"relevance_score":1e999}]}',
        b'{"results":[{"index":0,"relevance_score":"0.5"}]}',
        b'{"results":[{"index":0,"relevance_score":' + b"1" * 65 + b"}]}",
        b'{"results":[' + b",".join(b'{"index":%d,"relevance_score":1}' % n for n in range(MAX_NODES // 4)) + b"]}",
    ],
    ids=lambda raw: raw[:40].decode(),
)
def test_everything_else_is_left_to_the_parser(raw):
    assert by_name("cohere.v2").listing(raw) is None


def test_results_under_two_names_are_left_to_the_parser():
    raw = b'{"results":[' + ENTRY + b'],"data":[]}'
    assert by_name("generic").listing(raw) is None
    assert by_name("cohere.v2").listing(raw) is not None


@pytest.mark.parametrize("text", [b"[" * 200_000, b'[{"index":0,' * 20_000, b"[" + ENTRY * 5_000], ids=len)
def test_hostile_answers_are_given_up_at_once(text):
    assert by_name("cohere.v2").listing(b'{"results":' + text + b"}") is None
