"""The OPA engine against real OPA: the corpus over TCP and a unix socket, bundles, and its decision log."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import tarfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from clients.contract_policy import CASES, SHIPPED, Ask, Case, LoadingContract, Loads, PolicyContract
from fakes.opa_server import OpaServer, binary, free_port, opa
from fakes.waiting import until

from rankgate.clients.opa import OpaEngine
from rankgate.errors import GateError, Reason
from rankgate.policy import encode_question
from rankgate.policy.sample import sample_question
from rankgate.settings import PolicySettings

pytestmark = pytest.mark.opa


@asynccontextmanager
async def asking(url: str, path: str = "rankgate/decision", timeout_s: float = 2.0) -> AsyncIterator[OpaEngine]:
    engine = OpaEngine(PolicySettings(engine="opa", url=url, path=path, timeout_s=timeout_s))
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpaServer]:
    folder = tmp_path_factory.mktemp("corpus")
    for case in CASES:
        if "policy" in case.given:
            (folder / f"{case.key}.rego").write_text(case.module)
            (folder / f"{case.key}.json").write_text(json.dumps(case.data))
    with opa(SHIPPED / "rerank.rego", SHIPPED / "lib", SHIPPED / "data.json", folder) as server:
        yield server


class TestOpaOverTcp(PolicyContract):
    engine = "opa"

    @pytest.fixture
    def ask(self, corpus: OpaServer) -> Ask:
        async def ask(case: Case) -> object:
            async with asking(corpus.tcp, case.path) as engine:
                return await engine.decide(encode_question(case.given.get("question", {})))

        return ask


class TestOpaOverASocket(PolicyContract, LoadingContract):
    engine = "opa"

    @pytest.fixture
    def ask(self, corpus: OpaServer) -> Ask:
        async def ask(case: Case) -> object:
            async with asking(corpus.unix, case.path) as engine:
                return await engine.decide(encode_question(case.given.get("question", {})))

        return ask

    @pytest.fixture
    def loads(self, tmp_path: Path) -> Loads:
        async def loads(case: Case) -> str:
            module, data = tmp_path / "case.rego", tmp_path / "data.json"
            module.write_text(f"package cases\n\n{case.given['policy']}\n")
            data.write_text(json.dumps(case.given.get("data", {})))
            command = [binary(), "eval", "--data", str(module), "--data", str(data), "1"]
            told = await asyncio.to_thread(
                subprocess.run, command, capture_output=True, text=True, timeout=30, check=False
            )
            return told.stdout + told.stderr if told.returncode else ""

        return loads


async def test_many_questions_at_once_get_each_its_own_answer(corpus: OpaServer) -> None:
    case = next(case for case in CASES if case.name == "attacks: a model of braces and a backslash")
    async with asking(corpus.unix, case.path) as engine:
        questions = [{"rerank": {"model": f"m{number}"}} for number in range(100)]
        answers = await asyncio.gather(*map(engine.decide, map(encode_question, questions)))
    assert [answer["rankgate"]["reasons"] for answer in answers] == [[f"m{number}"] for number in range(100)]


async def test_readiness_follows_opa() -> None:
    with opa(SHIPPED / "rerank.rego", SHIPPED / "lib", SHIPPED / "data.json") as server:
        async with asking(server.unix) as engine:
            assert engine.ready
            server.process.kill()
            server.process.wait()
            await until(lambda: not engine.ready)
            with pytest.raises(GateError) as refused:
                await engine.decide(encode_question(sample_question()))
            assert refused.value.reason is Reason.POLICY_UNAVAILABLE


def bundle(revision: str) -> bytes:
    files = {
        ".manifest": json.dumps({"revision": revision, "roots": ["cases"]}),
        "cases.rego": "package cases\n\ndecision := true\n",
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()


async def test_scenario_18_a_decision_names_the_bundle_it_came_from(tmp_path: Path) -> None:
    (tmp_path / "bundle.tar.gz").write_bytes(bundle("2026-11-25.7"))
    with opa("--bundle", tmp_path / "bundle.tar.gz") as server:
        async with asking(server.unix, "cases/decision") as engine:
            assert await engine.decide("{}") is True
            assert "2026-11-25.7" in engine.revision
            assert engine.revision.startswith("opa:")


async def test_scenario_18_a_missing_bundle_is_not_ready_and_denies(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        f'services: {{s: {{url: "http://127.0.0.1:{free_port()}"}}}}\n'
        "bundles: {b: {service: s, resource: bundle.tar.gz}}\n"
    )
    with opa("--config-file", config) as server:
        async with asking(server.unix, "cases/decision") as engine:
            assert not engine.ready
            assert await engine.decide("{}") is None


async def test_scenario_18_a_bundle_with_a_wrong_signature_is_never_active(tmp_path: Path) -> None:
    (tmp_path / "bundle.tar.gz").write_bytes(bundle("forged"))
    (tmp_path / "key.pem").write_text("a shared secret")
    config = tmp_path / "config.yaml"
    config.write_text(
        'keys: {k: {algorithm: HS256, key: "a shared secret"}}\n'
        f'bundles: {{b: {{resource: "file://{tmp_path / "bundle.tar.gz"}", signing: {{keyid: k}}}}}}\n'
    )
    with opa("--config-file", config) as server:
        async with asking(server.unix, "cases/decision") as engine:
            await until(lambda: "not signed" in server.log.read_text() or "signature" in server.log.read_text())
            assert not engine.ready
            assert await engine.decide("{}") is None


async def test_the_decision_log_holds_no_query_and_no_text() -> None:
    question = sample_question()
    question["rerank"]["query"] = "jonas.feld@example.com"
    question["rerank"]["documents_text"] = [["jonas.feld@example.com"]]
    question["attributes"]["request"]["http"]["path"] = "/rerank?to=jonas.feld@example.com"
    question["identity"]["claims"] = {"email": "jonas.feld@example.com"}
    with opa(
        "--set", "decision_logs.console=true", SHIPPED / "rerank.rego", SHIPPED / "lib", SHIPPED / "system",
        SHIPPED / "data.json",
    ) as server:  # fmt: skip
        async with asking(server.unix) as engine:
            await engine.decide(encode_question(question))
        await until(lambda: "Decision Log" in server.log.read_text())
        assert "doc_chars" in server.log.read_text()
        assert "jonas" not in server.log.read_text()


@pytest.mark.parametrize(
    "arguments",
    [
        ("fmt", "--diff", "--fail"),
        ("check", "--strict", "--schema", str(SHIPPED / "schemas")),
        ("test",),
        ("test", "--bundle"),
    ],
    ids=["fmt", "check", "test", "test as a bundle"],
)
def test_the_shipped_policies_pass_opa(arguments: tuple[str, ...]) -> None:
    command = [binary(), *arguments, str(SHIPPED)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode == 0, told.stdout + told.stderr


def test_a_typo_in_a_path_of_the_question_is_found(tmp_path: Path) -> None:
    source = (SHIPPED / "rerank.rego").read_text()
    assert "input.rerank.total_chars" in source
    (tmp_path / "rerank.rego").write_text(source.replace("input.rerank.total_chars", "input.rerank.total_char"))
    command = [binary(), "check", "--strict", "--schema", str(SHIPPED / "schemas")]
    told = subprocess.run(
        [*command, str(tmp_path), str(SHIPPED / "lib")], capture_output=True, text=True, timeout=60, check=False
    )
    assert told.returncode != 0
    assert "total_char" in told.stdout + told.stderr
