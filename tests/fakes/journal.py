"""Reads the local logs of a gate as they lie on disk, while it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rankgate.audit.frame import frames
from rankgate.clients.segments import PREAMBLE

__all__ = ["bodies", "log_folders"]


def log_folders(directory: Path) -> list[Path]:
    """Return the folder of every log below an audit directory."""
    return sorted({segment.parent for segment in directory.rglob("*.seg")})


def bodies(folder: Path) -> list[dict[str, Any]]:
    """Return the entries of one log, parsed, in order; a segment's name is its first index."""
    found: list[dict[str, Any]] = []
    for segment in sorted(folder.glob("*.seg")):
        whole, _ = frames(segment.read_bytes(), int(segment.stem), len(PREAMBLE))
        found += [json.loads(frame.leaf) for frame in whole]
    return found
