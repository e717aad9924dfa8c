"""Every command in the README runs, in the order it is read there."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from running import Running, environment, started, wait_until

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


FILES = {"rego", "json", "toml"}  # with a name behind it, a block is a file to write


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, what stands behind it, and the text."""

    language: str
    argument: str
    text: str


BLOCKS = [Block(*(group or "" for group in match.groups())) for match in FENCE.finditer(README)]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Reader:
    """Somebody who types what the README says, in one folder; the ports are free ones."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.engine_port, self.gate_port = free_port(), free_port()
        self._stack = stack
        self._gate: Running | None = None
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._environment = environment(PATH=path, RANKGATE_LISTEN__PORT=str(self.gate_port))

    def run(self, block: Block) -> str:
        """Do what one block says; return what it printed."""
        text = block.text.replace("9000", str(self.engine_port)).replace(":8080", f":{self.gate_port}")
        if block.language in FILES:
            file = self.folder / block.argument
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text)
            return ""
        if block.argument == "background":
            return self._start(text)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _start(self, text: str) -> str:
        if "rankgate up" in text:
            self._stop_gate()
        command = ["bash", "-c", f"exec {text}"]
        running = self._stack.enter_context(started(command, cwd=self.folder, env=self._environment))
        if "rankgate up" not in text:
            wait_until(lambda: accepts(self.engine_port) or running.process.poll() is not None, 20, running.text)
            return running.text
        self._gate = running
        return running.says("Ctrl-C stops everything.")

    def _stop_gate(self) -> None:
        if self._gate is not None:
            self._gate.process.send_signal(signal.SIGINT)
            assert self._gate.process.wait(10) == 0, self._gate.text


@pytest.fixture
def reader() -> Iterator[Reader]:
    with tempfile.TemporaryDirectory(prefix="rg-") as folder, ExitStack() as stack:
        (Path(folder) / ".venv").symlink_to(sys.prefix)
        shutil.copytree(ROOT / "policies", Path(folder) / "policies")
        yield Reader(Path(folder), stack)


@pytest.mark.demo
def test_every_command_runs_as_it_stands_there(reader: Reader) -> None:
    printed = {
        block.text: reader.run(block)
        for block in BLOCKS
        if (block.language == "sh" or block.argument) and not block.text.startswith("make ")
    }

    # The gate that runs by now decides by the policy written above.
    again = reader.run(next(block for block in BLOCKS if "curl" in block.text))

    def of(word: str) -> str:
        return next(output for text, output in printed.items() if word in text)

    assert '"index": 1' in of("curl").split("relevance_score")[0]
    assert "ada@example.com" not in of("curl")
    told = next(block.text for block in BLOCKS if block.text.startswith('{"id"'))
    assert re.search(r'"results": \[.*?\]', told)[0] in of("curl")  # type: ignore[index]
    assert "relevance_score" in again
    assert "allow" in of("audit tail")
    assert "login.example for rerank" in of("--issuer")
    assert "the shipped policy" not in of("--issuer")
    assert re.search(r"on disk +[0-9]+ MiB", of("rankgate version"))


def test_every_make_target_it_names_is_run_by_ci() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    targets = {block.text.strip() for block in BLOCKS if block.text.startswith("make ")}
    assert targets == {"make demo", "make test"}
    assert all(f'"{target}" {target}\n' in script for target in targets)


def test_every_fenced_block_has_a_language_or_is_the_picture() -> None:
    assert {block.language for block in BLOCKS} == {"sh", *FILES}
    assert README.count("\n```\n") == len(BLOCKS) + 2


def test_every_file_it_links_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
