"""Brokers of upstream credentials."""

from __future__ import annotations

import re
from pathlib import Path

from rankgate.credentials import MIN_CHARS, Broker, Grant, Lease, Secret, fingerprint
from rankgate.errors import GateError, Reason, SettingsError
from rankgate.settings import CredentialSettings

__all__ = ["FileBroker", "NoBroker", "broker_for"]

# What may stand in a header value (RFC 9110 section 5.5), without spaces; `contains` relies on it.
CREDENTIAL = re.compile(rf"[\x21-\x7e]{{{MIN_CHARS},8192}}")


class NoBroker:
    """For a reranker that needs no credential."""

    async def lease(self, grant: Grant) -> None:
        """Lend nothing. A ruling that names a credential cannot be carried out."""
        if grant.kind is not None:
            raise GateError(Reason.CREDENTIAL_UNAVAILABLE, "kind")


class FileBroker:
    """Lends the provider key that a file holds; re-read whenever the file changes."""

    def __init__(self, path: Path, *, header: str, scheme: str, key: bytes) -> None:
        self._path = path
        self._header = header
        self._scheme = scheme
        self._key = key
        self._seen: tuple[int, int, int] | None = None
        self._lease: Lease | None = None

    async def lease(self, grant: Grant) -> Lease:
        """Return the current key as a lease. Raises GateError(CREDENTIAL_UNAVAILABLE)."""
        if grant.kind is not None:
            raise GateError(Reason.CREDENTIAL_UNAVAILABLE, "kind")
        try:
            stat = self._path.stat()
            version = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if self._lease is None or version != self._seen:
                self._lease = self.read()
                self._seen = version
        except (OSError, UnicodeDecodeError):
            raise GateError(Reason.CREDENTIAL_UNAVAILABLE, "file") from None
        return self._lease

    def read(self) -> Lease:
        """Read the file; raises OSError, UnicodeDecodeError or GateError(CREDENTIAL_UNAVAILABLE)."""
        credential = self._path.read_text(encoding="ascii").strip()
        if not CREDENTIAL.fullmatch(credential):
            raise GateError(Reason.CREDENTIAL_UNAVAILABLE, "content")
        value = f"{self._scheme} {credential}" if self._scheme else credential
        return Lease(self._header, Secret(value), fingerprint(self._key, credential))


def broker_for(settings: CredentialSettings, key: bytes) -> Broker:
    """Return the configured broker. `key` makes the fingerprints. Raises SettingsError."""
    if settings.broker == "none" or settings.file is None:
        return NoBroker()
    if not settings.file.is_file():
        raise SettingsError(f"credentials.file {settings.file} does not exist; write the upstream key into it")
    broker = FileBroker(settings.file, header=settings.header, scheme=settings.scheme, key=key)
    try:
        broker.read()
    except (OSError, UnicodeDecodeError, GateError):
        raise SettingsError(
            f"credentials.file {settings.file} holds no credential; write one line of {MIN_CHARS} or more visible "
            "ASCII characters into it"
        ) from None
    return broker
