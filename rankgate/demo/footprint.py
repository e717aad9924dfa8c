"""What running and installing it takes: resident memory of a process, size of what is installed."""

from __future__ import annotations

import re
import subprocess
from importlib import metadata
from pathlib import Path

__all__ = ["installed_mib", "resident_mib"]

_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)[^;]*;?(.*)")
_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)""")


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


def installed_mib(name: str = "rankgate", extras: tuple[str, ...] = ("embedded",)) -> float:
    """Return the size on disk, in MiB, of the distribution `name` and of everything it needs with `extras`."""
    sizes: dict[str, int] = {}
    _add(name, extras, sizes)
    return sum(sizes.values()) / 2**20


def _add(name: str, extras: tuple[str, ...], sizes: dict[str, int]) -> None:
    key = re.sub(r"[-_.]+", "-", name).lower()
    if key in sizes:
        return
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return  # needed on other platforms only
    files = (Path(str(distribution.locate_file(file))) for file in distribution.files or ())
    sizes[key] = sum(file.stat().st_size for file in files if file.is_file())
    for requirement in distribution.requires or ():
        match = _REQUIREMENT.match(requirement)
        if match is not None:
            extra = _EXTRA.search(match[2])
            if extra is None or extra[1] in extras:
                _add(match[1], (), sizes)
