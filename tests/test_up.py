"""`rankgate up` guards a reranker of one's own with the same code, and stops within a second."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from running import Running, alive, command, descendants, environment, started, wait_until

from rankgate.cli import root
from rankgate.cli.running import run as run_until_done
from rankgate.cli.up import _file, _options

STOP_SECONDS = 1.0
DOCUMENTS = ["opening hours", "refund of ada@example.com"]


def run(*args: str) -> Result:
    return CliRunner().invoke(root, ["up", *args], prog_name="rankgate")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def options(**given: Any) -> dict[str, Any]:
    names = ("upstream", "issuer", "listen", "credential_file", "trusted_ca", "policy", "opa_url")
    return _options({name: given.get(name) for name in names} | {"audience": given.get("audience", ())})


@pytest.fixture
def short() -> Iterator[Path]:
    """Yield a folder with a short name: the path of a unix socket holds about a hundred bytes."""
    with tempfile.TemporaryDirectory(prefix="rg-") as folder:
        yield Path(folder)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "Whose tokens are accepted?"),
        (["--issuer", "https://i.example"], "--issuer needs --audience"),
        (["--issuer", "https://i.example", "--audience", "a"], "Which reranker?"),
        (["--issuer", "https://i.example", "--audience", "a", "--insecure-dev-issuer"], "exclude each other"),
        (["--listen", "8080"], "--listen is ADDRESS:PORT"),
        (["--credential-file", "none"], "does not exist"),
    ],
)
def test_wrong_usage_says_what_to_give(args: list[str], words: str) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert words in result.stderr


def test_the_development_issuer_is_refused_off_loopback(short: Path) -> None:
    result = run(
        "--upstream", "http://127.0.0.1:1", "--insecure-dev-issuer", "--listen", "0.0.0.0:0", "--state", str(short),
        "--config", str(_write(short, "[listen]\ninsecure_plaintext = true\n")),
    )  # fmt: skip
    assert result.exit_code == 1
    assert "listen.address 0.0.0.0 is not loopback, and --insecure-dev-issuer gives tokens to anyone" in result.stderr


def test_a_contradiction_is_refused_before_anything_starts(short: Path) -> None:
    result = run("--upstream", "https://rerank.example", "--insecure-dev-issuer", "--state", str(short))
    assert result.exit_code == 1
    assert "upstream.trusted_ca is required" in result.stderr


def test_options_become_settings(tmp_path: Path) -> None:
    key = tmp_path / "key"
    found = options(
        upstream="http://127.0.0.1:1", issuer="https://i.example", audience=("a", "b"), listen="[::1]:0",
        credential_file=key, opa_url="unix:///run/opa.sock",
    )  # fmt: skip
    assert found["issuers"] == [{"issuer": "https://i.example", "audiences": ["a", "b"]}]
    assert found["listen"] == {"address": "::1", "port": 0}
    assert found["credentials"] == {"broker": "file", "file": key}
    assert found["policy"]["engine"] == "opa"
    assert options() == {}


def test_a_settings_file_that_is_no_toml_is_one_line(short: Path) -> None:
    result = run("--config", str(_write(short, "listen = {")))
    assert result.exit_code == 1
    assert "cannot be read as TOML" in result.stderr
    assert _file(None) == {}


def _write(folder: Path, text: str) -> Path:
    file = folder / "given.toml"
    file.write_text(text)
    return file


@pytest.fixture
def engine(short: Path) -> Iterator[str]:
    """Yield the URL of a reranker in a process of its own, which asks for a key."""
    port = free_port()
    key = short / "upstream.key"
    key.write_text("upstream-key-of-the-test\n")
    arguments = [*command()[:1], "-m", "rankgate.demo.reranker", "--port", str(port)]
    with started(arguments, env=environment(RERANKER_KEY_FILE=str(key))):
        wait_until(lambda: _accepts(port), 20, "the reranker did not come up")
        yield f"http://127.0.0.1:{port}"


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def gate(short: Path, engine: str) -> Iterator[Running]:
    arguments = command(
        "up", "--upstream", engine, "--insecure-dev-issuer", "--listen", "127.0.0.1:0",
        "--credential-file", str(short / "upstream.key"), "--state", str(short / "state"),
    )  # fmt: skip
    with started(arguments) as running:
        running.says("Ctrl-C stops everything.")
        yield running


def value(text: str, label: str) -> str:
    match = re.search(rf"^{label} +(\S+)", text, re.MULTILINE)
    assert match is not None, text
    return match[1]


def rerank(url: str, token: str | None) -> tuple[int, Any]:
    body = json.dumps({"model": "demo", "query": "refund of ada@example.com", "documents": DOCUMENTS}).encode()
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{url}/v2/rerank", body, headers), timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.demo
def test_it_guards_a_reranker_and_ctrl_c_stops_it_within_a_second(gate: Running, short: Path) -> None:
    text = gate.text
    url, token = value(text, "base URL"), Path(value(text, "a token")).read_text()
    assert "the development issuer gives tokens to anyone on this machine" in text
    assert rerank(url, None)[0] == 401
    status, body = rerank(url, token)
    assert status == 200
    assert body["results"][0]["index"] == 1
    children = descendants(gate.process.pid)
    assert len(children) >= 4
    gate.process.send_signal(signal.SIGINT)
    assert wait_until(lambda: gate.process.poll() is not None, 10, "it did not stop") <= STOP_SECONDS
    assert gate.process.returncode == 0
    assert not {pid for pid in children if alive(pid)}
    assert list((short / "state" / "audit").rglob("*"))


@pytest.mark.demo
def test_a_second_gate_in_the_same_folder_is_refused(gate: Running, short: Path) -> None:
    result = run("--upstream", "http://127.0.0.1:1", "--insecure-dev-issuer", "--state", str(short / "state"))
    assert result.exit_code == 1
    assert "another gate uses" in result.stderr


@pytest.mark.demo
def test_a_part_that_ends_ends_it_all_with_its_name(gate: Running) -> None:
    children = descendants(gate.process.pid)
    commands = {pid: _command_line(pid) for pid in children}
    filters = [pid for pid, line in commands.items() if "ext_proc" in line]
    assert filters
    os.kill(filters[0], signal.SIGKILL)
    gate.process.wait(15)
    assert gate.process.returncode == 1
    assert "Error: ext_proc-0 ended" in gate.text
    assert not {pid for pid in children if alive(pid)}


def _command_line(pid: int) -> str:
    return subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout


def test_interrupting_is_a_result_of_its_own() -> None:
    async def forever() -> bool:
        signal.raise_signal(signal.SIGTERM)
        await asyncio.Event().wait()
        return True

    assert run_until_done(forever()) is None
