"""Resident memory of a process: /proc where there is one, ps elsewhere."""

from __future__ import annotations

import subprocess
from pathlib import Path

__all__ = ["resident_mib"]


def resident_mib(pid: int) -> float | None:
    """Return the resident memory of process `pid` in MiB, None where it cannot be told."""
    status = Path(f"/proc/{pid}/status")
    try:
        if status.exists():
            kib = next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmRSS:"))
        else:
            kib = subprocess.run(  # noqa: S603
                ["/bin/ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True, timeout=5
            ).stdout
        return int(kib) / 1024
    except (OSError, StopIteration, ValueError, subprocess.SubprocessError):
        return None
