"""Every dialect against its golden samples: one folder of tests/vectors/dialects each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rankgate import dialects, jsontext
from rankgate.dialects import Dialect

VECTORS = Path(__file__).parents[2] / "vectors/dialects"


class Golden:
    """One folder of samples: case.json says what the other files, which are bodies, mean."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.case = json.loads((VECTORS / name / "case.json").read_text(encoding="utf-8"))

    def body(self, file: str) -> bytes:
        return (VECTORS / self.name / file).read_bytes()

    @property
    def dialect(self) -> Dialect:
        return dialects.by_name(self.name)


@pytest.fixture(params=dialects.NAMES)
def golden(request) -> Golden:
    return Golden(request.param)


def test_no_samples_are_without_a_dialect():
    assert {path.name for path in VECTORS.iterdir()} == set(dialects.NAMES)


def test_it_is_recognised(golden):
    json_text = jsontext.parse(golden.body("request.json"))
    configured = golden.case.get("configured", "auto")
    assert dialects.choose(configured, golden.case["path"], json_text).name == golden.name


def test_the_request_is_read(golden):
    json_text = jsontext.parse(golden.body("request.json"))
    request = golden.dialect.read(json_text)
    got = {name: getattr(request, name) for name in golden.case["reads"]}
    assert json.loads(json.dumps(got)) == golden.case["reads"]
    assert [[text.role.value, text.position, text.value] for text in request.texts] == golden.case["texts"]
    assert (request.dialect, request.revision, request.operation) == (
        golden.name,
        golden.dialect.revision,
        golden.case.get("operation", "rerank"),
    )


def test_every_text_is_where_it_says(golden):
    body = golden.body("request.json")
    request = golden.dialect.read(jsontext.parse(body))
    assert [text.ordinal for text in request.texts] == list(range(len(request.texts)))
    assert [json.loads(body[text.start : text.end]) for text in request.texts] == [t.value for t in request.texts]


def test_documents_are_dropped_and_every_other_byte_stays(golden):
    body = golden.body("request.json")
    json_text = jsontext.parse(body)
    edits = golden.dialect.drop(json_text, golden.dialect.read(json_text), golden.case["keep"])
    assert jsontext.splice(body, edits) == golden.body(golden.case["dropped"])


def test_results_are_found_with_their_echo(golden):
    body = golden.body("answer.json")
    json_text = jsontext.parse(body)
    results = golden.dialect.results(json_text)
    echoes = [[json_text.strings[ordinal].value for ordinal in result.echo] for result in results]
    got = [[result.index, result.score, echo] for result, echo in zip(results, echoes, strict=True)]
    assert got == golden.case["results"]
    assert [json.loads(body[slice(*result.index_span)]) for result in results] == [r.index for r in results]
    assert [json.loads(body[slice(*result.score_span)]) for result in results] == [r.score for r in results]


def test_an_answer_gets_the_callers_positions_back(golden):
    request = golden.dialect.read(jsontext.parse(golden.body("request.json")))
    body = golden.body("answer.json")
    json_text = jsontext.parse(body)
    mode = golden.dialect.drop_mode("auto", request.top_n, request.document_count)
    assert mode == golden.case["mode"]
    edits = golden.dialect.restore(
        json_text, golden.dialect.results(json_text), golden.case["keep"], request.document_count, mode, request.top_n
    )
    assert jsontext.splice(body, edits) == golden.body(golden.case["restored"])


@pytest.mark.parametrize("mode", ["omit", "floor"])
def test_there_is_a_native_answer_without_documents(golden, mode):
    request = golden.dialect.read(jsontext.parse(golden.body("request.json")))
    answer = jsontext.parse(golden.dialect.empty_answer(request, mode))
    assert answer.value == golden.case["empty"][mode]
    expected = min(request.top_n or request.document_count, request.document_count) if mode == "floor" else 0
    assert [result.index for result in golden.dialect.results(answer)] == list(range(expected))


def test_refusals_are_native(golden):
    for status, expected in golden.case["denials"].items():
        _, body = golden.dialect.denial(int(status), "M (receipt dec-1)", "dec-1")
        assert json.loads(body) == expected
