"""A small file that somebody else keeps up to date: read again when it changes, never remembered when it cannot be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

__all__ = ["Rereading"]

Value = TypeVar("Value")


class Rereading(Generic[Value]):
    """What `read` makes of a file, which is asked again as soon as the file is another one."""

    def __init__(self, path: Path, read: Callable[[bytes], Value]) -> None:
        self.path = path
        self._read = read
        self._seen: tuple[tuple[int, int, int, int], Value] | None = None

    def current(self) -> Value:
        """Return what the file holds now; raises OSError where it cannot be read, and whatever `read` raises."""
        stat = self.path.stat()
        # Device, inode, size and time of change: a replaced file and a swapped symlink (Kubernetes) both show.
        version = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if self._seen is None or self._seen[0] != version:
            self._seen = version, self._read(self.path.read_bytes())
        return self._seen[1]
