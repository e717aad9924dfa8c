"""The bench measures what it says: its parts run, its result has the documented shape, and its verdicts are right."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench import contenders, picture, restart, waiting
from bench.bodies import bodies, requests
from bench.ground import ground
from bench.http1 import body_start, complete, sent_length
from bench.laps import Laps
from bench.page import publish
from bench.plan import BUDGETS, GROUPS, Effort, Outcome, Workload
from bench.report import Report
from bench.rounds import Summary
from bench.stages import REST, tables
from bench.steady import Call
from bench.trail import Kept

ROOT = Path(__file__).parents[1]
SUMMARY_KEYS = {
    "rate", "rate_to_floor", "p50_us", "p99_us", "cpu_us", "total_cpu_us", "to_floor", "to_plain", "own", "spread",
    "memory_mib", "total_mib", "calls", "failed", "steady",
}  # fmt: skip


def summary(total: float, own: float = 0.0) -> Summary:
    return Summary(
        100.0, 1.0, 1000.0, 2000.0, {"envoy": total / 2, "ext_authz-0": total / 2}, total, 1 + own, 2.0, own, 0.1,
        {"envoy": 60.0}, 60.0, 50, 0,
    )  # fmt: skip


def report(own: float = 0.5) -> Report:
    contenders = {"plain": summary(50), "floor": summary(500), "constant": summary(900, own)}
    outcomes = {
        name: Outcome(Workload(name, count, None), 100, contenders)
        for name, count in (("20 documents", 20), ("200 documents", 200))
    }
    return Report(Effort(), outcomes, [], {"opa": "no binary"}, {"cores": 2})


def test_bodies_are_the_same_at_every_run_and_hold_findings() -> None:
    assert bodies(20, 2) == bodies(20, 2)
    assert bodies(20, 2)[0] != bodies(20, 2)[1]
    assert len(json.loads(bodies(20, 1)[0])["documents"]) == 20
    assert b"@example.org" in bodies(20, 1)[0]
    assert 3_800 <= len(bodies(20, 1)[0]) <= 4_200
    assert 44_000 <= len(bodies(200, 1)[0]) <= 46_000


def test_a_message_is_whole_only_with_its_last_byte() -> None:
    (request,) = requests([b"{}"], "token")
    assert complete(request)
    assert not complete(request[:-1])
    assert not complete(request[: body_start(request) - 1])
    assert sent_length(request[: body_start(request)]) == 2
    assert complete(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")


def test_a_stage_that_is_no_longer_there_is_an_error() -> None:
    with (
        pytest.raises(AttributeError, match="nothing_of_that_name"),
        Laps().watching([("x", "json:nothing_of_that_name")]),
    ):
        pass


def test_what_a_stage_inside_takes_is_not_the_outer_ones() -> None:
    laps = Laps()
    with laps.watching([("outer", "json:loads"), ("inner", "json.decoder:JSONDecoder.decode")]):
        json.loads("[" + "1," * 200_000 + "1]")
    assert laps.ns["inner"] > laps.ns["outer"] > 0


def test_budgets_are_judged_by_our_own_share() -> None:
    assert {one["kept"] for one in report(own=0.9).budgets()} == {True}
    assert {one["kept"] for one in report(own=2.1).budgets()} == {False}
    assert {one["contender"] for one in report().budgets()} == {"constant"}


def test_every_budget_has_a_workload_and_a_contender() -> None:
    measured = {(load.name, start.__name__) for group in GROUPS for load in group.workloads for start in group.starts}
    assert {(one.workload, one.contender) for one in BUDGETS} <= measured


def test_the_report_says_what_is_missing_and_has_the_documented_keys() -> None:
    told = json.loads(json.dumps(report().to_json()))
    assert told.keys() == {"schema", "machine", "effort", "workloads", "budgets", "detection", "missing", "waiting"}
    assert told["workloads"]["20 documents"]["contenders"]["floor"].keys() == SUMMARY_KEYS
    assert "Not measured: opa (no binary)." in report().to_markdown()


def test_the_picture_is_well_formed_and_names_every_contender() -> None:
    drawn = picture.draw(report().outcomes)
    ElementTree.fromstring(drawn)
    assert "rankgate, constant policy" in drawn


def test_publishing_replaces_what_is_between_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n")
    publish("new \\1\n", page, "bench")
    assert page.read_text() == "before\n<!-- bench -->\n\nnew \\1\n\n<!-- /bench -->\nafter\n"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="marks"):
        publish("new", page, "bench")


def verdict(
    *,
    status: int = 200,
    unmasked: int = 0,
    decisions: int = 1,
    completions: int = 1,
    gaps: int = 0,
    part: str = "valkey",
) -> list[str]:
    trail = Kept(Counter({"d": decisions}), Counter({"d": completions}), {"d"}, {}, gaps)
    reranker = restart.Reranker(requests=1, unmasked=unmasked)
    call = Call(10.5, status, "d", 0.1)
    return restart.judge(restart.Verdict([restart.Window(part, 10.0, 11.0)], [call], reranker, trail, 200.0), 200.0)


def test_a_restart_without_faults_is_accepted() -> None:
    assert verdict() == []


@pytest.mark.parametrize(
    "fault",
    [
        {"unmasked": 1},
        {"decisions": 0},
        {"completions": 0},
        {"decisions": 2},
        {"completions": 2},
        {"gaps": 1},
        {"status": 503},
        {"status": 503, "part": "ext_authz-0"},
        {"status": 503, "part": "ext_proc-1"},
    ],
)
def test_every_fault_of_a_restart_is_named(fault: dict[str, Any]) -> None:
    assert verdict(**fault)


def test_what_the_design_has_a_place_for_is_counted_and_no_fault() -> None:
    assert verdict(status=503, part="opa") == []
    assert verdict(status=0, part="envoy") == []
    assert verdict(status=500, part="envoy")


def held(**changes: Any) -> waiting.Waiting:
    phase = waiting.Phase(100, 0, 5000.0, 9000.0, 1.0, {"envoy": 1.0, "ext_authz-0": 2.0})
    found = waiting.Waiting(
        machine={"cores": 2}, pace=waiting.Pace(), phases=dict.fromkeys(waiting.TITLES, phase),
        enabled_cpu_ratio=1.0, enabled_p50_ratio=1.0, more_ms=8.0, more_most_ms=9.0, ordinary_ms=6.0,
        more_statuses={"429": 30}, memory_mib={"envoy": (70.0, 95.0, 96.0)}, quiet_us=20.0,
        answers={"at once": {"200": 256}}, vote_ms={"at once": (10.0, 20.0)},
        expected=256, arrived=256, different=256, left_behind=0,
    )  # fmt: skip
    return dataclasses.replace(found, **changes)


def test_waiting_without_faults_is_accepted_and_told() -> None:
    assert waiting.faults(held()) == []
    text = waiting.to_markdown(held())
    assert "| 256 wait | 100 | 0 | 5.00 | 9.00 | 1.00 |" in text
    assert "at most 1.5 is wanted: kept" in text
    slow = waiting.Phase(100, 0, 5000.0, 9000.0, 1.6, {"envoy": 1.0})
    assert "over" in waiting.to_markdown(held(phases={**held().phases, "held": slow}))


@pytest.mark.parametrize(
    "fault",
    [
        {"phases": dict.fromkeys(waiting.TITLES, waiting.Phase(100, 1, 1.0, 1.0, 1.0, {}))},
        {"more_statuses": {"429": 29, "503": 1}},
        {"more_statuses": {}},
        {"answers": {"at once": {"200": 255, "503": 1}}},
        {"arrived": 257},
        {"different": 255},
        {"left_behind": 1},
    ],
)
def test_every_fault_of_waiting_is_named(fault: dict[str, Any]) -> None:
    assert waiting.faults(held(**fault))


@pytest.mark.demo
async def test_every_stage_of_both_filters_is_found_and_used() -> None:
    async with ground() as shared:
        for table in await tables(shared, 2, 5):
            unused = [stage for stage, taken in table.stages_us.items() if taken == 0 and stage != REST]
            assert unused == [], table.filter


@pytest.mark.demo
async def test_opa_envoy_plugin_decides_as_our_ext_authz_does_by_the_policy_they_share() -> None:
    try:
        contenders.tool("opa-envoy-plugin")
    except LookupError as error:
        pytest.skip(f"{error}; bench/tools.sh builds it")
    body = {"model": "rerank", "query": "a", "documents": ["b"]}
    async with (
        ground() as shared,
        httpx.AsyncClient(headers={"authorization": f"Bearer {shared.token('a')}"}) as client,
    ):
        for start in (contenders.gate_authz, contenders.opa_envoy_plugin):
            url = f"http://127.0.0.1:{(await start(shared)).port}"
            answers = [await client.post(f"{url}{path}", json=body) for path in ("/v2/rerank", "/v1/rerank")]
            assert [answer.status_code for answer in answers] == [200, 403], start.__name__


@pytest.mark.demo
def test_a_quick_run_answers_every_call_and_writes_its_result(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "--quick", "--group", "whole gate", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "bench.json").read_text())
    contenders = told["workloads"]["20 documents"]["contenders"]
    assert contenders.keys() | told["missing"].keys() >= {"plain", "floor", "constant", "embedded", "opa"}
    assert contenders["constant"]["cpu_us"].keys() == {"envoy", "ext_authz-0", "ext_proc-0", "valkey"}
    assert all(one["failed"] == 0 for one in contenders.values())
    ElementTree.fromstring((tmp_path / "bench.svg").read_text())


@pytest.mark.demo
def test_a_quick_run_holds_callers_and_lets_them_go_in_every_way(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "--quick", "--group", waiting.NAME, "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "bench.json").read_text())["waiting"]
    callers, rounds = told["pace"]["callers"], told["pace"]["rounds"]
    assert told["phases"].keys() == waiting.TITLES.keys() | {"before"}
    assert told["answers"] == {"one by one": {"200": callers}, "at once": {"200": callers}}
    assert told["expected"] == told["arrived"] == told["different"] == 2 * callers
    assert told["more_statuses"] == {"429": rounds * told["pace"]["more"]}
    assert told["memory_mib"].keys() == {"envoy", "ext_authz-0", "ext_proc-0", "valkey"}
    assert f"| {callers} wait |" in done.stdout
