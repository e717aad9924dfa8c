"""A proof that one entry is in a log, small enough to be handed out: the body, a path to a root, and the signed root.

    {"receipt": …, "entries": [{"log": …, "index": …, "body": …, "size": …, "path": [<base64>, …], "checkpoint": …}]}

Whoever holds it needs the verifier key and nothing else: not the log, not a server.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rankgate.audit.checkpoint import verify_checkpoint
from rankgate.audit.copies import LogCopy
from rankgate.audit.entry import read_body
from rankgate.audit.note import Verifiers
from rankgate.audit.tree import inclusion_proof, leaf_hash, root_of, verify_inclusion

__all__ = ["Found", "check_receipt", "find", "prove_entry"]


@dataclass(frozen=True, slots=True)
class Found:
    """An entry of a decision, and where it stands."""

    copy: LogCopy
    place: int
    body: bytes
    kind: str


def find(copies: Iterable[LogCopy], decision_id: str) -> list[Found]:
    """Return the entries of one decision, decisions before completions."""
    needle = json.dumps(decision_id, ensure_ascii=False).encode()
    found = []
    for copy in copies:
        for place, entry in enumerate(copy.entries, copy.first):
            if needle not in entry.body:
                continue
            try:
                row = read_body(entry.body)
            except ValueError:
                continue
            if row.decision_id == decision_id:
                found.append(Found(copy, place, entry.body, row.kind))
    return sorted(found, key=lambda one: one.kind != "decision")


def prove_entry(found: Found) -> dict[str, Any]:
    """Return one element of `entries`; raises ValueError where no checkpoint covers the entry as it is here."""
    copy = found.copy
    hashes = {place: leaf for sealed in copy.sealed for place, leaf in enumerate(sealed.leaves, sealed.first)}
    hashes |= {place: leaf_hash(entry.body) for place, entry in enumerate(copy.entries, copy.first)}
    for sealed in copy.sealed:
        head = sealed.checkpoint
        if head.size <= found.place:
            continue
        if any(place not in hashes for place in range(head.size)):
            break
        if root_of(hashes[place] for place in range(head.size)) != head.root:
            raise ValueError("the log does not lead to the root that was signed; verify it")
        path = inclusion_proof(found.place, head.size, hashes.__getitem__)
        return {
            "log": copy.log,
            "index": found.place,
            "body": found.body.decode(),
            "size": head.size,
            "path": [base64.b64encode(one).decode() for one in path],
            "checkpoint": head.note,
        }
    raise ValueError("no checkpoint covers the entry yet; one is written within a second")


def check_receipt(receipt: Mapping[str, Any], keys: Verifiers) -> list[str]:
    """Return the entries a receipt proves, `<log>#<index>` each; raises ValueError where one is not proven."""
    proven = []
    entries = receipt.get("entries")
    if not isinstance(entries, list) or not entries:
        raise ValueError("not a receipt with entries")
    for one in entries:
        try:
            body, index, size = one["body"].encode(), one["index"], one["size"]
            path = [base64.b64decode(step, validate=True) for step in one["path"]]
            note = str(one["checkpoint"])
        except (KeyError, TypeError, AttributeError, ValueError):
            raise ValueError("not a receipt with entries") from None
        head, _ = verify_checkpoint(note, keys)
        if type(index) is not int or size != head.size:
            raise ValueError("the receipt and its checkpoint differ in size")
        if not verify_inclusion(leaf_hash(body), index, head.size, path, head.root):
            raise ValueError("the entry does not lead to the root that was signed")
        row = read_body(body)
        if (row.deployment, row.log, row.index) != (head.deployment, head.log, index) or one["log"] != row.log:
            raise ValueError("the body is that of another entry")
        if row.decision_id != receipt.get("receipt"):
            raise ValueError("the entry is of another decision")
        proven.append(row.position)
    return proven
