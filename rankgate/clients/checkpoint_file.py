"""The checkpoints of one log on disk: `<birth>/checkpoints`, one line each, written and synced before they are sent.

One thread appends, others read. A line that a crash cut short is cut off when the file is opened: nobody was sent it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from rankgate.audit.sealed import CHECKPOINTS, Sealed
from rankgate.clients.disk import sync_folder, write_at

__all__ = ["CheckpointFile"]

READ_BYTES = 1024 * 1024
BACK_BYTES = 65_536


class CheckpointFile:
    """The file in a log's folder. Every method raises OSError."""

    def __init__(self, folder: Path, sync: Callable[[int], None]) -> None:
        self.path = folder / CHECKPOINTS
        self.size = 0
        """Bytes of whole lines that are on disk."""
        self._sync = sync
        self._file: int | None = None
        self._clean = False
        self._lock = threading.Lock()

    def load(self) -> Sealed | None:
        """Find the end of the file, and return its last checkpoint, unverified; None where there is none.

        Raises ValueError where the last line is no checkpoint.
        """
        try:
            with self.path.open("rb") as file:
                self.size = _line_before(file, file.seek(0, os.SEEK_END))
                if not self.size:
                    return None
                file.seek(_line_before(file, self.size - 1))
                return Sealed.parse(file.readline())
        except FileNotFoundError:
            return None

    def find(self, number: int) -> tuple[int, Sealed] | None:
        """Return checkpoint `number` and the offset behind it, None where it is not here; raises ValueError too.

        They are numbered in order, so that a file of years is looked at in a few places only.
        """
        low, high = 0, self.size
        if not high:
            return None
        with self.path.open("rb") as file:
            while low < high:
                begin = _line_before(file, (low + high) // 2)
                file.seek(begin)
                line = file.readline()
                found = Sealed.parse(line)
                if found.checkpoint.number == number:
                    return begin + len(line), found
                if found.checkpoint.number < number:
                    low = begin + len(line)
                else:
                    high = begin
        return None

    def append(self, sealed: Sealed) -> None:
        """Write a line and bring it to the disk; what a failure leaves behind is no line, and is written over."""
        with self._lock:
            if self._file is None:
                self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                sync_folder(self.path.parent)
            if not self._clean:
                os.ftruncate(self._file, self.size)
            self._clean = False
            line = sealed.line
            write_at(self._file, line, self.size)
            self._sync(self._file)
            self.size += len(line)
            self._clean = True

    def read(self, offset: int) -> list[tuple[int, Sealed]]:
        """Return checkpoints from a line's `offset` on, each with the offset behind it; raises ValueError too."""
        found: list[tuple[int, Sealed]] = []
        end = self.size
        if offset >= end:
            return found
        with self.path.open("rb") as file:
            file.seek(offset)
            while offset < end and (not found or offset - found[0][0] < READ_BYTES):
                line = file.readline()
                if not line.endswith(b"\n"):
                    raise ValueError("the file of checkpoints is shorter than it was")
                offset += len(line)
                found.append((offset, Sealed.parse(line)))
        return found

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None


def _line_before(file: BinaryIO, end: int) -> int:
    """Return where the line begins that byte `end` is in: behind the last line feed before it."""
    while end > 0:
        begin = max(0, end - BACK_BYTES)
        file.seek(begin)
        at = file.read(end - begin).rfind(b"\n")
        if at >= 0:
            return begin + at + 1
        end = begin
    return 0
