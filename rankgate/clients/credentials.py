"""Brokers of upstream credentials: which one the settings name, and the simplest two."""

from __future__ import annotations

from pathlib import Path

from rankgate.clients.lending import LeaseForm, Lender, no_kind, unavailable
from rankgate.clients.rereading import Rereading
from rankgate.credentials import MIN_CHARS, Grant, Lease
from rankgate.errors import GateError, SettingsError
from rankgate.settings import CredentialSettings

__all__ = ["FileBroker", "NoBroker", "broker_for"]


class NoBroker(Lender):
    """For a reranker that needs no credential."""

    async def lease(self, grant: Grant) -> None:
        """Lend nothing. A ruling that names a credential cannot be carried out."""
        no_kind(grant)


class FileBroker(Lender):
    """Lends the provider key that a file holds; re-read whenever the file changes."""

    def __init__(self, path: Path, form: LeaseForm) -> None:
        self._file = Rereading(path, lambda content: form.lease(content.decode("ascii").strip()))

    async def lease(self, grant: Grant) -> Lease:
        """Return the current key as a lease. Raises GateError(CREDENTIAL_UNAVAILABLE)."""
        no_kind(grant)
        try:
            return self._file.current()
        except (OSError, UnicodeDecodeError):
            raise unavailable("file") from None

    def check(self) -> None:
        """Raise SettingsError where the file holds no credential."""
        path = self._file.path
        if not path.is_file():
            raise SettingsError(f"credentials.file {path} does not exist; write the upstream key into it")
        try:
            self._file.current()
        except (OSError, UnicodeDecodeError, GateError):
            raise SettingsError(
                f"credentials.file {path} holds no credential; write one line of {MIN_CHARS} or more visible ASCII "
                "characters into it"
            ) from None


def broker_for(settings: CredentialSettings, key: bytes) -> Lender:
    """Return the configured broker. `key` makes the fingerprints. Raises SettingsError."""
    form = LeaseForm(settings, key)
    if settings.minted is not None:
        from rankgate.clients.minting import MintingBroker

        minting = MintingBroker(settings.minted, form)
        minting.check()
        return minting
    if settings.exchange is not None:
        # Imported where it is used: its HTTP client takes memory that other deployments need not spend.
        from rankgate.clients.token_exchange import ExchangeBroker

        return ExchangeBroker(settings.exchange, form)
    if settings.file is not None:
        broker = FileBroker(settings.file, form)
        broker.check()
        return broker
    return NoBroker()
