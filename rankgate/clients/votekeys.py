"""The public keys that votes are verified with, read from PEM files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from rankgate.approvals import VoteKeys
from rankgate.errors import SettingsError

__all__ = ["read_public_keys", "read_vote_keys"]


def read_vote_keys(files: Iterable[Path]) -> VoteKeys:
    """Return what verifies votes by the keys in `files` (PEM, SubjectPublicKeyInfo). Raises SettingsError."""
    return VoteKeys(read_public_keys(files))


def read_public_keys(files: Iterable[Path]) -> list[Ed25519PublicKey]:
    """Return the keys in `files`, for whoever has one more. Raises SettingsError."""
    return [_read(file) for file in files]


def _read(file: Path) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(file.read_bytes())
    except OSError as error:
        raise SettingsError(f"vote_keys: {file} cannot be read: {error.strerror}") from None
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise SettingsError(f"vote_keys: {file} holds no Ed25519 public key in PEM; `rankgate console keys` makes one")
    return key
