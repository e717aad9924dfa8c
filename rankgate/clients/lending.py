"""What every broker of a process is, and how a credential becomes a lease."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from rankgate.credentials import MIN_CHARS, Grant, Lease, Secret, fingerprint
from rankgate.errors import GateError, Reason
from rankgate.settings import CredentialSettings

__all__ = ["CREDENTIAL", "LeaseForm", "Lender", "no_kind", "unavailable"]

# What may stand in a header value (RFC 9110 section 5.5), without spaces; `contains` relies on it.
CREDENTIAL = re.compile(rf"[\x21-\x7e]{{{MIN_CHARS},8192}}")


class Lender(ABC):
    """A broker (`rankgate.credentials.Broker`) with what its process does for it."""

    @abstractmethod
    async def lease(self, grant: Grant) -> Lease | None:
        """Return a lease, or None where none is needed. Raises GateError(CREDENTIAL_UNAVAILABLE)."""

    def published(self) -> Mapping[str, Callable[[], str]]:
        """Return the JSON documents that anybody may read, by path; one that cannot be had now raises GateError."""
        return {}

    async def stop(self) -> None:
        """End what it holds open."""
        return


class LeaseForm:
    """How leases look: the header, the word before the credential, and the key of fingerprints."""

    def __init__(self, settings: CredentialSettings, key: bytes) -> None:
        self._header = settings.header
        self._scheme = settings.scheme
        self._key = key

    def lease(self, credential: str) -> Lease:
        """Return the lease of `credential`. Raises GateError(CREDENTIAL_UNAVAILABLE) for what no header can carry."""
        if not CREDENTIAL.fullmatch(credential):
            raise unavailable("content")
        value = f"{self._scheme} {credential}" if self._scheme else credential
        return Lease(self._header, Secret(value), fingerprint(self._key, credential))


def no_kind(grant: Grant) -> None:
    """Refuse a ruling that names a credential: a gate has one."""
    if grant.kind is not None:
        raise unavailable("kind")


def unavailable(why: str) -> GateError:
    """Return the refusal of a call that there is no credential for; `why` is one of our words."""
    return GateError(Reason.CREDENTIAL_UNAVAILABLE, why)
