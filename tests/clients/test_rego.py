"""The embedded engine: the corpus, and what is its own: loading, reloading, time, threads."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from clients.contract_policy import SHIPPED, Ask, Case, LoadingContract, Loads, PolicyContract
from fakes.waiting import until

from rankgate.clients.rego import EmbeddedEngine
from rankgate.errors import GateError, Reason, SettingsError
from rankgate.policy import encode_question
from rankgate.policy.sample import sample_question
from rankgate.settings import PolicySettings

pytest.importorskip("regorus", reason="regorus is not installed: rankgate[embedded]")

ALLOW = "package cases\n\ndecision := true\n"


@asynccontextmanager
async def running(
    directory: Path, path: str = "cases/decision", timeout_s: float = 1.0
) -> AsyncIterator[EmbeddedEngine]:
    engine = EmbeddedEngine(PolicySettings(path=path, timeout_s=timeout_s), directory)
    try:
        await engine.start()
        yield engine
    finally:
        await engine.stop()


class TestEmbedded(PolicyContract, LoadingContract):
    engine = "embedded"

    @pytest.fixture
    def ask(self, tmp_path: Path) -> Ask:
        async def ask(case: Case) -> object:
            directory = SHIPPED
            if "policy" in case.given:
                directory = tmp_path
                (tmp_path / "case.rego").write_text(case.module)
                (tmp_path / "data.json").write_text(json.dumps(case.data))
            engine = EmbeddedEngine(PolicySettings(path=case.path, timeout_s=1.0), directory)
            assert await engine.reload(), engine.fault
            return await engine.decide(encode_question(case.given.get("question", {})))

        return ask

    @pytest.fixture
    def loads(self, tmp_path: Path) -> Loads:
        async def loads(case: Case) -> str:
            (tmp_path / "case.rego").write_text(f"package cases\n\n{case.given['policy']}\n")
            (tmp_path / "data.json").write_text(json.dumps(case.given.get("data", {})))
            engine = EmbeddedEngine(PolicySettings(path="cases/decision"), tmp_path)
            return "" if await engine.reload() else str(engine.fault)

        return loads


async def test_the_shipped_policy_answers_the_sample() -> None:
    async with running(SHIPPED, "rankgate/decision") as engine:
        assert engine.ready
        assert engine.revision.startswith("sha256:")
        assert await engine.decide(encode_question(sample_question())) == {
            "allowed": False,
            "rankgate": {
                "reasons": ["this client is not known here"],
                "risk": "medium",
                "documents": {"drop": [], "on_empty": "deny"},
            },
        }


async def test_an_engine_that_is_not_started_or_stopped_denies(tmp_path: Path) -> None:
    (tmp_path / "a.rego").write_text(ALLOW)
    async with running(tmp_path) as engine:
        pass
    assert not engine.ready
    with pytest.raises(GateError) as refused:
        await engine.decide("{}")
    assert refused.value.reason is Reason.POLICY_UNAVAILABLE


async def test_a_decision_without_a_rule_is_refused_at_start(tmp_path: Path) -> None:
    (tmp_path / "a.rego").write_text(ALLOW)
    with pytest.raises(SettingsError, match=r"no rule defines data\.cases\.nope"):
        async with running(tmp_path, "cases/nope"):
            pass


async def test_a_function_is_no_decision(tmp_path: Path) -> None:
    (tmp_path / "a.rego").write_text("package cases\n\ndecision(x) := x\n")
    with pytest.raises(SettingsError, match="no rule defines"):
        async with running(tmp_path):
            pass


async def test_data_is_merged_by_folder_and_tests_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.rego").write_text('package cases\n\ndecision := data.teams.eu.names["x"]\n')
    (tmp_path / "a_test.rego").write_text("package cases\n\ndecision := false\n")
    (tmp_path / "teams" / "eu").mkdir(parents=True)
    (tmp_path / "teams" / "data.json").write_text('{"us": 1}')
    (tmp_path / "teams" / "eu" / "data.json").write_text('{"names": {"x": true}}')
    (tmp_path / "teams" / "other.json").write_text("not read")
    async with running(tmp_path) as engine:
        assert await engine.decide("{}") is True


async def test_a_change_is_taken_without_a_restart(tmp_path: Path) -> None:
    policy = tmp_path / "a.rego"
    policy.write_text(ALLOW)
    async with running(tmp_path) as engine:
        first = engine.revision
        policy.write_text(ALLOW.replace("true", "false"))
        await until(lambda: engine.revision != first)
        assert await engine.decide("{}") is False


async def test_a_test_file_changes_no_revision(tmp_path: Path) -> None:
    (tmp_path / "a.rego").write_text(ALLOW)
    async with running(tmp_path) as engine:
        first = engine.revision
        (tmp_path / "a_test.rego").write_text("package cases_test\n\ntest_x if true\n")
        assert await engine.reload()
        assert engine.revision == first


@pytest.mark.parametrize(
    "broken",
    ["package cases\n\ndecision := {\n", "package cases\n\ndecision := time.now_ns()\n", "package other\n\nx := 1\n"],
)
async def test_scenario_66_a_reload_that_does_not_load_keeps_the_old_policy(tmp_path: Path, broken: str) -> None:
    policy = tmp_path / "a.rego"
    policy.write_text(ALLOW)
    async with running(tmp_path) as engine:
        first = engine.revision
        policy.write_text(broken)
        assert not await engine.reload()
        assert engine.fault
        assert engine.ready
        assert engine.revision == first
        assert await engine.decide("{}") is True
        policy.write_text(ALLOW)
        assert await engine.reload()
        assert engine.fault is None


async def test_scenario_66_a_broken_change_on_disk_is_noticed_and_reported(tmp_path: Path) -> None:
    policy = tmp_path / "a.rego"
    policy.write_text(ALLOW)
    async with running(tmp_path) as engine:
        policy.write_text("package cases\n\ndecision := {\n")
        await until(lambda: engine.fault is not None)
        assert "a.rego" in str(engine.fault)
        assert await engine.decide("{}") is True


async def test_an_answer_that_comes_late_is_no_answer(tmp_path: Path) -> None:
    (tmp_path / "a.rego").write_text(
        "package cases\n\ndecision := true if {\n"
        "\tcount([1 | some i in numbers.range(1, input.n); some j in numbers.range(1, input.n); i == j]) > 0\n}\n"
    )
    async with running(tmp_path, timeout_s=0.05) as engine:
        assert await engine.decide(encode_question({"n": 2})) is True
        with pytest.raises(GateError) as late:
            await engine.decide(encode_question({"n": 700}))
        assert late.value.reason is Reason.POLICY_TIMEOUT


async def test_another_thread_is_refused_before_the_engine_would_panic(tmp_path: Path) -> None:
    (tmp_path / "a.rego").write_text(ALLOW)
    refused: list[GateError] = []

    async with running(tmp_path) as engine:

        def elsewhere() -> None:
            try:
                asyncio.run(engine.decide("{}"))
            except GateError as error:
                refused.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert [error.reason for error in refused] == [Reason.POLICY_UNAVAILABLE]


async def test_one_question_leaves_nothing_for_the_next(tmp_path: Path) -> None:
    (tmp_path / "a.rego").write_text("package cases\n\ndecision := input.a\n")
    async with running(tmp_path) as engine:
        assert await engine.decide(encode_question({"a": True})) is True
        assert await engine.decide("{}") is None


async def test_what_a_policy_prints_and_what_fails_show_no_value(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.rego").write_text(
        "package cases\n\ndecision := true if { print(input.a); to_number(input.a) > 1 }\n"
    )
    async with running(tmp_path) as engine:
        with pytest.raises(GateError) as failed:
            await engine.decide(encode_question({"a": "jonas@example.com"}))
    assert failed.value.reason is Reason.POLICY_ERROR
    assert "a.rego:3" in failed.value.detail
    shown = capfd.readouterr()
    assert "jonas" not in failed.value.detail + str(failed.value) + shown.out + shown.err
