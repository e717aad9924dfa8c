"""Copies of logs, wherever they were taken from: entries and checkpoints as found, nothing in them believed.

As NDJSON a copy has two kinds of lines, in order within a log:

    {"entry": {"log": …, "index": …, "ms": …, "fields": {…}, "body": "…"}}     body_base64 where it is not UTF-8
    {"checkpoint": <signed note>, "leaves": <base64>}

`fields` are the flat fields of a stream entry, absent where the copy was taken from the gate's disk.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rankgate.audit.sealed import Sealed

__all__ = ["LogCopy", "StoredEntry", "add_lines", "entry_line"]


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """One entry at the place it was found: number and milliseconds of its frame or stream id."""

    index: int
    ms: int
    body: bytes
    fields: Mapping[str, str] | None = None


@dataclass(slots=True)
class LogCopy:
    """What there is of one log, in the order it was found.

    `first` is the number of the first entry that must be here; a gate's own disk holds no others once they were
    shipped. `spoilt` are places where something was unreadable: the number of the entry that should be there, or None
    for a checkpoint, and what was wrong.
    """

    log: str
    first: int = 0
    entries: list[StoredEntry] = field(default_factory=list)
    sealed: list[Sealed] = field(default_factory=list)
    spoilt: list[tuple[int | None, str]] = field(default_factory=list)


def entry_line(log: str, entry: StoredEntry) -> bytes:
    """Return the line of an entry, with its line feed."""
    value: dict[str, Any] = {"log": log, "index": entry.index, "ms": entry.ms}
    if entry.fields is not None:
        value["fields"] = dict(entry.fields)
    try:
        value["body"] = entry.body.decode("utf-8")
    except UnicodeDecodeError:
        value["body_base64"] = base64.b64encode(entry.body).decode()
    return json.dumps({"entry": value}, separators=(",", ":")).encode() + b"\n"


def add_lines(copies: dict[str, LogCopy], lines: Iterable[bytes]) -> list[str]:
    """Add the lines of an export or of a second place to the copies of their logs.

    Returns a sentence for each line that is neither; empty lines are passed over.
    """
    wrong = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            if not isinstance(value, dict):
                raise ValueError("not an object")  # noqa: TRY004, TRY301 - of the text, not of an argument
            if "entry" in value:
                log, entry = _entry(value["entry"])
                _copy(copies, log).entries.append(entry)
            else:
                sealed = Sealed.read(value["checkpoint"], value["leaves"])
                _copy(copies, sealed.checkpoint.log).sealed.append(sealed)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            wrong.append(f"line {number} is neither an entry nor a checkpoint")
    return wrong


def _copy(copies: dict[str, LogCopy], log: str) -> LogCopy:
    return copies.setdefault(log, LogCopy(log))


def _entry(value: Mapping[str, Any]) -> tuple[str, StoredEntry]:
    log, index, ms, fields = value["log"], value["index"], value["ms"], value.get("fields")
    body = value["body"].encode() if "body" in value else base64.b64decode(value["body_base64"], validate=True)
    if not isinstance(log, str) or type(index) is not int or type(ms) is not int:
        raise ValueError("not an entry")
    if fields is not None and not all(isinstance(one, str) for one in (*fields, *fields.values())):
        raise ValueError("not the fields of an entry")
    return log, StoredEntry(index, ms, body, fields)
