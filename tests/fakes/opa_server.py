"""A real OPA for tests: found where the suite puts it, started on a free port and a socket, ended for certain."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def binary() -> str:
    """Return the path of OPA; skips the test where there is none."""
    places = (os.environ.get("RANKGATE_OPA"), shutil.which("opa"), str(ROOT / ".cache" / "bin" / "opa"))
    for place in places:
        if place and os.access(place, os.X_OK):
            return place
    pytest.skip("no OPA: set RANKGATE_OPA, put opa on PATH, or run tests/run.sh, which builds it")


@dataclass(frozen=True)
class OpaServer:
    """A running OPA, at one TCP port and one socket; `log` is what it writes."""

    tcp: str
    unix: str
    process: subprocess.Popen[bytes]
    log: Path


@contextmanager
def opa(*arguments: str | Path, wait: bool = True) -> Iterator[OpaServer]:
    """Run `opa run --server` with `arguments`; `wait` until it answers."""
    with tempfile.TemporaryDirectory(prefix="opa-") as folder:
        path, log = Path(folder) / "opa.sock", Path(folder) / "log"
        port = free_port()
        command = [binary(), "run", "--server", "--disable-telemetry", "--addr", f"127.0.0.1:{port}"]
        command += ["--addr", f"unix://{path}", *map(str, arguments)]
        with log.open("wb") as written:
            process = subprocess.Popen(command, stdout=written, stderr=subprocess.STDOUT)
        try:
            server = OpaServer(f"http://127.0.0.1:{port}", f"unix://{path}", process, log)
            if wait:
                _until_it_answers(server)
            yield server
        finally:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _until_it_answers(server: OpaServer) -> None:
    last = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(f"{server.tcp}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            if server.process.poll() is not None or time.monotonic() > last:
                pytest.fail(f"OPA did not start: {server.log.read_text()[-2000:]}")
            time.sleep(0.02)
