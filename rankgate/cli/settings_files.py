"""The files a configuration names: are they there, and can they be read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from rankgate.settings import Settings

__all__ = ["missing_files"]

# A gate makes these itself, or they are devices.
MADE_AT_START = frozenset({"audit.directory", "sockets.directory", "envoy.access_log"})
KEY_BYTES = 32


def missing_files(settings: Settings) -> list[str]:
    """Return one line for every file or folder named in `settings` that cannot be read, with the remedy."""
    faults = [fault for name, path in _paths(settings, "") if (fault := _fault(name, path)) is not None]
    key = settings.masking.key_file
    if key.is_file() and key.stat().st_size < KEY_BYTES:
        faults.append(
            f"masking.key_file: {key} has fewer than {KEY_BYTES} bytes; write it with: head -c 32 /dev/urandom"
        )
    return faults


def _fault(name: str, path: Path) -> str | None:
    if name in MADE_AT_START:
        return None
    kind = "folder" if name.endswith("directory") else "file"
    if not (path.is_dir() if kind == "folder" else path.exists()):
        return f"{name}: there is no {kind} {path}; create it or name another"
    if not os.access(path, os.R_OK):
        return f"{name}: {kind} {path} cannot be read; change its owner or mode"
    return None


def _paths(section: BaseModel, prefix: str) -> Iterator[tuple[str, Path]]:
    for field in type(section).model_fields:
        value = getattr(section, field)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, BaseModel):
                yield from _paths(item, f"{prefix}{field}.")
            elif isinstance(item, Path):
                yield f"{prefix}{field}", item
