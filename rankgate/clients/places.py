"""Where checkpoints go beside the log's own folder: files elsewhere, and streams of a Redis."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import redis

from rankgate.audit.names import StreamId, stream_key
from rankgate.audit.sealed import CHECKPOINTS, Sealed, checkpoints_key
from rankgate.clients.audit_redis import server_text
from rankgate.clients.disk import sync_folder

__all__ = ["FilePlace", "ForkedError", "Place", "RedisPlace", "place_file"]

LAST_BYTES = 4 * 1024 * 1024


class ForkedError(Exception):
    """The place holds another checkpoint under a number of ours."""


class Place(Protocol):
    """Takes the checkpoints of logs, in order. Methods raise OSError, redis.RedisError or ForkedError."""

    name: str

    def last(self, log: str) -> Sealed | None:
        """Return the last checkpoint of `log` that is there, None where there is none."""
        ...

    def put(self, log: str, records: Sequence[Sealed]) -> None:
        """Add checkpoints behind it; all are there when this returns.

        Raises OSError or redis.ConnectionError where what was there before has vanished, too: it is to be filled again.
        """
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


def place_file(log: str) -> str:
    """Return the name of the file that holds a log's checkpoints in a folder."""
    return f"{log.replace('/', '.')}.{CHECKPOINTS}"


class FilePlace:
    """A folder with a file a log, which is only ever appended to: another volume, or what an agent carries away."""

    def __init__(self, folder: Path) -> None:
        self.name = "second_place"
        self._folder = folder

    def last(self, log: str) -> Sealed | None:
        """Return the last whole line that is a checkpoint."""
        try:
            with (self._folder / place_file(log)).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - LAST_BYTES))
                lines = file.read().split(b"\n")[:-1]
        except FileNotFoundError:
            return None
        for line in reversed(lines):
            try:
                return Sealed.parse(line)
            except ValueError:
                continue  # torn, and followed by a line feed since
        return None

    def put(self, log: str, records: Sequence[Sealed]) -> None:
        """Append lines and bring them to the disk."""
        path = self._folder / place_file(log)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = not path.exists()
        if fresh and records[0].checkpoint.number:
            raise FileNotFoundError("the file of checkpoints has vanished")
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            end = os.lseek(file, 0, os.SEEK_END)
            torn = end > 0 and os.pread(file, 1, end - 1) != b"\n"
            data = (b"\n" if torn else b"") + b"".join(sealed.line for sealed in records)
            while data:
                data = data[os.write(file, data) :]
            os.fsync(file)
        finally:
            os.close(file)
        if fresh:
            sync_folder(self._folder)

    def close(self) -> None:
        """Nothing is held."""


class RedisPlace:
    """A stream a log, `audit:{<deployment>}:<log>:checkpoints`, with ids `<time>-<number>`."""

    def __init__(self, client: redis.Redis, deployment: str, name: str) -> None:
        self.name = name
        self._client = client
        self._deployment = deployment

    def last(self, log: str) -> Sealed | None:
        """Return the stream's last entry; raises ForkedError where that is no checkpoint."""
        key = self._key(log)
        try:
            end = StreamId.parse(self._client.xinfo_stream(key)["last-generated-id"].decode())
        except redis.ResponseError as error:
            if "no such key" in server_text(error):
                return None
            raise
        found: Any = self._client.xrange(key, str(end), str(end)) or []
        if end == StreamId(0, 0):
            return None
        try:
            fields = found[0][1]
            return Sealed.read(fields[b"checkpoint"].decode(), fields[b"leaves"].decode())
        except (ValueError, KeyError, IndexError):
            raise ForkedError from None

    def put(self, log: str, records: Sequence[Sealed]) -> None:
        """Add entries, all or none; raises ForkedError where an id is behind the stream's end."""
        pipeline = self._client.pipeline(transaction=True)
        for sealed in records:
            checkpoint = sealed.checkpoint
            pipeline.xadd(
                self._key(log),
                dict(sealed.fields),  # type: ignore[arg-type]  # redis-py's mapping type is invariant
                id=str(StreamId(checkpoint.time, checkpoint.number)),
                # A stream that was deleted must not come back with a hole nobody asked about.
                nomkstream=bool(checkpoint.number),
            )
        for result in pipeline.execute(raise_on_error=False):
            if isinstance(result, redis.ResponseError) and "equal or smaller" in server_text(result):
                raise ForkedError
            if isinstance(result, Exception):
                raise result
            if result is None:
                raise redis.ConnectionError("the stream of checkpoints has vanished")

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _key(self, log: str) -> str:
        return checkpoints_key(stream_key(self._deployment, log))
