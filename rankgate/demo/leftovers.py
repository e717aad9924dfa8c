"""Folders of demos that were killed: nothing removed them, and the next demo does."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from rankgate.clients.locks import take

__all__ = ["PREFIX", "remove_leftovers"]

PREFIX = "rankgate-"
# A demo that is just starting has its folder before it has its lock.
YOUNG_S = 60.0


def remove_leftovers(folder: Path, now: float | None = None) -> list[Path]:
    """Remove the folders of demos below `folder` that no process holds any more; return them.

    Only folders of this user are looked at, and only those with a lock that can be had: the kernel lets go of it when
    its holder ends, however it ended. `now` is in seconds since 1970.
    """
    moment = time.time() if now is None else now
    removed = []
    for candidate in sorted(folder.glob(f"{PREFIX}*")):
        try:
            stat = candidate.lstat()
            if candidate.is_symlink() or stat.st_uid != os.getuid() or moment - stat.st_mtime < YOUNG_S:
                continue
            if not (candidate / "lock").is_file():
                continue
            lock = take(candidate / "lock")
        except OSError:
            continue
        try:
            shutil.rmtree(candidate, ignore_errors=True)
        finally:
            os.close(lock)
        removed.append(candidate)
    return removed
