"""Runs the tests of a policy folder with the embedded engine, and tells of them as `opa test` does."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankgate.clients.policy_files import read_policies
from rankgate.clients.rego import evaluate, load_engine
from rankgate.clients.rego_check import Head, heads
from rankgate.errors import GateError

__all__ = ["ERROR", "FAIL", "PASS", "SKIP", "Result", "passed", "run", "show"]

PASS, FAIL, ERROR, SKIP = "PASS", "FAIL", "ERROR", "SKIPPED"


@dataclass(frozen=True, slots=True)
class Result:
    """How one test ended: its rule, where it stands, the outcome, why, and the time it took in seconds."""

    rule: str
    place: str
    outcome: str
    reason: str = ""
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return what `-o json` prints; the duration is in nanoseconds, as OPA's."""
        shown = {"rule": self.rule, "location": self.place, "outcome": self.outcome.lower()}
        return {**shown, "reason": self.reason, "duration": round(self.seconds * 1e9)}


def run(folder: Path, pattern: re.Pattern[str]) -> list[Result]:
    """Run every test of `folder` whose full name `pattern` finds. Raises SettingsError where it does not load."""
    engine = load_engine(read_policies(folder), tests=True)
    results = []
    seen: set[str] = set()
    for head in heads(json.loads(engine.get_ast_as_json())):
        name = next((part for part in head.path if part.startswith(("test_", "todo_test_"))), None)
        rule = f"data.{'.'.join(head.path)}"
        if name is None or head.function or not head.file.endswith("_test.rego") or rule in seen:
            continue
        seen.add(rule)
        if pattern.search(rule):
            results.append(_run(engine, head, rule, skipped=name.startswith("todo_")))
    return results


def _run(engine: Any, head: Head, rule: str, *, skipped: bool) -> Result:
    place = f"{head.file}:{head.line}"
    if skipped:
        return Result(rule, place, SKIP)
    if head.partial:
        # A case that does not hold is absent here, not false: it would pass unseen.
        return Result(rule, place, ERROR, "tests with cases (test_x[note]) need `opa test`")
    begun = time.perf_counter()
    try:
        value = evaluate(engine, rule)
    except GateError as error:
        return Result(rule, place, ERROR, error.detail, time.perf_counter() - begun)
    return Result(rule, place, PASS if value is True else FAIL, "", time.perf_counter() - begun)


def passed(results: list[Result]) -> bool:
    """Tell whether there was a test and none failed."""
    outcomes = {result.outcome for result in results}
    return PASS in outcomes and not outcomes & {FAIL, ERROR}


def show(results: list[Result]) -> str:
    """Return the report, one line a test and a summary."""
    lines = []
    for result in results:
        took = "" if result.outcome == SKIP else f" ({result.seconds * 1000:.1f}ms)"
        lines.append(f"{result.rule}: {result.outcome}{took}")
        if result.outcome in {FAIL, ERROR}:
            lines.append(f"  {result.place}{': ' + result.reason if result.reason else ''}")
    ran = [result for result in results if result.outcome != SKIP]
    lines.append("-" * 80)
    for outcome, of in ((PASS, ran), (FAIL, ran), (ERROR, ran), (SKIP, results)):
        number = sum(result.outcome == outcome for result in results)
        if number or outcome == PASS:
            lines.append(f"{outcome}: {number}/{len(of)}")
    return "\n".join(lines)
