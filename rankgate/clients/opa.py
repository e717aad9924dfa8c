"""OPA over HTTP, through opa-python-client's async client with its looseness taken away."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import structlog
from opa_client import AsyncOpaClient

from rankgate.clients.breaker import Breaker
from rankgate.errors import GateError, Reason, SettingsError
from rankgate.settings import PolicySettings

__all__ = ["OpaEngine"]

log = structlog.get_logger(__name__)

ANSWER_BYTES = 1_048_576
CONNECTIONS = 64
HEALTH_S = 1.0
UNVERSIONED = "opa:unversioned"


class _Client(AsyncOpaClient):  # type: ignore[misc]
    """The library's client over our connections: no redirects, no cookies, no retries but the one of `_request`."""

    def __init__(self, settings: PolicySettings) -> None:
        url = urlsplit(settings.url or "")
        tls = url.scheme == "https"
        self._socket = url.path if url.scheme == "unix" else None
        host = "localhost" if self._socket or url.hostname is None else url.hostname
        super().__init__(
            host=f"[{host}]" if ":" in host else host,
            port=80 if self._socket else url.port or (443 if tls else 80),
            ssl=tls,
            timeout=settings.timeout_s,
            retries=0,
        )
        self._session: aiohttp.ClientSession | None = None
        self._ca_file = settings.ca_file if tls else None
        self._ca_version = _version(self._ca_file)
        self._tls: ssl.SSLContext | bool = ssl.create_default_context(cafile=self._ca_file) if tls else True
        self._fresh: aiohttp.ClientSession | None = None
        self._retiring: set[asyncio.Task[None]] = set()

    async def _init_session(self) -> None:
        self._session = self._open(self._connect(force_close=False))
        self._fresh = self._open(self._connect(force_close=True))

    async def close_connection(self) -> None:
        """Close every connection; safe to call twice."""
        for retiring in self._retiring:
            retiring.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        await _close(self._session, self._fresh)
        self._session = self._fresh = None

    async def renew(self) -> None:
        """Trust what the bundle says now, where it has changed; a bundle that cannot be read changes nothing.

        Connections of the old trust end when the calls on them must have.
        """
        version = _version(self._ca_file)
        if version is None or version == self._ca_version:
            return
        self._ca_version = version
        try:
            self._tls = await asyncio.to_thread(ssl.create_default_context, cafile=self._ca_file)
        except (OSError, ssl.SSLError):
            log.warning("opa_ca_not_loaded")
            return
        old = self._session, self._fresh
        await self._init_session()
        retiring = asyncio.create_task(_close(*old, after_s=self.timeout))
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)
        log.info("opa_ca_reloaded")

    @asynccontextmanager
    async def _request(self, method: str, url: str, **kwargs: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None or self._fresh is None:
            raise aiohttp.ClientConnectionError
        used = SimpleNamespace(reused=False)
        kwargs |= {"allow_redirects": False, "trace_request_ctx": used}
        try:
            response = await self._session.request(method, url, **kwargs)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            # OPA closed an idle connection just as we wrote to it; on a new connection that means something else.
            if not used.reused:
                raise
            response = await self._fresh.request(method, url, **kwargs)
        try:
            yield response
        finally:
            # Not release(): what was left unread is not worth keeping the connection for.
            response.close() if not response.content.at_eof() else await response.release()

    def _connect(self, *, force_close: bool) -> aiohttp.BaseConnector:
        if self._socket:
            return aiohttp.UnixConnector(path=self._socket, limit=CONNECTIONS, force_close=force_close)
        return aiohttp.TCPConnector(ssl=self._tls, limit=CONNECTIONS, force_close=force_close)

    def _open(self, connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_note_reuse)
        return aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=self.timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"accept": "application/json", "accept-encoding": "identity", "user-agent": "rankgate"},
            auto_decompress=False,
            trace_configs=[trace],
        )


def _version(path: Path | None) -> tuple[int, int, int] | None:
    try:
        state = path.stat() if path else None
    except OSError:
        return None
    return (state.st_ino, state.st_size, state.st_mtime_ns) if state else None


async def _close(*sessions: aiohttp.ClientSession | None, after_s: float = 0.0) -> None:
    try:
        await asyncio.sleep(after_s)
    finally:
        for session in sessions:
            if session is not None:
                await session.close()


async def _note_reuse(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: Any) -> None:
    context.trace_request_ctx.reused = True


