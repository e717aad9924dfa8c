"""What any policy engine must do: answer the whole corpus (tests/vectors/policy) as written there.

A test class takes these truths by inheriting them, naming its engine, and giving the fixture they ask for.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rankgate.errors import GateError
from rankgate.policy import Ruling, parse_ruling

CORPUS = Path(__file__).parents[1] / "vectors" / "policy"
SHIPPED = Path(__file__).parents[2] / "policies"


@dataclass(frozen=True)
class Case:
    """One question to one policy. `key` is unique in the corpus and a Rego name."""

    key: str
    name: str
    given: dict[str, Any]

    @property
    def path(self) -> str:
        return f"cases/{self.key}/decision" if "policy" in self.given else "rankgate/decision"

    @property
    def module(self) -> str:
        """The policy as a module of its own package; its data is at `given`."""
        given = f"import data.given.{self.key} as given\n" if "data" in self.given else ""
        return f"package cases.{self.key}\n\n{given}{self.given['policy']}\n"

    @property
    def data(self) -> dict[str, Any]:
        return {"given": {self.key: self.given["data"]}} if "data" in self.given else {}

    def expected(self, engine: str) -> dict[str, Any]:
        wanted = self.given.get("differs", {}).get(engine, self.given)
        return {"reason": wanted["reason"]} if "reason" in wanted else {"ruling": wanted["ruling"]}


def read(file: str) -> list[Case]:
    cases = json.loads((CORPUS / f"{file}.json").read_text("utf-8"))["cases"]
    return [Case(f"{file}_{number}", f"{file}: {case['name']}", case) for number, case in enumerate(cases)]


CASES = [case for file in sorted(CORPUS.glob("*.json")) if file.stem != "loading" for case in read(file.stem)]
LOADING = read("loading")


def told(ruling: Ruling) -> dict[str, Any]:
    """What of a ruling is not a default, as JSON would hold it."""
    plain = Ruling(allowed=ruling.allowed)
    shown = {
        field.name: getattr(ruling, field.name)
        for field in dataclasses.fields(ruling)
        if field.name == "allowed" or getattr(ruling, field.name) != getattr(plain, field.name)
    }
    return json.loads(json.dumps(shown, default=dataclasses.asdict))


Ask = Callable[[Case], Awaitable[Any]]
"""Puts the case's question to the case's policy and returns the raw decision."""

Loads = Callable[[Case], Awaitable[str]]
"""Loads the case's policy alone and returns what the engine says against it, empty where it takes it."""


async def outcome(case: Case, ask: Ask) -> dict[str, Any]:
    """The parsed ruling or the reason; fails where a refusal's detail quotes the call."""
    try:
        ruling = parse_ruling(
            await ask(case),
            document_count=case.given.get("document_count", 0),
            credential_header=case.given.get("credential_header", "authorization"),
        )
    except GateError as error:
        quoted = [word for word in ("evil", "search-svc", "rerank-v3", "xxx") if word in error.detail]
        return {"reason": error.reason.value, **({"quoted": quoted} if quoted else {})}
    return {"ruling": told(ruling)}


class PolicyContract:
    engine: str

    @pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
    async def test_the_corpus_is_answered_as_written(self, case: Case, ask: Ask) -> None:
        assert await outcome(case, ask) == case.expected(self.engine)


class LoadingContract:
    engine: str

    @pytest.mark.parametrize("case", LOADING, ids=[case.name for case in LOADING])
    async def test_what_loads_and_what_does_not(self, case: Case, loads: Loads) -> None:
        fault = await loads(case)
        assert ("refused" if fault else "accepted") == case.given[self.engine], fault
        if self.engine == "embedded" and fault:
            assert case.given.get("says", "") in fault


def test_the_corpus_is_whole() -> None:
    assert len(CASES) >= 200
    assert {case.expected("opa").get("reason") for case in CASES} >= {
        "policy_invalid",
        "policy_undefined",
        "policy_error",
        "body_invalid",
        None,
    }
