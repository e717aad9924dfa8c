"""Running the `rankgate` command in tests, and looking at what it leaves behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

__all__ = ["Running", "alive", "command", "descendants", "environment", "started", "wait_until"]


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "rankgate.cli", *args]


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment without settings, and `more`."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RANKGATE_")} | more


def descendants(pid: int) -> set[int]:
    """Return the processes below `pid`, from ps so that it works everywhere."""
    lines = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(child): int(parent) for child, parent in (line.split() for line in lines.splitlines())}
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return not stat.parent.parent.joinpath("self").exists()


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Wait for `condition` and return how long that took; after `seconds` it is a failure."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, what
        time.sleep(0.02)
    return time.monotonic() - start


@dataclass(frozen=True)
class Running:
    """A command in the background."""

    process: subprocess.Popen[bytes]
    output: IO[bytes]

    @property
    def text(self) -> str:
        """Return what it printed so far, standard error included."""
        # pread leaves the offset alone, which is the command's own: it would write on from wherever a reader left it.
        return os.pread(self.output.fileno(), 1 << 24, 0).decode(errors="replace")

    def says(self, words: str, seconds: float = 60) -> str:
        """Wait until `words` were printed; return everything printed until then."""
        wait_until(lambda: words in self.text or self.process.poll() is not None, seconds, f"no {words!r}")
        assert words in self.text, self.text
        return self.text


@contextlib.contextmanager
def started(arguments: list[str], *, env: dict[str, str] | None = None, cwd: Path | None = None) -> Iterator[Running]:
    """Start a command, and kill it at the end if it still runs."""
    with tempfile.TemporaryFile() as output:
        env = environment() if env is None else env
        process = subprocess.Popen(arguments, stdout=output, stderr=subprocess.STDOUT, env=env, cwd=cwd)
        try:
            yield Running(process, output)
        finally:
            process.kill()
            process.wait()
