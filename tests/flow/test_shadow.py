"""A candidate policy beside the live one: callers notice nothing, whatever it rules, says or does."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flow.gate import ALLOW_ALL, Gate
from flow.operations import scrape

pytest.importorskip("regorus", reason="regorus is not installed: rankgate[embedded]")

CALL = {"query": "for maren.oldfield@example.org", "documents": ["a", "b"]}
DENY_ALL = 'package rankgate\n\ndecision := {"allowed": false, "rankgate": {"reasons": [input.rerank.query]}}\n'
# Minutes of work, of which the engine can be told nothing.
ENDLESS = """package rankgate

decision if count([1 | some i in n; some j in n; i * j == input.time.ns]) == 0

n := numbers.range(1, 20000)
"""
# About half a second of work.
SLOW = ENDLESS.replace("20000", "1100")
WITHIN_S = 30.0


def settings(folder: Path, policy: str, **changes: Any) -> dict[str, Any]:
    write(folder, policy)
    shadow = {"shadow_directory": str(folder / "candidate"), **changes}
    return {"policy": shadow, "health": {"ext_authz_port": 0, "ext_proc_port": 0}}


def write(folder: Path, policy: str) -> None:
    (folder / "candidate").mkdir(exist_ok=True)
    (folder / "candidate" / "policy.rego").write_text(policy)


async def outcomes(gate: Gate) -> dict[str, float]:
    seen = await scrape(gate, ("ext_authz", 0))
    name = "rankgate_shadow_decisions_total"
    assert {one.labels["outcome"] for one in seen.samples if one.name == name} == {
        "same", "different", "failed", "dropped",
    }  # fmt: skip
    return {one.labels["outcome"]: one.value for one in seen.samples if one.name == name and one.value}


async def until(gate: Gate, holds: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    deadline = time.monotonic() + WITHIN_S
    while not holds(seen := await outcomes(gate)):
        assert time.monotonic() < deadline, seen
        await asyncio.sleep(0.05)
    return seen


async def shadowed(gate: Gate, word: str, count: int = 1) -> list[dict[str, Any]]:
    """Return what the trail holds of the candidate under `word`, once it is `count` entries."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        ours = [event["body"]["unmapped"]["rankgate"] for event in await gate._read_streams()]
        found = [one for one in ours if one.get("what") == "shadow" and one.get("word") == word]
        if len(found) >= count:
            return found
        assert time.monotonic() < deadline, [one for one in ours if one.get("what") == "shadow"]
        await asyncio.sleep(0.05)


async def test_a_candidate_that_denies_everything_changes_nothing_but_is_counted_and_recorded(tmp_path: Path) -> None:
    async with Gate(settings(tmp_path, DENY_ALL), policy=ALLOW_ALL) as gate:
        answers = [await gate.post("/v2/rerank", CALL) for _ in range(8)]
        assert {answer.status for answer in answers} == {200}
        assert len(gate.upstream.requests) == 8
        assert await until(gate, lambda seen: seen.get("different", 0) == 8) == {"different": 8}
        found = await shadowed(gate, "newly_denied", 8)
        decisions = [event["body"]["unmapped"]["rankgate"] for event in await gate.decisions()]
        assert {one["detail"]["decision_id"] for one in found} == {one["decision_id"] for one in decisions}
        (loaded,) = await shadowed(gate, "loaded")
        live = {event["body"]["policy"]["version"] for event in await gate.decisions()}
        for one in found:
            assert one["detail"]["differs"] == "newly_denied"
            assert {one["detail"]["policy_revision"]} == live
            assert one["detail"]["shadow_revision"] == loaded["detail"]["shadow_revision"]
        # Its reasons quote the query, and none of its words are kept.
        assert "maren" not in json.dumps(found) + gate.logs()


