"""One process at a time: a lock file that the kernel lets go of when its holder ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from rankgate.errors import SettingsError

__all__ = ["held", "take"]


def take(path: Path) -> int:
    """Create the file `path` (0600), lock it for this process, and return the descriptor that holds the lock.

    Raises BlockingIOError where another process holds it, and OSError where it cannot be opened or locked.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(lock)
        raise
    return lock


@contextlib.contextmanager
def held(path: Path, *, taken: str, unusable: str) -> Iterator[None]:
    """Hold the lock file `path`.

    Raises SettingsError: `taken` where another process holds it, `unusable` and the cause where it cannot be made.
    """
    try:
        lock = take(path)
    except BlockingIOError:
        raise SettingsError(taken) from None
    except OSError as error:
        raise SettingsError(f"{unusable}: {error.strerror}") from None
    try:
        yield
    finally:
        os.close(lock)
