"""`rankgate up` guards a reranker of one's own with the same code, and stops when told."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from running import Running, alive, command, descendants, environment, started, wait_until

from rankgate.cli import root
from rankgate.cli.notices import absent
from rankgate.cli.preflight import port_fault
from rankgate.cli.running import run as run_until_done
from rankgate.cli.up import _file, _options, _renew
from rankgate.clients.state import StateDirectory, merged
from rankgate.minting import MintingKeys
from rankgate.settings import Settings, load

# Well below what anything waits for on its way out; an idle machine takes a third of a second.
STOP_SECONDS = 5.0
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
        ([], "Which reranker?"),
        ([], "rankgate up --upstream http://127.0.0.1:9000 --issuer https://login.example --audience rerank"),
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


def start_refused(short: Path, *more: str) -> str:
    """Return the one line of a gate that is refused before anything starts."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1]) if "TAKEN" in more else "0"
        arguments = [word if word != "TAKEN" else f"127.0.0.1:{port}" for word in more]
        listen = [] if "--listen" in arguments else ["--listen", "127.0.0.1:0"]
        state = [] if "--state" in arguments else ["--state", str(short / "state")]
        result = run("--upstream", "http://127.0.0.1:1", "--insecure-dev-issuer", *listen, *state, *arguments)
    assert result.exit_code == 1
    assert not list(short.rglob("*.log"))
    (line,) = result.stderr.splitlines()
    return line.replace(port, "PORT") if port != "0" else line


def test_a_port_in_use_is_one_line(short: Path) -> None:
    told = start_refused(short, "--listen", "TAKEN")
    assert told == "Error: 127.0.0.1:PORT is in use; choose another with --listen"


def test_an_address_of_another_machine_is_one_line() -> None:
    assert port_fault("192.0.2.1", 8080) == "192.0.2.1:8080 is no address of this machine; choose another with --listen"


def test_a_policy_that_does_not_load_is_refused_before_anything_starts(short: Path) -> None:
    (short / "policy").mkdir()
    (short / "policy" / "a.rego").write_text("package rankgate\n\ndecision := x\n")
    assert start_refused(short, "--policy", str(short / "policy")).startswith("Error: a.rego:3:")


def test_a_short_credential_is_said_to_be_too_short(short: Path) -> None:
    (short / "key").write_text("short\n")
    told = start_refused(short, "--credential-file", str(short / "key"))
    assert told == f"Error: credentials.file: {short / 'key'} is too short, 16 or more characters"


@pytest.mark.parametrize(
    ("name", "words"),
    [("with space", "has a space or another character"), ("long" * 30, "is too long"), ("a?b", "another character")],
)
def test_a_state_folder_whose_sockets_cannot_be_named_is_refused(short: Path, name: str, words: str) -> None:
    told = start_refused(short, "--state", str(short / name))
    assert words in told
    assert "choose another with --state" in told
    assert not (short / name).exists()


@pytest.fixture
def settings(short: Path) -> Callable[..., Settings]:
    def make(**sections: Any) -> Settings:
        given = {
            "upstream": {"url": "http://127.0.0.1:1"},
            "issuers": [{"issuer": "http://127.0.0.1:1", "audiences": ["a"], "insecure_http": True}],
        }
        return load(None, **merged(StateDirectory(short).defaults(), given, sections))

    return make


async def test_whoever_is_not_there_at_the_start_is_named(settings: Callable[..., Settings]) -> None:
    told = await absent(settings(policy={"engine": "opa", "url": "unix:///nowhere.sock"}))
    assert [line.split(" cannot be reached; ")[0] for line in told] == [
        "the reranker http://127.0.0.1:1", "the issuer http://127.0.0.1:1", "OPA unix:///nowhere.sock",
    ]  # fmt: skip


async def test_nothing_is_said_of_who_is_there(settings: Callable[..., Settings]) -> None:
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        issuer = {"issuer": url, "audiences": ["a"], "insecure_http": True}
        assert await absent(settings(upstream={"url": url}, issuers=[issuer])) == []


