"""All logs of a deployment against what was signed: keys that handed over, logs that are missing, ends that are named.

What is proven depends on what is given. A copy and a key prove that the entries up to the last checkpoint are what was
signed, in order and complete. That nothing was cut off at a checkpoint, and that no whole log is missing, is proven
only by the checkpoints of a second place; without them the report says so.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rankgate.audit.checkpoint import Rotation, read_rotation
from rankgate.audit.copies import LogCopy
from rankgate.audit.note import NoteError, Verifier, Verifiers
from rankgate.audit.verifying import Ended, Fault, LogReport, Note, judge_end, verify_log

__all__ = ["Report", "prove"]


@dataclass(slots=True)
class Report:
    """What is known of all logs, in order of name."""

    deployment: str
    logs: list[LogReport] = field(default_factory=list)
    rotations: list[Rotation] = field(default_factory=list)

    @property
    def not_proven(self) -> tuple[str, ...]:
        """Return what nothing vouches for: `tail` that no log was cut at a checkpoint, `logs` that none is missing."""
        anchored = [log.anchored for log in self.logs]
        return (*(() if all(anchored) and anchored else ("tail",)), *(() if any(anchored) else ("logs",)))

    @property
    def verified(self) -> bool:
        """Tell whether there is something, and nothing wrong in it."""
        return bool(self.logs) and not any(log.faults for log in self.logs)


def prove(copies: Mapping[str, LogCopy], anchors: Mapping[str, LogCopy] | None, keys: Iterable[Verifier]) -> Report:
    """Verify every log that is here or in `anchors`, with `keys` of one deployment and those they handed over to.

    `anchors` are the records of a second place, None where there are none. Raises ValueError where the keys are those
    of several deployments, or of none.
    """
    trusted = list(keys)
    names = {key.name for key in trusted}
    if len(names) != 1:
        raise ValueError("give keys of one deployment")
    (deployment,) = names
    report = Report(deployment)
    began, rotations = _lifecycles(copies)
    report.rotations = _handed_over(rotations, trusted)
    verifiers, second = Verifiers(trusted), anchors or {}
    found: dict[str, LogReport] = {}
    for log in copies.keys() | second.keys():
        records = second[log].sealed if log in second else []
        if log in copies or any(one.checkpoint.size for one in records):  # else a log that never held an entry
            found[log] = verify_log(copies.get(log, LogCopy(log)), records, deployment, verifiers)
    # What a log says of the one before it counts unless that very entry is doubtful.
    named = _named(detail for log, detail in began.items() if found[log].first_bad != 0)
    for log in sorted(found.keys() | named.keys()):
        one = found.get(log) or LogReport(log)
        if log not in copies:
            one.faults.insert(0, Fault("log_missing", "the whole log is missing", 0))
        else:
            judge_end(one, named.get(log))
            if anchors is not None and not one.anchored:
                one.notes.append(Note("not_anchored", "the second place has no record of this log"))
        report.logs.append(one)
    return report


def _lifecycles(copies: Mapping[str, LogCopy]) -> tuple[dict[str, Mapping[str, Any]], list[str]]:
    """Return the details of each log's beginning, and every note of a key that hands over."""
    began: dict[str, Mapping[str, Any]] = {}
    notes: list[str] = []
    for copy in copies.values():
        for entry in copy.entries:
            # Looked for before it is parsed: a log may hold millions of decisions.
            if b'"key_rotation"' in entry.body or b'"log_began"' in entry.body:
                ours = _ours(entry.body)
                detail = ours.get("detail")
                if ours.get("what") == "log_began" and entry is copy.entries[0] and isinstance(detail, dict):
                    began[copy.log] = detail
                if ours.get("what") == "key_rotation" and isinstance(detail, dict):
                    notes.append(str(detail.get("note")))
    return began, notes


def _ours(body: bytes) -> Mapping[str, Any]:
    try:
        ours = json.loads(body)["unmapped"]["rankgate"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return ours if isinstance(ours, dict) else {}


def _handed_over(notes: list[str], trusted: list[Verifier]) -> list[Rotation]:
    """Add to `trusted` every key that one in it vouches for, however long the row of them is."""
    found: list[Rotation] = []
    rest = notes
    while rest:
        later = []
        for note in rest:
            try:
                rotation = read_rotation(note, Verifiers(trusted))
            except NoteError:
                later.append(note)
                continue
            if rotation.key not in trusted:
                trusted.append(rotation.key)
                found.append(rotation)
        if len(later) == len(rest):
            break
        rest = later
    return found


def _named(began: Iterable[Mapping[str, Any]]) -> dict[str, Ended]:
    """Return what is said of logs by those that followed them."""
    named: dict[str, Ended] = {}
    for detail in began:
        previous, entries, root = detail.get("previous"), detail.get("entries"), detail.get("root")
        if isinstance(previous, str) and type(entries) is int and entries >= 0:
            try:
                hashed = base64.b64decode(root, validate=True) if isinstance(root, str) else None
            except binascii.Error:
                hashed = b""
            named[previous] = Ended(entries, hashed)
    return named
