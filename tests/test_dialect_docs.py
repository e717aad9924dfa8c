"""docs/dialects.md says of every dialect what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from rankgate import dialects
from rankgate.dialects.forms import OBJECT, PARTS, STRING, TEXT_OBJECT
from rankgate.errors import Reason

PAGE = (Path(__file__).parents[1] / "docs/dialects.md").read_text("utf-8")
FORMS = {STRING: "strings", OBJECT: "objects", TEXT_OBJECT: "text objects", PARTS: "text parts"}
EVERY = pytest.mark.parametrize("name", dialects.NAMES)


def table(heading: str) -> dict[str, list[str]]:
    """Return the rows of the table below a heading, by the name in their first cell."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in section.splitlines() if line[:1] == "|"]
    return {row[0].strip("`"): row[1:] for row in rows[2:]}


REQUESTS, ANSWERS = table("Requests"), table("Answers and refusals")


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_dialect_has_its_row():
    assert list(REQUESTS) == list(ANSWERS) == list(dialects.NAMES)


@EVERY
def test_the_members_of_a_request_are_listed(name):
    shapes = dialects.by_name(name).requests
    query, documents, how_many, echo = REQUESTS[name]
    assert words(query) == list(dict.fromkeys(shape.query for shape in shapes))
    assert words(documents) == list(dict.fromkeys(shape.documents for shape in shapes))
    of = shapes[0]
    kinds = documents.split(": ")[1].split(";")[0]
    assert kinds == ", ".join(FORMS[form] for form in of.document_forms)
    asked = query.split(": ")[1].split(";")[0].replace("string", "strings").replace("object", "objects")
    assert asked == ", ".join(FORMS[form] for form in of.query_forms)
    assert ("stand alone" in documents, "one for each" in query) == (of.single, of.paired)
    assert words(how_many) == ([of.top_n] if of.top_n else [])
    assert ("0 for all" in how_many) == (of.top_n is not None and of.least_top_n == 0)
    assert words(echo) == ([of.return_documents] if of.return_documents else [])
    assert (echo == "always" or "by default" in echo) == of.echoes


@EVERY
def test_answers_and_refusals_are_listed(name):
    dialect = dialects.by_name(name)
    results, score, dropped, status, error = ANSWERS[name]
    if len(dialect.answers) == 1:
        (shape,) = dialect.answers
        assert results == (f"`{shape.results}`" if shape.results else "the array")
        assert score == f"`{shape.score}`"
    assert dropped == ("floor, at its place" if dialect.answers[0].in_order else "omit or floor")
    assert int(status) == dialect.status(Reason.BODY_INVALID)
    _, body = dialect.denial(403, "m", "dec-1")
    assert re.findall(r'"(\w+)"', error) == keys_of(json.loads(body))


def keys_of(value: dict) -> list[str]:
    """Return the keys of an object and of those in it, as they are written."""
    return [
        name for key, inner in value.items() for name in (key, *(keys_of(inner) if isinstance(inner, dict) else ()))
    ]


def test_the_versions_of_the_clients_are_those_installed():
    clients = {row.split(",")[0]: cells[0] for row, cells in table("Clients tried").items()}
    environments = Path(__file__).parent / "clients_envs"
    pinned = "\n".join(file.read_text() for file in environments.glob("*/requirements.txt"))
    node = json.loads((environments / "ai-sdk/package.json").read_text())["dependencies"]
    lock = (Path(__file__).parents[1] / "requirements-dev.lock").read_text()
    for client, version in clients.items():
        if client == "npm ai with @ai-sdk/cohere":
            assert version == f"{node['ai']}, {node['@ai-sdk/cohere']}"
        elif version:
            assert f"\n{client}=={version}" in (f"\n{lock}" if client == "cohere" else f"\n{pinned}")