class OpaEngine:
    """Asks one OPA for one decision.

    `settings.timeout_s` covers the whole call, the retry included. After failures in a row the breaker opens and
    calls are refused at once, until a trial call gets an answer.
    """

    def __init__(self, settings: PolicySettings, *, breaker: Breaker | None = None) -> None:
        try:
            self._client = _Client(settings)
        except (OSError, ssl.SSLError):
            raise SettingsError(
                "policy.ca_file is not a readable PEM bundle; name the one that OPA's chain ends in"
            ) from None
        self._url = f"{self._client.root_url}/data/{settings.path}?provenance=true"
        self._timeout_s = settings.timeout_s
        self._breaker = breaker or Breaker()
        self._healthy = False
        self._revision = UNVERSIONED
        self._health: asyncio.Task[None] | None = None

    @property
    def revision(self) -> str:
        """Return the revisions of OPA's bundles as of the last answer; `opa:unversioned` where it has none."""
        return self._revision

    @property
    def ready(self) -> bool:
        """Tell whether OPA last said that it is up with its bundles active, and the breaker is closed."""
        return self._healthy and self._breaker.closed

    async def start(self) -> None:
        """Open the connections and ask for OPA's health, again every second until `stop`."""
        await self._client._init_session()
        await self._look()
        self._health = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """End watching and close the connections."""
        if self._health is not None:
            self._health.cancel()
            await asyncio.gather(self._health, return_exceptions=True)
            self._health = None
        self._healthy = False
        await self._client.close_connection()

    async def decide(self, question: str) -> Any:
        """Return the raw decision, None where it is undefined.

        Raises GateError: POLICY_TIMEOUT; POLICY_UNAVAILABLE for a connection that fails, an open breaker, and
        429, 502, 503 and 504; POLICY_ERROR for every other answer that is no decision.
        """
        body = f'{{"input":{question}}}'.encode()
        if not self._breaker.permit():
            raise GateError(Reason.POLICY_UNAVAILABLE, "the breaker is open")
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._ask(body)
        except TimeoutError:
            self._breaker.failed()
            raise GateError(Reason.POLICY_TIMEOUT) from None
        except aiohttp.ClientError as error:
            self._breaker.failed()
            raise GateError(Reason.POLICY_UNAVAILABLE, type(error).__name__) from None
        except _EvaluationError as error:
            # The caller's doing, perhaps: it must not open the breaker for everyone.
            self._breaker.succeeded()
            raise GateError(Reason.POLICY_ERROR, str(error)) from None
        except GateError:
            self._breaker.failed()
            raise
        except BaseException:
            self._breaker.abandoned()
            raise
        self._breaker.succeeded()
        self._revision = _revision(answer.get("provenance"))
        return answer.get("result")

    async def _ask(self, body: bytes) -> dict[str, Any]:
        headers = {"content-type": "application/json"}
        async with self._client._request("POST", self._url, data=body, headers=headers) as response:
            raw = await _read(response)
            answer = _parse(raw)
            if response.status == 200 and answer is not None:
                return answer
            _raise_evaluation(answer)
            busy = response.status in {429, 502, 503, 504}
            what = f"status {response.status}" if response.status != 200 else "the answer is not strict JSON"
            raise GateError(Reason.POLICY_UNAVAILABLE if busy else Reason.POLICY_ERROR, what)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(HEALTH_S)
            await self._look()

    async def _look(self) -> None:
        await self._client.renew()
        healthy = bool(await self._client.check_health({"bundles": "true"}))
        if healthy != self._healthy:
            log.info("opa_health", healthy=healthy)
        self._healthy = healthy


class _EvaluationError(Exception):
    """OPA evaluated the policy and it failed; the text is OPA's error code."""


async def _read(response: aiohttp.ClientResponse) -> bytes:
    if "content-encoding" in response.headers:
        raise GateError(Reason.POLICY_ERROR, "the answer is encoded")
    raw = bytearray()
    async for chunk in response.content.iter_any():
        raw += chunk
        if len(raw) > ANSWER_BYTES:
            raise GateError(Reason.POLICY_ERROR, f"the answer is larger than {ANSWER_BYTES} bytes")
    return bytes(raw)


def _parse(raw: bytes) -> dict[str, Any] | None:
    try:
        answer = json.loads(raw.decode("utf-8"), object_pairs_hook=_members, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _raise_evaluation(answer: dict[str, Any] | None) -> None:
    errors = answer.get("errors") if answer else None
    for error in errors if isinstance(errors, list) else ():
        code = error.get("code") if isinstance(error, dict) else None
        if isinstance(code, str) and code.startswith("eval_") and code.isidentifier() and len(code) <= 64:
            raise _EvaluationError(code)


def _revision(provenance: Any) -> str:
    bundles = provenance.get("bundles") if isinstance(provenance, dict) else None
    if not isinstance(bundles, dict):
        return UNVERSIONED
    named = {name: bundle.get("revision") for name, bundle in bundles.items() if isinstance(bundle, dict)}
    known = [f"{name}:{revision}" for name, revision in sorted(named.items()) if isinstance(revision, str)]
    text = "opa:" + ",".join(known)
    return text[:256] if known and text.isprintable() else UNVERSIONED