async def test_the_development_token_is_renewed_while_the_gate_runs(short: Path) -> None:
    tokens = iter(["first", "second", "third"])
    renewing = asyncio.ensure_future(_renew(StateDirectory(short), lambda: next(tokens), 0.001))
    async with asyncio.timeout(10):
        with pytest.raises(RuntimeError):  # what running out of tokens becomes
            await renewing
    assert (short / "dev-token").read_text() == "third"


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
def test_it_guards_a_reranker_and_ctrl_c_stops_it(gate: Running, short: Path) -> None:
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
    assert gate.text.startswith("Starting ")
    assert gate.text.endswith(f"stopped; state kept in {short / 'state'}\n")
    assert "WARNING     the shipped policy" not in gate.text
    assert not {pid for pid in children if alive(pid)}
    assert list((short / "state" / "audit").rglob("*"))


@pytest.mark.demo
def test_a_second_gate_in_the_same_folder_is_refused(gate: Running, short: Path) -> None:
    result = run("--upstream", "http://127.0.0.1:1", "--insecure-dev-issuer", "--state", str(short / "state"))
    assert result.exit_code == 1
    assert "another gate uses" in result.stderr


@pytest.mark.demo
def test_a_second_gate_on_the_same_port_is_refused(gate: Running, short: Path) -> None:
    port = value(gate.text, "base URL").rpartition(":")[2]
    result = run(
        "--upstream", "http://127.0.0.1:1", "--insecure-dev-issuer", "--listen", f"127.0.0.1:{port}",
        "--state", str(short / "other"),
    )  # fmt: skip
    assert result.exit_code == 1
    assert result.stderr == f"Error: 127.0.0.1:{port} is in use; choose another with --listen\n"


@pytest.mark.demo
def test_own_issuers_meet_a_warning_and_a_policy_that_does_not_load_is_told(short: Path) -> None:
    shipped = Path(__file__).parent.parent / "policies"
    base = ["up", "--upstream", "http://127.0.0.1:1", "--listen", "127.0.0.1:0", "--state", str(short / "state")]
    own = [*base, "--issuer", "https://127.0.0.1:1", "--audience", "a"]
    with started(command(*own)) as running:
        text = running.says("Ctrl-C stops everything.")
        assert text.count("WARNING") == 3
        assert "WARNING     the shipped policy knows the clients of its example alone" in text
        assert "WARNING     the reranker http://127.0.0.1:1 cannot be reached" in text
        assert "WARNING     the issuer https://127.0.0.1:1 cannot be reached" in text
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(10) == 0
    policy = short / "policy"
    shutil.copytree(shipped, policy)
    with started(command(*own, "--policy", str(policy))) as running:
        assert "the shipped policy" not in running.says("Ctrl-C stops everything.").replace("the shipped one", "")
        good = (policy / "rerank.rego").read_text()
        (policy / "rerank.rego").write_text(good + "\nbroken := {\n")
        assert "rerank.rego:" in running.says("; the old one stays").split("policy not reloaded: ")[1]
        (policy / "rerank.rego").write_text(good + "\nmended := 1\n")
        running.says("policy reloaded: sha256:")


@pytest.mark.demo
def test_a_gate_that_mints_makes_its_key_on_first_use(short: Path) -> None:
    config, state = short / "mine.toml", short / "state"
    minted = 'minted = { issuer = "https://gate.example", audience = "engine" }'
    config.write_text(f'[credentials]\nbroker = "minted"\n{minted}\n')
    base = ["up", "--upstream", "http://127.0.0.1:1", "--listen", "127.0.0.1:0", "--state", str(state)]
    with started(command(*base, "--insecure-dev-issuer", "--config", str(config))) as running:
        running.says("Ctrl-C stops everything.")
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(10) == 0
    printed = CliRunner().invoke(root, ["config", "jwks", "--config", str(state / "settings.toml")]).stdout
    assert json.loads(printed) == json.loads(MintingKeys.read((state / "minting.pem").read_bytes()).jwks)


@pytest.mark.demo
def test_a_part_that_ends_ends_it_all_with_its_name(gate: Running) -> None:
    children = descendants(gate.process.pid)
    commands = {pid: _command_line(pid) for pid in children}
    filters = [pid for pid, line in commands.items() if "ext_proc" in line]
    assert filters
    os.kill(filters[0], signal.SIGKILL)
    gate.process.wait(15)
    assert gate.process.returncode == 1
    assert "Error: ext_proc-0 ended (killed by SIGKILL); what it wrote last:\n" in gate.text
    assert not {pid for pid in children if alive(pid)}


def _command_line(pid: int) -> str:
    return subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout


def test_interrupting_is_a_result_of_its_own() -> None:
    async def forever() -> bool:
        signal.raise_signal(signal.SIGTERM)
        await asyncio.Event().wait()
        return True

    assert run_until_done(forever()) is None
