"""An issuer's key set over HTTP: discovery, fetching, and when to fetch again."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import structlog

from rankgate.clients.origins import Origins
from rankgate.errors import GateError, Reason, SettingsError
from rankgate.keyset import SET_BYTES, KeySet, KeyStatus, admit
from rankgate.settings import IssuerSettings
from rankgate.strict import MalformedError, json_object

__all__ = ["JwksClient"]

log = structlog.get_logger(__name__)

FETCH_TIMEOUT_S = 5.0
_DISCOVERY_DEPTH = 16


class _FetchError(Exception):
    """A fetch that brought nothing usable, with the word for why."""


class JwksClient:
    """Keeps the key set of one `oidc` issuer fresh in the background.

    The last good set serves while the issuer is out, up to `stale_s` beyond the refresh that failed. `clock` is
    monotonic, in seconds; `sleep` waits that long.
    """

    def __init__(
        self,
        settings: IssuerSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        timeout_s: float = FETCH_TIMEOUT_S,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._sleep = sleep
        self._timeout_s = timeout_s
        self._origins = Origins(
            settings.issuer, settings.trusted_hosts, insecure_http=settings.insecure_http, section="issuers"
        )
        self._jwks_uri = None if settings.jwks_uri is None else self._origins.trusted(settings.jwks_uri)
        if settings.jwks_uri is not None and self._jwks_uri is None:
            raise SettingsError("issuers.jwks_uri is on another host than the issuer; list it in issuers.trusted_hosts")
        self._keys: KeySet | None = None
        self._loaded_at = 0.0
        self._sought_at: float | None = None
        self._fault = "not loaded"
        self._flight: asyncio.Task[bool] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stopped = False

    async def start(self) -> None:
        """Fetch once, then keep fetching in the background; a failing issuer only leaves the set empty."""
        self._keeper = asyncio.create_task(self._keep_fresh())
        await self._fly(discover=True)

    async def stop(self) -> None:
        """End the background refresh and any fetch under way."""
        self._stopped = True
        tasks = [task for task in (self._keeper, self._flight) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def current(self) -> KeySet:
        """Return the last good set; raises GateError(KEYS_UNAVAILABLE) before the first and after `stale_s`."""
        if self._keys is None:
            raise GateError(Reason.KEYS_UNAVAILABLE, "no key set yet")
        # A refresh is due after refresh_s and may take two timeouts; only then does an outage begin to count.
        grace_s = self._settings.refresh_s + 2 * self._timeout_s
        if self._clock() - self._loaded_at > grace_s + self._settings.stale_s:
            raise GateError(Reason.KEYS_UNAVAILABLE, "key set stale")
        return self._keys

    async def seek(self, key_id: str) -> None:
        """Fetch once more for an unknown key id; all who wait share the fetch, one starts per cool-down."""
        # A fetch under way may have been answered before the key was published: it is joined, but does not count.
        joined = self._flight
        if joined is not None:
            await self._fly(discover=False)
            if self._keys is not None and self._keys.knows(key_id):
                return
        now = self._clock()
        if self._sought_at is None or now - self._sought_at >= self._settings.cooldown_s:
            self._sought_at = now
            await self._fly(discover=False)
        elif self._flight is not None and self._flight is not joined:
            await self._fly(discover=False)

    def status(self) -> KeyStatus:
        """Return age, counts and the latest fault of the key set."""
        try:
            self.current()
            usable = True
        except GateError:
            usable = False
        return KeyStatus(
            issuer=self._settings.issuer,
            usable=usable,
            keys=len(self._keys.keys) if self._keys else 0,
            dropped=self._keys.dropped if self._keys else {},
            age_s=self._clock() - self._loaded_at if self._keys else None,
            fault=self._fault,
        )

    async def _keep_fresh(self) -> None:
        failures = 0
        while True:
            failures = 0 if await self._fly(discover=True) else failures + 1
            wait_s: float = self._settings.refresh_s
            if failures:
                wait_s = min(wait_s, self._settings.cooldown_s, 2.0 ** min(failures, 10))
            await self._sleep(wait_s)

    async def _fly(self, *, discover: bool) -> bool:
        """Join the fetch under way or start one; tell whether it brought a good set.

        A waiter that leaves does not end the fetch for the others, and `stop` ends it without an error.
        """
        if self._stopped:
            return False
        flight = self._flight
        if flight is None:
            flight = self._flight = asyncio.create_task(self._attempt(discover))
            flight.add_done_callback(self._landed)
        await asyncio.wait((flight,))
        return not flight.cancelled() and flight.result()

    def _landed(self, _: asyncio.Task[bool]) -> None:
        self._flight = None

    async def _attempt(self, discover: bool) -> bool:
        try:
            keys = await self._load(discover)
        except _FetchError as failure:
            fault = str(failure)
        except GateError as refusal:
            fault = refusal.detail
        except Exception:  # noqa: BLE001  # whatever goes wrong, the last good set stays and the refresh goes on
            fault = "failed"
        else:
            self._keys, self._loaded_at, self._fault = keys, self._clock(), ""
            if keys.dropped:
                log.warning("keys_dropped", issuer=self._settings.issuer, dropped=dict(keys.dropped))
            return True
        self._fault = fault
        log.warning("key_set_not_loaded", issuer=self._settings.issuer, fault=fault)
        return False

    async def _load(self, discover: bool) -> KeySet:
        # The context is made anew each time, so that a rotated CA file takes effect.
        tls = await asyncio.to_thread(_tls, self._settings.ca_file)
        async with aiohttp.ClientSession(
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            connector=aiohttp.TCPConnector(ssl=tls, force_close=True),
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            headers={"accept": "application/json", "accept-encoding": "identity", "user-agent": "rankgate"},
        ) as session:
            if self._settings.jwks_uri is None and (discover or self._jwks_uri is None):
                self._jwks_uri = await self._discover(session)
            if self._jwks_uri is None:
                raise _FetchError("no jwks_uri")
            document = await _get(session, self._jwks_uri)
        return admit(document, self._settings.algorithms)

    async def _discover(self, session: aiohttp.ClientSession) -> str:
        """Return the `jwks_uri` from the issuer's metadata (OIDC Discovery 1.0 section 4, RFC 8414 section 3)."""
        issuer = self._settings.issuer
        parts = urlsplit(issuer)
        path = parts.path.rstrip("/")
        try:
            document = await _get(session, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        except _NotFoundError:
            # RFC 8414 puts the well-known part before the issuer's path.
            origin = f"{parts.scheme}://{parts.netloc}"
            document = await _get(session, f"{origin}/.well-known/oauth-authorization-server{path}")
        try:
            metadata = json_object(document, depth=_DISCOVERY_DEPTH)
        except MalformedError:
            raise _FetchError("discovery malformed") from None
        if metadata.get("issuer") != issuer:
            raise _FetchError("discovery names another issuer")
        jwks_uri = metadata.get("jwks_uri")
        trusted = self._origins.trusted(jwks_uri) if isinstance(jwks_uri, str) else None
        if trusted is None:
            raise _FetchError("jwks_uri not trusted")
        return trusted


class _NotFoundError(_FetchError):
    """The server has no such document."""


async def _get(session: aiohttp.ClientSession, url: str) -> bytes:
    try:
        async with session.get(url, allow_redirects=False) as response:
            if response.status == 404:
                raise _NotFoundError("status 404")
            if response.status != 200:
                raise _FetchError(f"status {response.status}")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise _FetchError("content-encoding")
            document = bytearray()
            async for chunk in response.content.iter_any():
                document += chunk
                if len(document) > SET_BYTES:
                    raise _FetchError("too large")
            return bytes(document)
    except TimeoutError:
        raise _FetchError("timeout") from None
    except (aiohttp.ClientError, OSError):
        raise _FetchError("connection") from None


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError:
        raise _FetchError("ca_file unreadable") from None
