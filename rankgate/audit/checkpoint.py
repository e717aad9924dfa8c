"""What a log says of itself from time to time, signed: so many entries, with this root.

    <deployment>/<log>                    origin
    <size>                                entries under the root
    <base64 of the root>                  RFC 9162, rankgate.audit.tree
    number <n>                            of this checkpoint in its log, from 0 without gaps
    kind <open|regular|heartbeat|close>
    time <ms since the epoch>

A signed note (rankgate.audit.note) in the form of C2SP tlog-checkpoint, https://c2sp.org/tlog-checkpoint; the last
three are extension lines. The specification allows them and advises against them, because witnesses cannot check
them. The integrity of entries does not rest on them: `number` shows that a checkpoint was taken away, `kind` and
`time` how a log ended and when it was silent. The key is named after the deployment, one for all its logs.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from enum import StrEnum

from rankgate.audit.note import NoteError, Signer, Verifier, Verifiers, sign, split
from rankgate.audit.tree import EMPTY_ROOT, HASH_BYTES

__all__ = ["Checkpoint", "Kind", "Rotation", "read_checkpoint", "read_rotation", "sign_rotation", "verify_checkpoint"]

_NUMBER = r"(0|[1-9][0-9]{0,18})"
_TEXT = re.compile(
    rf"([^\s/+]+)/([^\s+]+)\n{_NUMBER}\n([A-Za-z0-9+/]{{43}}=)\n"
    rf"number {_NUMBER}\nkind (open|regular|heartbeat|close)\ntime {_NUMBER}\n"
)
_ROTATION = re.compile(rf"rankgate key rotation\n([^\s+]+)\n(\S+)\ntime {_NUMBER}\n")


class Kind(StrEnum):
    """Why a checkpoint was written."""

    OPEN = "open"
    """The log was begun, or read again from disk and found to be what was signed before."""
    REGULAR = "regular"
    HEARTBEAT = "heartbeat"
    """Nothing new for a while: whoever hears nothing knows that something is missing."""
    CLOSE = "close"
    """An orderly stop; what follows begins with another open."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of one log's tree; `time` in milliseconds since the epoch. `note` is what was read, empty if made."""

    deployment: str
    log: str
    size: int
    root: bytes
    number: int
    kind: Kind
    time: int
    note: str = field(default="", compare=False, repr=False)

    @property
    def text(self) -> str:
        """Return the text that is signed."""
        return (
            f"{self.deployment}/{self.log}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"
            f"number {self.number}\nkind {self.kind.value}\ntime {self.time}\n"
        )

    def sign(self, by: Signer) -> str:
        """Return the signed note."""
        return sign(self.text, by)


@dataclass(frozen=True, slots=True)
class Rotation:
    """A new key, vouched for by one that was trusted before; `time` in milliseconds since the epoch."""

    deployment: str
    key: Verifier
    time: int
    by: Verifier


def read_checkpoint(note: str) -> Checkpoint:
    """Read a checkpoint whose signature is somebody else's matter; raises NoteError on any other text."""
    text, _ = split(note)
    match = _TEXT.fullmatch(text)
    if match is None:
        raise NoteError("the note is no checkpoint")
    deployment, log, size, root, number, kind, time = match.groups()
    checkpoint = Checkpoint(deployment, log, int(size), _root(root), int(number), Kind(kind), int(time), note)
    if checkpoint.text != text or (checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT):
        raise NoteError("the note is no checkpoint")
    return checkpoint


def verify_checkpoint(note: str, keys: Verifiers) -> tuple[Checkpoint, Verifier]:
    """Return a checkpoint and the trusted key of its deployment that signed it; raises NoteError."""
    _, signed = keys.verified(note)
    checkpoint = read_checkpoint(note)
    for key in signed:
        if key.name == checkpoint.deployment:
            return checkpoint, key
    raise NoteError("signed by the key of another deployment")


def sign_rotation(deployment: str, new: Signer, old: Signer, time: int) -> str:
    """Return the note by which `old` hands over to `new`; both sign, so that nobody's key is introduced unasked."""
    return sign(f"rankgate key rotation\n{deployment}\n{new.verifier}\ntime {time}\n", old, new)


def read_rotation(note: str, keys: Verifiers) -> Rotation:
    """Return what a note says about a new key, if a trusted key of that deployment and the new one signed it.

    Raises NoteError.
    """
    match = _ROTATION.fullmatch(split(note)[0])
    if match is None:
        raise NoteError("the note is no rotation")
    try:
        new = Verifier.parse(match[2])
    except ValueError:
        raise NoteError("the note introduces no key") from None
    if new.name != match[1]:
        raise NoteError("the new key is named after another deployment")
    _, old = keys.verified(note)
    Verifiers([new]).verified(note)
    by = next((key for key in old if key.name == match[1] and key != new), None)
    if by is None:
        raise NoteError("signed by no other key of the deployment that is trusted")
    return Rotation(match[1], new, int(match[3]), by)


def _root(text: str) -> bytes:
    try:
        root = base64.b64decode(text, validate=True)
    except binascii.Error:
        root = b""
    if len(root) != HASH_BYTES:
        raise NoteError("the note is no checkpoint")
    return root
