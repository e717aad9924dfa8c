"""The broker that signs a token for each allowed request."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rankgate.clients.lending import LeaseForm, Lender, no_kind, unavailable
from rankgate.clients.rereading import Rereading
from rankgate.credentials import Grant, Lease
from rankgate.errors import SettingsError
from rankgate.minting import MintingKeys, claims
from rankgate.settings import MintedSettings

__all__ = ["JWKS_PATH", "MintingBroker", "read_minting_keys"]

JWKS_PATH = "/.well-known/jwks.json"


class MintingBroker(Lender):
    """Lends a JWT of its own making: for one request, for seconds. `clock` gives seconds since 1970.

    The key file is looked at with every request. One that is gone or bad ends lending: whoever takes a key away means
    that it signs no more.
    """

    def __init__(self, settings: MintedSettings, form: LeaseForm, *, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._form = form
        self._clock = clock
        self._keys = Rereading(settings.key_file, MintingKeys.read)

    async def lease(self, grant: Grant) -> Lease:
        """Return a fresh token as a lease. Raises GateError(CREDENTIAL_UNAVAILABLE)."""
        no_kind(grant)
        settings = self._settings
        payload = claims(
            grant,
            issuer=settings.issuer,
            audience=settings.audience,
            lifetime_s=settings.lifetime_s,
            now=int(self._clock()),
        )
        return self._form.lease(self._current().sign(payload))

    def published(self) -> Mapping[str, Callable[[], str]]:
        """Return the public keys (RFC 7517 section 5), at the path where OpenID providers often have theirs."""
        return {JWKS_PATH: lambda: self._current().jwks}

    def check(self) -> None:
        """Raise SettingsError where the file holds no key to sign with."""
        read_minting_keys(self._settings.key_file)

    def _current(self) -> MintingKeys:
        try:
            return self._keys.current()
        except OSError:
            raise unavailable("key file") from None
        except ValueError:
            raise unavailable("key") from None


def read_minting_keys(path: Path) -> MintingKeys:
    """Return the keys in the file `path`. Raises SettingsError with the remedy."""
    try:
        return MintingKeys.read(path.read_bytes())
    except OSError as error:
        why = error.strerror or "not readable"
    except ValueError as error:
        why = str(error)
    raise SettingsError(
        f"credentials.minted.key_file {path}: {why}; make a key with: "
        "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out FILE"
    )
