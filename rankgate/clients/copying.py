"""Copies of logs from where they are: the gate's own folder, files, or the streams. Nothing is written there.

Methods raise OSError or redis.RedisError.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import redis

from rankgate.audit import frame
from rankgate.audit.copies import LogCopy, StoredEntry, add_lines, entry_line
from rankgate.audit.names import LogName, StreamId, stream_key, stream_pattern
from rankgate.audit.sealed import CHECKPOINTS, Sealed
from rankgate.clients.places import place_file
from rankgate.clients.segments import PREAMBLE
from rankgate.clients.trail import Trail

__all__ = ["from_disk", "from_files", "from_streams", "is_audit_folder", "write"]

PAGE = 500
EXPORT = ".ndjson"


def is_audit_folder(path: Path) -> bool:
    """Tell whether `path` is the `audit.directory` of a gate."""
    return path.is_dir() and any(path.glob("*/*/*.seg"))


def from_files(path: Path) -> tuple[dict[str, LogCopy], list[str]]:
    """Read an export or the records of a second place: a file, or every file in a folder.

    Returns the copies, and a sentence for each line that is neither entry nor checkpoint.
    """
    copies: dict[str, LogCopy] = {}
    wrong = []
    files = sorted(one for one in path.iterdir() if one.is_file()) if path.is_dir() else [path]
    for file in files:
        with file.open("rb") as lines:
            wrong += [f"{file.name}: {text}" for text in add_lines(copies, lines)]
    return copies, wrong


def from_disk(directory: Path) -> dict[str, LogCopy]:
    """Read the logs below a gate's `audit.directory`, also while it runs."""
    copies: dict[str, LogCopy] = {}
    for folder in sorted(directory.glob("*/*")):
        log = _log_name(folder)
        if log is not None and folder.is_dir():
            copies[log] = _read_log(log, folder)
    return copies


def from_streams(client: redis.Redis, deployment: str, log: str | None = None) -> dict[str, LogCopy]:
    """Read the streams of a deployment, or of logs that begin with `log`: checkpoints before the entries under them."""
    copies: dict[str, LogCopy] = {}
    own = stream_key(deployment, "")
    for key in client.scan_iter(match=f"{stream_pattern(deployment)}:{CHECKPOINTS}", count=1000, _type="stream"):
        name = key.decode("utf-8", "replace").removeprefix(own).removesuffix(f":{CHECKPOINTS}")
        if name.startswith(log or ""):
            copy = copies[name] = LogCopy(name)
            for entry_id, fields in _pages(client, key):
                try:
                    copy.sealed.append(Sealed.read(fields[b"checkpoint"].decode(), fields[b"leaves"].decode()))
                except (ValueError, KeyError):
                    copy.spoilt.append((None, f"{entry_id} among the checkpoints is none"))
    trail = Trail(client, deployment, log)
    for stream in trail.discover():
        name = stream.removeprefix(own)
        copy = copies.setdefault(name, LogCopy(name))
        for item in trail.past({stream: StreamId(0, 0)}):
            copy.entries.append(StoredEntry(item.id.index, item.id.ms, item.body, item.fields))
    return copies


def write(copies: Mapping[str, LogCopy], to: Path) -> int:
    """Write copies as NDJSON to a file, or to a file a log in a folder that is there; return the number of entries."""
    if to.is_dir():
        for log, copy in copies.items():
            (to / f"{place_file(log).removesuffix(CHECKPOINTS)[:-1]}{EXPORT}").write_bytes(b"".join(_lines(copy)))
    else:
        with to.open("wb") as file:
            for copy in copies.values():
                file.writelines(_lines(copy))
    return sum(len(copy.entries) for copy in copies.values())


def _lines(copy: LogCopy) -> Iterator[bytes]:
    for entry in copy.entries:
        yield entry_line(copy.log, entry)
    for sealed in copy.sealed:
        yield sealed.line


def _log_name(folder: Path) -> str | None:
    pod, _, slot = folder.parent.name.rpartition(".")
    try:
        return str(LogName.parse(f"{pod}/{slot}/{folder.name}"))
    except ValueError:
        return None


def _read_log(log: str, folder: Path) -> LogCopy:
    copy = LogCopy(log)
    # Checkpoints first: whatever is under them is on disk by then.
    try:
        lines = (
            (folder / CHECKPOINTS).read_bytes().split(b"\n")[:-1]
        )  # what follows the last line feed is being written
    except FileNotFoundError:
        lines = []
    for line in lines:
        try:
            copy.sealed.append(Sealed.parse(line))
        except ValueError:
            copy.spoilt.append((None, "a line among the checkpoints is none"))
    paths = sorted(path for path in folder.glob("*.seg") if path.stem.isdecimal())
    limit = _ended_at(folder)
    copy.first = index = int(paths[0].stem) if paths else 0
    for number, path in enumerate(paths):
        data = path.read_bytes()
        found = frame.scan(data, index, len(PREAMBLE))
        if int(path.stem) != index or not data.startswith(PREAMBLE):
            copy.spoilt.append((index, f"entry {index} is not where its segment should begin"))
            break
        for one in found.frames:
            if one.index < limit:
                copy.entries.append(StoredEntry(one.index, one.ms, one.leaf))
        index += len(found.frames)
        # In the last segment a frame may be half written just now; whatever was signed of it will be missed.
        if found.damage is not None and (found.damage.acknowledged or number < len(paths) - 1):
            if index < limit:
                copy.spoilt.append((index, f"the frame of entry {index} is damaged on disk"))
            break
    return copy


def _ended_at(folder: Path) -> int:
    try:
        return int(json.loads((folder / "ended").read_bytes())["entries"])
    except (OSError, ValueError, KeyError, TypeError):
        return 2**63


def _pages(client: redis.Redis, key: bytes) -> Iterator[tuple[str, Mapping[bytes, bytes]]]:
    low = "-"
    while True:
        page: Any = client.xrange(key, low, "+", count=PAGE) or []
        for entry_id, fields in page:
            yield entry_id.decode(), fields or {}
        if len(page) < PAGE:
            return
        low = f"({page[-1][0].decode()}"
