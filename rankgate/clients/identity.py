"""The verifier of a gate: every configured issuer, its keys, and the tokens verified lately."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rankgate.clients.jwks import JwksClient
from rankgate.clients.keyfile import KeyFile
from rankgate.errors import GateError, Reason
from rankgate.identity import IssuerTerms, Principal, UnknownKeyError, principal, read, verify
from rankgate.keyset import KeySource, KeyStatus
from rankgate.settings import IssuerSettings

__all__ = ["Verifier", "source_for"]

CACHE_ENTRIES = 4096
CACHE_TTL_S = 300.0


@dataclass(frozen=True, slots=True)
class _Issuer:
    terms: IssuerTerms
    keys: KeySource


@dataclass(frozen=True, slots=True)
class _Verified:
    """A token verified at `since`; good until `until` while its key stays in the issuer's set."""

    principal: Principal
    key_thumbprint: str
    since: float
    until: float


_CacheKey = tuple[bytes, str, tuple[str, ...]]


def source_for(settings: IssuerSettings) -> KeySource:
    """Return the key source of an issuer's preset."""
    if settings.jwks_file is not None:
        return KeyFile(settings, settings.jwks_file)
    return JwksClient(settings)


class Verifier:
    """Turns a token into a principal, by the terms of the issuer the token names.

    Good tokens are remembered for at most five minutes and never past their expiry; failures never. A removed
    key and a key set too old to use count at once, also for remembered tokens.
    """

    def __init__(
        self,
        issuers: Sequence[IssuerSettings],
        *,
        source: Callable[[IssuerSettings], KeySource] = source_for,
    ) -> None:
        self._issuers = {one.issuer: _Issuer(IssuerTerms.of(one), source(one)) for one in issuers}
        revisions = "".join(issuer.terms.revision for issuer in self._issuers.values())
        self._revision = hashlib.sha256(revisions.encode("ascii")).hexdigest()
        self._verified: OrderedDict[_CacheKey, _Verified] = OrderedDict()
        self.hits = 0
        """Tokens accepted because they had been verified before."""
        self.misses = 0
        """Tokens that had to be verified, whatever came of it."""

    async def start(self) -> None:
        """Load every issuer's keys and keep them fresh; an issuer that is out does not hold up the others."""
        await asyncio.gather(*(issuer.keys.start() for issuer in self._issuers.values()))

    async def stop(self) -> None:
        """End everything that runs in the background."""
        await asyncio.gather(*(issuer.keys.stop() for issuer in self._issuers.values()))

    @property
    def ready(self) -> bool:
        """Tell whether any issuer's tokens can be verified: one issuer's outage must not close the gate to others."""
        return any(status.usable for status in self.status())

    def status(self) -> tuple[KeyStatus, ...]:
        """Return the state of each issuer's keys, for health and metrics."""
        return tuple(issuer.keys.status() for issuer in self._issuers.values())

    async def verify(self, token: str, audiences: tuple[str, ...], now: float) -> Principal:
        """Verify `token` for a route's `audiences` (empty: the issuer's) at `now`, seconds since 1970.

        Raises GateError: TOKEN_INVALID, or KEYS_UNAVAILABLE where the issuer's keys could not be had.
        """
        key = (hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest(), self._revision, audiences)
        known = self._recall(key, now)
        if known is not None:
            self.hits += 1
            return known
        self.misses += 1
        unverified = read(token)
        issuer = self._issuers.get(unverified.issuer)
        if issuer is None:
            raise GateError(Reason.TOKEN_INVALID, "issuer")
        try:
            claims = verify(unverified, issuer.keys.current(), issuer.terms, audiences, now)
        except UnknownKeyError:
            await issuer.keys.seek(unverified.key_id or "")
            claims = verify(unverified, issuer.keys.current(), issuer.terms, audiences, now)
        found = principal(claims, issuer.terms)
        until = min(now + CACHE_TTL_S, claims.expires)
        if until > now:
            self._verified[key] = _Verified(found, claims.key_thumbprint, now, until)
            while len(self._verified) > CACHE_ENTRIES:
                self._verified.popitem(last=False)
        return found

    def _recall(self, key: _CacheKey, now: float) -> Principal | None:
        entry = self._verified.get(key)
        if entry is None:
            return None
        # A clock that went back makes the entry void too: it says nothing about times before it.
        fresh = entry.since <= now < entry.until
        if not fresh or not self._issuers[entry.principal.issuer].keys.current().holds(entry.key_thumbprint):
            del self._verified[key]
            return None
        self._verified.move_to_end(key)
        return entry.principal
