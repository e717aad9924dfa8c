"""Signed notes and their Ed25519 keys: C2SP signed-note, https://c2sp.org/signed-note, and the keys' text form.

    <text, which ends in a line feed>
    <empty line>
    — <key name> <base64 of key id and signature>

A key id is the first four bytes of `SHA-256(name || 0x0A || 0x01 || public key)`: it names a key, it proves nothing. A
verifier key is written `<name>+<key id, hex>+<base64 of 0x01 and the public key>`, as by Go's sumdb.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

__all__ = [
    "MOST_SIGNATURES",
    "NOTE_BYTES",
    "PEM_BYTES",
    "NoteError",
    "Signer",
    "Verifier",
    "Verifiers",
    "new_signing_key",
    "sign",
    "signers",
    "split",
]

NOTE_BYTES = 65_536
MOST_SIGNATURES = 16
PEM_BYTES = 65_536
MOST_KEYS = 16
_ED25519 = b"\x01"
_ID_BYTES = 4
_NAME = re.compile(r"[!-*,-~]{1,255}")
_VKEY = re.compile(r"([!-*,-~]{1,255})\+([0-9a-f]{8})\+([A-Za-z0-9+/]+={0,2})")
_SIGNATURE = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")
_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f]")
_BLOCK = re.compile(rb"-----BEGIN PRIVATE KEY-----.+?-----END PRIVATE KEY-----", re.DOTALL)


class NoteError(ValueError):
    """A note that is malformed, or that none of the keys asked for has signed. The text quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key and its name; `str()` is the verifier key."""

    name: str
    key: bytes

    @property
    def id(self) -> bytes:
        """Return the four bytes that name the key in a signature."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.key).digest()[:_ID_BYTES]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(_ED25519 + self.key).decode()}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str()` wrote; raises ValueError, also where the id is not that of the key."""
        match = _VKEY.fullmatch(text)
        data = _decoded(match[3]) if match else None
        if match is None or data is None or data[:1] != _ED25519 or len(data) != 33:
            raise ValueError("not a verifier key of the form name+id+key with an Ed25519 key")
        verifier = cls(match[1], data[1:])
        if verifier.id.hex() != match[2]:
            raise ValueError("the id of the verifier key is not that of its name and key")
        return verifier

    def holds(self, signature: bytes, text: bytes) -> bool:
        """Tell whether `signature` (RFC 8032, 64 bytes) is this key's over `text`."""
        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(signature, text)
        except (InvalidSignature, ValueError):
            return False
        return True


class Verifiers:
    """The keys that are trusted."""

    def __init__(self, keys: Iterable[Verifier]) -> None:
        self._keys: Mapping[tuple[str, bytes], Verifier] = {(key.name, key.id): key for key in keys}

    def __iter__(self) -> Iterator[Verifier]:
        return iter(self._keys.values())

    def verified(self, note: str) -> tuple[str, tuple[Verifier, ...]]:
        """Return the text of `note` and who of the trusted keys signed it, in the order of the signatures.

        Signatures of other keys are passed over. Raises NoteError where one of a trusted key does not hold, or there
        is none.
        """
        text, signatures = split(note)
        signed = []
        for name, data in signatures:
            key = self._keys.get((name, data[:_ID_BYTES]))
            if key is None:
                continue
            if not key.holds(data[_ID_BYTES:], text.encode()):
                raise NoteError("a signature does not hold")
            signed.append(key)
        if not signed:
            raise NoteError("signed by no key that is trusted")
        return text, tuple(signed)


@dataclass(frozen=True, slots=True, repr=False)
class Signer:
    """A private key and its name."""

    name: str
    _key: Ed25519PrivateKey

    @property
    def verifier(self) -> Verifier:
        """Return the public half."""
        return Verifier(self.name, self._key.public_key().public_bytes_raw())

    def line(self, text: str) -> str:
        """Return the signature line over `text`."""
        signature = self.verifier.id + self._key.sign(text.encode())
        return f"— {self.name} {base64.b64encode(signature).decode()}\n"


def sign(text: str, *by: Signer) -> str:
    """Return the note of `text`, signed by each; raises ValueError where `text` can be none."""
    if not text.endswith("\n") or _CONTROLS.search(text):
        raise ValueError("the text of a note ends in a line feed and has no other control character")
    return f"{text}\n{''.join(signer.line(text) for signer in by)}"


def split(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """Return the text of a note and its signatures, name and decoded bytes each; raises NoteError.

    Nothing of it is verified.
    """
    if len(note) > NOTE_BYTES or _CONTROLS.search(note):
        raise NoteError("the note is too large or has a control character")
    text, empty, lines = note.rpartition("\n\n")
    if not empty or not lines.endswith("\n"):
        raise NoteError("the note has no signature")
    found = []
    for line in lines[:-1].split("\n"):
        match = _SIGNATURE.fullmatch(line)
        data = _decoded(match[2]) if match else None
        if match is None or data is None or len(data) <= _ID_BYTES:
            raise NoteError("a line where a signature should be is none")
        found.append((match[1], data))
    if len(found) > MOST_SIGNATURES:
        raise NoteError("the note has too many signatures")
    return f"{text}\n", found


def signers(pem: bytes, name: str) -> tuple[Signer, ...]:
    """Read PEM text of 1 to 16 Ed25519 private keys (PKCS #8, RFC 8410) as keys called `name`, in order.

    Raises ValueError, with a text that quotes nothing, for everything else.
    """
    if not _NAME.fullmatch(name):
        raise ValueError("not a name for a key")
    blocks = _BLOCK.findall(pem) if len(pem) <= PEM_BYTES else []
    if not 1 <= len(blocks) <= MOST_KEYS:
        raise ValueError("no Ed25519 private key in PEM (PKCS #8)")
    found = [Signer(name, _load(block)) for block in blocks]
    if len({signer.verifier.key for signer in found}) != len(found):
        raise ValueError("a key is there twice")
    return tuple(found)


def new_signing_key() -> bytes:
    """Return a new Ed25519 private key as PEM text, PKCS #8."""
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _load(block: bytes) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(block, password=None)
    except Exception:  # noqa: BLE001 - whatever the library says of key material goes nowhere
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("no Ed25519 private key in PEM (PKCS #8)")  # noqa: TRY004 - of the text, not of an argument
    return key


def _decoded(text: str) -> bytes | None:
    """Return the bytes of base64 as RFC 4648 section 4 writes them, None for any other way to write them."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return data if base64.b64encode(data).decode() == text else None
