"""CPU time and memory of processes, from /proc (Linux)."""

from __future__ import annotations

from pathlib import Path

__all__ = ["cpu_us", "resident_mib"]


def cpu_us(pid: int) -> int:
    """Return the CPU time of process `pid` so far, user and system of all its threads, in microseconds.

    From schedstat, which counts nanoseconds: the ticks of /proc/<pid>/stat are longer than many calls together.
    """
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) // 1000


def resident_mib(pid: int) -> float:
    """Return the resident memory of process `pid`, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024
