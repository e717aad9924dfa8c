"""Containers as processes: each command line started here, with a container's paths, ports and users mapped.

A World is one set of containers that see each other. What is mounted is copied or made inside its folder, and every
path, port and host name in command lines, environments and mounted settings is replaced by what stands for it here.
Where the tests run as root, each process gets the user and group of its container, so that the modes of the
sockets between them count; unless a program lies where other users cannot go.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["Container", "World", "free_port", "others_reach"]

START_S = 60.0
STOP_S = 20.0
TRANSLATED = {".toml", ".yaml"}


@dataclass(frozen=True, slots=True)
class Container:
    """What runs: `mounts` are container paths and the places here that stand for them."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: Mapping[str, Path] = field(default_factory=dict)
    user: int | None = None
    group: int | None = None


class World:
    """A folder in which containers run as processes. A context manager that ends all of them."""

    def __init__(self, programs: Mapping[str, Path], hosts: Mapping[str, str] | None = None) -> None:
        # Short: a unix socket's path may have about a hundred bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="rg-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.ports: dict[int, int] = {}
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self._programs = programs
        self.hosts = dict(hosts or {})
        self._untranslated: set[Path] = set()
        self._own_users = os.geteuid() == 0 and all(others_reach(path) for path in programs.values())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            for name in self.running:
                print(f"---- {name}\n{self.log(name)[-3000:]}")
        for process in self.running.values():
            process.kill()
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def port(self, number: int) -> int:
        """Return the free port that stands for `number`."""
        if number not in self.ports:
            self.ports[number] = free_port()
        return self.ports[number]

    def following(self, first: int, count: int) -> None:
        """Let free ports that follow each other stand for `first` and those after it."""
        found = free_port()
        while not all(_is_free(found + step) for step in range(count)):
            found = free_port()
        self.ports |= {first + step: found + step for step in range(count)}

    def place(self, name: str, *, mode: int = 0o777, user: int = 0, group: int = 0) -> Path:
        """Make a folder that stands for a volume, once."""
        path = self.folder / name
        if not path.exists():
            path.mkdir()
            path.chmod(mode)
            if self._own_users:
                os.chown(path, user, group)
        return path

    def copy(self, source: Path, name: str) -> Path:
        """Copy a mounted file or folder in; settings are translated when a container starts that mounts them."""
        path = self.folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, path)
            files = path.rglob("*") if path.is_dir() else [path]
            self._untranslated |= {file for file in files if file.suffix in TRANSLATED}
        return path

    def write(self, name: str, content: bytes) -> Path:
        """Write a mounted file, to be translated like a copied one."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        if path.suffix in TRANSLATED:
            self._untranslated.add(path)
        return path

    def text(self, text: str, mounts: Mapping[str, Path]) -> str:
        """Return `text` with container paths, ports and host names replaced."""
        # In one pass: what stands for a path may hold another one.
        paths = "|".join(re.escape(path) for path in sorted(mounts, key=len, reverse=True))
        text = re.sub(rf"(?<![\w.])({paths})(?![\w-])", lambda found: str(mounts[found[0]]), text) if paths else text
        text = re.sub(rf"\b({'|'.join(map(str, self.ports))})\b", lambda found: str(self.ports[int(found[0])]), text)
        for host in sorted(self.hosts, key=len, reverse=True):
            name = re.escape(host)
            where = rf"(?<=//){name}(?![\w.-])|(?<=address: \"){name}(?=\")|(?<=\"){name}(?=:\d)"
            text = re.sub(where, self.hosts[host], text)
        return text.replace("0.0.0.0", "127.0.0.1")

    def start(self, container: Container) -> None:
        """Start the command of a container; its output goes to a log."""
        self._translate(container.mounts)
        path = self.folder / f"{container.name}.log"
        path.touch()
        path.chmod(0o666)  # as a container's output belongs to its user
        with path.open("ab") as log:
            self.running[container.name] = subprocess.Popen(
                self._command(container.command, container), stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, **self._options(container),
            )  # fmt: skip

    def run(self, container: Container, command: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        """Run another command in a container, as a health check or an exec probe does."""
        self._translate(container.mounts)
        return subprocess.run(
            self._command(command, container), capture_output=True, check=False, timeout=60, **self._options(container)
        )

    def until_healthy(self, container: Container, command: Sequence[str]) -> None:
        """Wait until a health check says so."""
        self.wait(container, lambda: self.run(container, command).returncode == 0)

    def wait(self, container: Container, ready: Callable[[], bool]) -> None:
        """Wait until `ready()`; a process that has ended never will be."""
        deadline = time.monotonic() + START_S
        while not ready():
            ended = self.running[container.name].poll()
            assert ended is None, f"{container.name} ended with {ended}\n{self.log(container.name)[-3000:]}"
            assert time.monotonic() < deadline, f"{container.name} is not ready\n{self.log(container.name)[-3000:]}"
            time.sleep(0.05)

    def stop(self, name: str) -> int:
        """End a process by SIGTERM; return its exit code."""
        process = self.running.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_S)
        finally:
            process.kill()
            process.wait()

    def log(self, name: str) -> str:
        """Return what a process printed so far."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def _command(self, command: Sequence[str], container: Container) -> list[str]:
        program = self._programs.get(command[0]) or shutil.which(command[0])
        assert program is not None, f"{container.name}: nothing here stands for {command[0]}"
        return [str(program), *(self.text(part, container.mounts) for part in command[1:])]

    def _options(self, container: Container) -> dict[str, object]:
        environment = {name: self.text(value, container.mounts) for name, value in container.environment.items()}
        options: dict[str, object] = {"env": {"PATH": os.environ["PATH"]} | environment, "cwd": "/", "umask": 0o022}
        if self._own_users and container.user is not None:
            options |= {"user": container.user, "group": container.group, "extra_groups": []}
        return options

    def _translate(self, mounts: Mapping[str, Path]) -> None:
        """Translate the settings among what is mounted, once each."""
        for file in sorted(self._untranslated):
            if any(file.is_relative_to(path) for path in mounts.values()):
                self._untranslated.remove(file)
                text = self.text(file.read_text(), mounts)
                if not self._own_users:
                    text = re.sub(r"(?m)^group = \d+$", f"group = {os.getegid()}", text)
                file.write_text(text)


def others_reach(path: Path) -> bool:
    """Tell whether every user may go to where `path` really is."""
    return all(folder.stat().st_mode & 0o001 for folder in path.resolve().parents)


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
        return True
