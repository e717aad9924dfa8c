"""Copies of three signed logs: one closed, one that ended in trouble, and the one that followed it."""

from __future__ import annotations

import base64
import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fakes.events import DIGEST, decision, lifecycle
from fakes.seals import KEY

from rankgate.audit import AuditEvent, What
from rankgate.audit.checkpoint import Checkpoint, Kind
from rankgate.audit.copies import LogCopy, StoredEntry
from rankgate.audit.entry import to_fields
from rankgate.audit.note import Signer
from rankgate.audit.ocsf import Source, render
from rankgate.audit.sealed import Sealed
from rankgate.audit.tree import leaf_hash, root_of

__all__ = ["ENDED", "NEXT_LOG", "WHOLE", "copies", "entries", "rendered", "sealed", "stored_entry"]

WHOLE, ENDED, NEXT_LOG = "local/ext_authz-0/1000", "local/ext_proc-0/1000", "local/ext_proc-0/2000"
MS = 1_790_000_000_000


def rendered(log: str, event: AuditEvent, index: int) -> bytes:
    return render(event, Source("default", log, "0.1", DIGEST), index)


def stored_entry(body: bytes, index: int) -> StoredEntry:
    """Return an entry as a stream holds it."""
    fields = {name: value.decode() for name, value in to_fields(body).items() if name != "body"}
    return StoredEntry(index, MS + index, body, fields)


def entries(log: str, events: Sequence[AuditEvent]) -> list[StoredEntry]:
    return [stored_entry(rendered(log, event, index), index) for index, event in enumerate(events)]


def sealed(
    log: str, found: Sequence[StoredEntry], heads: Sequence[tuple[int, Kind]], by: Signer = KEY, first: int = 0
) -> list[Sealed]:
    """Sign heads of these sizes, numbered from `first` on."""
    hashes = [leaf_hash(entry.body) for entry in found]
    made, before = [], 0
    for number, (size, kind) in enumerate(heads, first):
        head = Checkpoint("default", log, size, root_of(hashes[:size]), number, kind, MS + 1000 * number)
        made.append(Sealed(replace(head, note=head.sign(by)), tuple(hashes[before:size])))
        before = size
    return made


def copies() -> dict[str, LogCopy]:
    """Return sound copies of all three."""
    regular = Kind.REGULAR
    began = lifecycle(What.LOG_BEGAN)
    whole = entries(WHOLE, [began, *(decision(number) for number in range(11))])
    ended = entries(ENDED, [began, *(decision(number) for number in range(20, 28))])
    root = base64.b64encode(root_of(leaf_hash(entry.body) for entry in ended)).decode()
    detail: Mapping[str, str | int] = {"previous": ENDED, "entries": len(ended), "reason": "sync_failed", "root": root}
    then = entries(
        NEXT_LOG,
        [lifecycle(What.LOG_BEGAN, detail=detail), *(decision(number) for number in range(40, 46))],
    )
    heads = {
        WHOLE: [
            (0, Kind.OPEN), (3, regular), (4, regular), (4, Kind.CLOSE), (4, Kind.OPEN), (9, regular),
            (9, Kind.HEARTBEAT), (12, Kind.CLOSE),
        ],
        ENDED: [(0, Kind.OPEN), (2, regular), (7, regular)],
        NEXT_LOG: [(0, Kind.OPEN), (5, regular), (7, Kind.CLOSE)],
    }  # fmt: skip
    found = {WHOLE: whole, ENDED: ended, NEXT_LOG: then}
    made = {log: LogCopy(log, 0, found[log], sealed(log, found[log], heads[log])) for log in found}
    return copy.deepcopy(made)
