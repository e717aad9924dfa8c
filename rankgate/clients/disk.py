"""What the audit log asks of the disk: bytes that are there, names that are there, room that is there.

Every function raises OSError.
"""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

from rankgate.clients.locks import take

__all__ = ["lock_folder", "replace_file", "reserve", "sync_file", "sync_folder", "write_at"]


def sync_file(descriptor: int) -> None:
    """Bring written bytes to the disk itself."""
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # fsync leaves them in the drive's cache there
    else:
        os.fdatasync(descriptor)


def sync_folder(path: Path) -> None:
    """Make names created in a folder, or removed from it, durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def reserve(descriptor: int, size: int) -> None:
    """Make room on the disk now, so that a full disk shows before an entry is half written."""
    if sys.platform == "darwin":
        os.ftruncate(descriptor, size)
    else:
        os.posix_fallocate(descriptor, 0, size)


def write_at(descriptor: int, data: bytes | bytearray, offset: int) -> None:
    """Write all of `data` at `offset`."""
    view = memoryview(data)
    while view:
        done = os.pwrite(descriptor, view, offset)
        view = view[done:]
        offset += done


def replace_file(path: Path, text: str, *, durable: bool) -> None:
    """Put `text` into a file, all of it or none; `durable` also brings it to the disk."""
    fresh = path.with_name(f"{path.name}.new")
    with fresh.open("wb") as file:
        file.write(text.encode())
        if durable:
            file.flush()
            os.fsync(file.fileno())
    fresh.rename(path)
    if durable:
        sync_folder(path.parent)


def lock_folder(folder: Path) -> int:
    """Make a private folder and lock it for this process; raises BlockingIOError where another holds it.

    Returns the descriptor that holds the lock; the kernel lets go of it when the process ends, however it ends.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    sync_folder(folder.parent)
    return take(folder / "lock")
