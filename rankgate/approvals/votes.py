"""Votes and revocations: statements that the console signs (Ed25519, RFC 8032) and every gate verifies."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from enum import StrEnum
from typing import TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from rankgate.approvals.ask import Requirement

__all__ = ["Choice", "Revocation", "Signer", "Vote", "VoteKeys", "Voter"]

# The longest text that may be a statement: a vote of a person with many groups and a long reason.
STATEMENT_CHARS = 65_536


class Choice(StrEnum):
    """What a person decided."""

    APPROVE = "approve"
    DENY = "deny"


class Voter(msgspec.Struct, frozen=True):
    """Who voted, as the console's issuer said.

    `person` is what tells people apart (`issuer subject`, or the configured claim); `names` are all names the person
    is known by, in lower case; `groups` those of the token.
    """

    issuer: str
    subject: str
    person: str
    names: tuple[str, ...]
    groups: tuple[str, ...]


class Vote(msgspec.Struct, frozen=True, kw_only=True, tag="vote"):
    """One person's decision about one Ask. `record` is the digest of its stored bytes.

    Times are milliseconds since the epoch. `expires_ms` is the Ask's; consent may be used from `use_from_ms` until
    `use_until_ms`, where the person said so.
    """

    approval: str
    record: str
    use_digest: str
    plan_digest: str
    requirement: Requirement
    voter: Voter
    choice: Choice
    reason: str
    time_ms: int
    expires_ms: int
    use_from_ms: int | None = None
    use_until_ms: int | None = None


class Revocation(msgspec.Struct, frozen=True, kw_only=True, tag="revocation"):
    """From `time_ms` on, no earlier vote of `person` counts any more."""

    person: str
    reason: str
    by: str
    time_ms: int


Statement = TypeVar("Statement", Vote, Revocation)


class Signer:
    """Signs statements with the console's key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.key_id = _key_id(key.public_key())

    def __repr__(self) -> str:
        return f"Signer({self.key_id})"

    def sign(self, statement: Vote | Revocation) -> str:
        """Return `<key id>.<statement>.<signature>`, the latter two in unpadded base64url."""
        payload = msgspec.json.encode(statement)
        return ".".join((self.key_id, _text(payload), _text(self._key.sign(_signed(type(statement), payload)))))


class VoteKeys:
    """The public keys of the console: the one in use, and those of before or after it while they are exchanged."""

    def __init__(self, keys: Iterable[Ed25519PublicKey]) -> None:
        self._keys = {_key_id(key): key for key in keys}

    def vote(self, text: str) -> Vote | None:
        """Return the vote that `text` is; None where it is none, or not signed by a key of these."""
        return self._read(text, Vote)

    def revocation(self, text: str) -> Revocation | None:
        """Return the revocation that `text` is; None where it is none, or not signed by a key of these."""
        return self._read(text, Revocation)

    def votes(self, texts: Iterable[str]) -> list[Vote]:
        """Return the votes among `texts`; whatever else there is, is left out."""
        return [vote for text in texts if (vote := self.vote(text)) is not None]

    def revocations(self, texts: Iterable[str]) -> dict[str, Revocation]:
        """Return the latest revocation of each person among `texts`; whatever else there is, is left out."""
        latest: dict[str, Revocation] = {}
        for text in texts:
            found = self.revocation(text)
            if found is not None and found.time_ms >= latest.get(found.person, found).time_ms:
                latest[found.person] = found
        return latest

    def _read(self, text: str, kind: type[Statement]) -> Statement | None:
        key_id, _, rest = text.partition(".")
        payload_text, _, signature_text = rest.partition(".")
        key = self._keys.get(key_id)
        if key is None or len(text) > STATEMENT_CHARS:
            return None
        try:
            payload, signature = _bytes(payload_text), _bytes(signature_text)
            key.verify(signature, _signed(kind, payload))
            return msgspec.json.decode(payload, type=kind)
        except (binascii.Error, ValueError, InvalidSignature, msgspec.DecodeError):
            return None


def _signed(kind: type[Vote | Revocation], payload: bytes) -> bytes:
    # A statement of one kind never passes for one of another, whatever its members.
    return f"rankgate {kind.__name__.lower()} 1\n".encode() + payload


def _key_id(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _bytes(text: str) -> bytes:
    data = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _text(data) != text:
        raise ValueError("not canonical")
    return data
