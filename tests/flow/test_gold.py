"""No gold value of the corpus, in none of the forms it lists, gets past a whole gate: not to the reranker, not to
the caller, not into a log or an event."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote

import corpus
import pytest
import pytest_asyncio
from flow.gate import Gate
from flow.upstream import Script

BATCH = 40
ROWS = [row for kind in ("plain", "unicode", "encoded", "layout") for row in corpus.rows(kind)]
PATHS = ("/v1/rerank", "/v2/rerank", "/rerank")

pytestmark = [pytest.mark.flow, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running():
    async with Gate() as gate:
        yield gate


@pytest.fixture
def gate(running):
    running.upstream.requests.clear()
    running.upstream.script = Script()
    return running


def batches() -> Iterator[list[corpus.Row]]:
    for start in range(0, len(ROWS), BATCH):
        yield ROWS[start : start + BATCH]


def golds(rows):
    """Return the gold values of `rows` as they stand in their texts, hidden forms included."""
    return {row.text[start:end] for row in rows for _, start, end in row.spans}


def texts(value):
    """Yield every string of a parsed JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from texts(item)


def shown(values, *places: str) -> list[str]:
    return [value for value in values if any(value in place for place in places)]


@pytest.mark.parametrize("path", PATHS)
async def test_no_gold_value_reaches_the_reranker_or_comes_back(gate, path):
    field = "texts" if path == "/rerank" else "documents"
    flag = "return_text" if path == "/rerank" else "return_documents"
    for rows in batches():
        gate.upstream.requests.clear()
        body = {"query": rows[0].text, field: [row.text for row in rows], flag: True}
        answer = await gate.post(path, body)
        assert answer.status == 200, answer
        (sent,) = gate.upstream.requests
        values = golds(rows)
        assert shown(values, "\n".join(texts(sent.json)), sent.raw.decode("utf-8")) == []
        assert shown(values, "\n".join(texts(answer.json)), answer.body.decode("utf-8")) == []


async def test_no_gold_value_that_the_reranker_utters_reaches_the_caller(gate):
    for rows in batches():
        said = [row.text for row in rows]
        for script in (
            Script(body=json.dumps({"results": [], "meta": {"warnings": said}}).encode()),
            Script(status=422, body=json.dumps({"detail": [{"input": text} for text in said]}).encode()),
        ):
            gate.upstream.script = script
            answer = await gate.post("/v2/rerank", {"query": "q", "documents": ["a"], "model": "m"})
            assert answer.status == script.status
            assert shown(golds(rows), "\n".join(texts(answer.json)), answer.body.decode("utf-8")) == []


async def test_no_gold_value_is_in_any_log_or_event(gate):
    """Looks at everything the calls above left behind."""
    for path in PATHS:
        field = "texts" if path == "/rerank" else "documents"
        await gate.post(path, {"query": ROWS[0].text, field: [row.text for row in ROWS[:BATCH]]})
        for row in ROWS[:BATCH]:
            name = quote(row.phrase, safe="")
            trace = {"traceparent": row.text} if row.text.isascii() and row.text.isprintable() else {}
            body = {"query": "q", "documents": ["a"], "model": row.text, "instruction": row.text}
            await gate.post("/v2/rerank", body, trace)
            await gate.post(f"/{name}", body, trace)
    trail = "\n".join(text for event in await gate.events() for text in texts(event))
    logs = gate.logs()
    assert shown(golds(ROWS), trail, logs) == []
    on_disk = b"".join(file.read_bytes().rstrip(b"\0") for file in gate.directory.rglob("*") if file.is_file())
    assert shown(golds(ROWS), on_disk.decode("utf-8", "replace")) == []


async def test_every_listed_form_of_every_value_is_masked_in_a_document(gate):
    forms = [
        (value, phrase.replace(value, form))
        for _, phrase, value in corpus.values()[::3]
        for form in corpus.encodings(value).values()
    ]
    missed = []
    for start in range(0, len(forms), 200):
        part = forms[start : start + 200]
        gate.upstream.requests.clear()
        answer = await gate.post("/v2/rerank", {"query": "q", "documents": [text for _, text in part], "model": "m"})
        assert answer.status == 200, answer
        sent = gate.upstream.requests[0].json["documents"]
        missed += [text for (_, text), arrived in zip(part, sent, strict=True) if arrived == text]
    assert len(missed) <= len(forms) * 0.05, missed
