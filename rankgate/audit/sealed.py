"""A checkpoint as it is stored and sent: the signed note, and the leaf hashes it added to the tree.

The hashes are not signed and need not be: they count only where they lead from the root before to the signed one. They
let a verifier name the very entry that was changed, where roots alone could name a range of entries, and they keep the
tree whole where entries are gone.

As a line of NDJSON `{"checkpoint": <note>, "leaves": <base64 of 32 bytes each>}`, in a stream the same two fields.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from rankgate.audit.checkpoint import Checkpoint, read_checkpoint
from rankgate.audit.tree import HASH_BYTES

__all__ = ["CHECKPOINTS", "Sealed", "checkpoints_key"]

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Sealed:
    """A checkpoint as found, its signature unverified; `leaves` are the hashes of the last entries under its root."""

    checkpoint: Checkpoint
    leaves: tuple[bytes, ...] = ()

    @classmethod
    def read(cls, note: str, leaves: str) -> Sealed:
        """Read the two fields; raises ValueError."""
        data = base64.b64decode(leaves, validate=True)
        checkpoint = read_checkpoint(note)
        if len(data) % HASH_BYTES or len(data) // HASH_BYTES > checkpoint.size:
            raise ValueError("not the leaf hashes of a checkpoint")
        return cls(checkpoint, tuple(data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)))

    @classmethod
    def parse(cls, line: bytes) -> Sealed:
        """Read a line; raises ValueError."""
        value = json.loads(line)
        if not isinstance(value, dict) or not all(
            isinstance(value.get(name), str) for name in ("checkpoint", "leaves")
        ):
            raise ValueError("not a checkpoint")
        return cls.read(value["checkpoint"], value["leaves"])

    @property
    def first(self) -> int:
        """Return the number of the entry that the first of `leaves` belongs to."""
        return self.checkpoint.size - len(self.leaves)

    @cached_property
    def fields(self) -> Mapping[str, str]:
        """Return the fields of a stream entry."""
        return {"checkpoint": self.checkpoint.note, "leaves": _joined(self.leaves)}

    @property
    def line(self) -> bytes:
        """Return the line, with its line feed."""
        return json.dumps(dict(self.fields), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def checkpoints_key(stream: str) -> str:
    """Return the key of the stream of checkpoints beside a log's `stream`."""
    return f"{stream}:{CHECKPOINTS}"


def _joined(leaves: Sequence[bytes]) -> str:
    return base64.b64encode(b"".join(leaves)).decode()