async def test_the_same_policy_is_the_same_and_a_changed_folder_is_taken_without_a_restart(tmp_path: Path) -> None:
    async with Gate(settings(tmp_path, ALLOW_ALL), policy=ALLOW_ALL) as gate:
        await gate.post("/v2/rerank", CALL)
        await until(gate, lambda seen: seen == {"same": 1})
        write(tmp_path, DENY_ALL)
        await shadowed(gate, "loaded", 2)
        await gate.post("/v2/rerank", CALL)
        await until(gate, lambda seen: seen == {"same": 1, "different": 1})
        write(tmp_path, "package rankgate\n\ndecision := {\n")
        (fault,) = await shadowed(gate, "not_loaded")
        assert "policy.rego:" in fault["detail"]["fault"]
        await gate.post("/v2/rerank", CALL)
        await until(gate, lambda seen: seen == {"same": 1, "different": 2})


@pytest.mark.parametrize(
    ("policy", "word"),
    [
        ("package rankgate\n\ndecision := {\n", "not_loaded"),
        ("package other\n\ndecision := true\n", "not_loaded"),
        ("package rankgate\n\ndecision if 1 / (input.rerank.query_chars - 30) > 0\n", "policy_error"),
        ("package rankgate\n\ndecision := object.get(input, [\"rerank\", \"query\"], true)\n", "policy_invalid"),
        ('package rankgate\n\ndecision if input.route == "another"\n', "policy_undefined"),
    ],
)  # fmt: skip
async def test_a_broken_candidate_is_told_and_stands_in_nobody_s_way(tmp_path: Path, policy: str, word: str) -> None:
    async with Gate(settings(tmp_path, policy), policy=ALLOW_ALL) as gate:
        for _ in range(3):
            assert (await gate.post("/v2/rerank", CALL)).status == 200
        assert await until(gate, lambda seen: seen.get("failed", 0) == 3) == {"failed": 3}
        (one, *_) = await shadowed(gate, word)
        assert "maren" not in json.dumps(one)


async def test_a_slow_candidate_delays_nobody_and_what_it_cannot_keep_up_with_is_dropped(tmp_path: Path) -> None:
    async with Gate(settings(tmp_path, SLOW, timeout_s=3), policy=ALLOW_ALL) as gate:
        await shadowed(gate, "loaded")
        count, began = 300, time.monotonic()
        room = asyncio.Semaphore(8)

        async def send() -> int:
            async with room:
                return (await gate.post("/v2/rerank", CALL)).status

        statuses = await asyncio.gather(*(send() for _ in range(count)))
        took = time.monotonic() - began
        assert set(statuses) == {200}
        seen = await until(gate, lambda seen: seen.get("dropped", 0) > 0)
        # The candidate alone would have needed longer than all of this: nobody waited for it.
        assert sum(seen.values()) - seen["dropped"] < count - seen["dropped"]
        assert took < WITHIN_S


async def test_a_candidate_that_does_not_end_is_ended_and_started_again(tmp_path: Path) -> None:
    async with Gate(settings(tmp_path, ENDLESS, timeout_s=0.05), policy=ALLOW_ALL) as gate:
        await gate.post("/v2/rerank", CALL)
        assert (await gate.post("/v2/rerank", CALL)).status == 200
        write(tmp_path, DENY_ALL)
        await until(gate, lambda seen: sum(seen.values()) == 2)
        await shadowed(gate, "loaded")
        await gate.post("/v2/rerank", CALL)
        seen = await until(gate, lambda seen: seen.get("different", 0) >= 1)
        assert seen.get("same", 0) == 0


async def test_differences_beyond_the_pace_are_counted_and_not_recorded(tmp_path: Path) -> None:
    async with Gate(settings(tmp_path, DENY_ALL, shadow_events_per_s=0), policy=ALLOW_ALL) as gate:
        for _ in range(4):
            await gate.post("/v2/rerank", CALL)
        await until(gate, lambda seen: seen == {"different": 4})
        await gate.post("/v2/rerank", CALL)
        await gate.events()
        ours = [event["body"]["unmapped"]["rankgate"] for event in await gate._read_streams()]
        assert [one["word"] for one in ours if one.get("what") == "shadow"] == ["loaded"]
