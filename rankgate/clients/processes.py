"""Child processes: started, waited for by condition, stopped, and never left behind.

On Linux the kernel kills a child when its parent dies, however the parent died. On macOS, which cannot, a parent
killed with SIGKILL leaves its children running.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

__all__ = ["Child", "StartError", "bound"]

# Runs before the program, in the child: ask for SIGKILL at the parent's death (prctl option 1), and look whether
# that came too late. Not a preexec_fn, which would run Python between fork and exec of a threaded process.
_BOUND = (
    "import ctypes, os, sys\n"
    "failed = ctypes.CDLL(None, use_errno=True).prctl(1, 9, 0, 0, 0)\n"
    "if failed or os.getppid() != int(sys.argv[1]): os._exit(125)\n"
    "os.execve(sys.argv[2], sys.argv[2:], os.environ)\n"
)
_TOKEN = re.compile(r"[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}")
_POLL_S = 0.01
_LAST_LINES, _LINE_CHARS = 8, 300


def bound(command: Sequence[str | Path]) -> list[str]:
    """Return what starts `command` (its first member an absolute path) so that it dies with this process, on Linux."""
    program = [str(part) for part in command]
    if sys.platform != "linux":
        return program
    # -I and -S: nothing of this environment is imported, and the interpreter is up in some milliseconds.
    return [sys.executable, "-I", "-S", "-c", _BOUND, str(os.getpid()), *program]


class StartError(Exception):
    """A part that did not start. The text names it, how it ended and the last lines it wrote, tokens removed."""


class Child:
    """One process of ours, its own process group, its output in a file."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path, begins: int) -> None:
        self.name = name
        self.log = log
        self._process = process
        # Earlier runs stand before it in the same file.
        self._begins = begins

    @classmethod
    async def start(
        cls, name: str, command: Sequence[str | Path], *, log: Path, environment: Mapping[str, str]
    ) -> Child:
        """Start `command` (its first member an absolute path) with its output appended to `log`.

        Raises StartError where the program or the log's folder is missing.
        """
        program = bound(command)
        try:
            with log.open("ab") as output:
                begins = output.tell()
                process = await asyncio.create_subprocess_exec(
                    *program,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=asyncio.subprocess.STDOUT,
                    env=dict(environment),
                    # Ctrl-C reaches the parent alone, which then stops its children in order.
                    process_group=0,
                )
        except OSError as error:
            raise StartError(f"{name} could not be started: {error.strerror}") from None
        return cls(name, process, log, begins)

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Tell whether the process has not ended yet."""
        return self._process.returncode is None

    @property
    def ending(self) -> str:
        """Return how the process ended, in words: `exit code 3`, `killed by SIGKILL`, `still running`."""
        code = self._process.returncode
        if code is None:
            return "still running"
        if code >= 0:
            return f"exit code {code}"
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"

    async def wait(self) -> int:
        """Wait until the process ends; return its exit code, negative for a signal."""
        return await self._process.wait()

    async def until(self, ready: Callable[[], Awaitable[bool]], *, within_s: float) -> None:
        """Wait until `ready()` is true. Raises StartError when the process ends first or `within_s` is over."""
        deadline = time.monotonic() + within_s
        while not await ready():
            if not self.running:
                raise StartError(f"{self.name} ended while starting ({self.ending})\n{self.tail()}")
            if time.monotonic() >= deadline:
                raise StartError(f"{self.name} was not ready within {within_s:g} s\n{self.tail()}")
            await asyncio.sleep(_POLL_S)

    async def stop(self, *, grace_s: float) -> int:
        """End the process by SIGTERM, after `grace_s` seconds by SIGKILL; return its exit code."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            try:
                async with asyncio.timeout(grace_s):
                    await self._process.wait()
            except TimeoutError:
                self.kill()
        return await self._process.wait()

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send the signal `number` to the process."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def tail(self) -> str:
        """Return the last lines this process wrote, shortened, anything shaped like a token removed."""
        try:
            lines = self.written()[0].splitlines()[-_LAST_LINES:]
        except OSError:
            return "  (no log)"
        return "\n".join(f"  {_TOKEN.sub('***', line)[:_LINE_CHARS]}" for line in lines) or "  (it wrote nothing)"

    def written(self, behind: int | None = None) -> tuple[str, int]:
        """Return what this process wrote behind the position `behind`, whole lines only unless it ended, and where
        that ends; None is the beginning. Raises OSError."""
        with self.log.open("rb") as log:
            begins = log.seek(self._begins if behind is None else behind)
            data = log.read()
        if self.running:
            data = data[: data.rfind(b"\n") + 1]
        return data.decode("utf-8", "replace"), begins + len(data)
