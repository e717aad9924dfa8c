"""The console's keys, made once: what votes are signed with, and what previews are sealed to."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pyrage
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from rankgate.errors import SettingsError

__all__ = ["KeyFiles", "make_keys"]


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """Where the keys are; `recipient` is the gates' `approvals.preview_recipient`."""

    private: Path
    public: Path
    preview: Path
    recipient: str


def make_keys(directory: Path) -> KeyFiles:
    """Make the keys in `directory`, which is made where it is not there (0700).

    Raises SettingsError where it cannot, and for a key that is there: votes signed with it would count no more.
    """
    private, public, preview = (directory / name for name in ("vote-key.pem", "vote-key.pub.pem", "preview-key.txt"))
    there = [path for path in (private, public, preview) if path.exists()]
    if there:
        raise SettingsError(f"{there[0]} is there already; keys are never replaced, choose another folder")
    key, identity = Ed25519PrivateKey.generate(), pyrage.x25519.Identity.generate()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(private, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
        _write(public, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), 0o644)
        _write(preview, f"{identity}\n".encode(), 0o600)
    except OSError as error:
        raise SettingsError(f"cannot write to {directory}: {error.strerror}") from None
    return KeyFiles(private, public, preview, str(identity.to_public()))


def _write(path: Path, data: bytes, mode: int) -> None:
    # O_EXCL: a key that appeared meanwhile is not replaced either.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
