"""What stands around every route: the name we are called by, who asks, and that they mean it.

Pure ASGI, so that nothing behind it is reached by a request that is refused. A cookie says who asks at a page and
nowhere else; a bearer token says it at the API and nowhere else. Every answer carries the same headers, also a
refusal, and no answer tells more about a fault than that there was one.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs, urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rankgate.console.answers import sign_in, told
from rankgate.console.pace import Pace
from rankgate.console.people import Person
from rankgate.console.refusals import Refusal, RefusedError
from rankgate.console.sessions import Sessions
from rankgate.console.settings import ConsoleSettings
from rankgate.console.site import API, CSRF_FIELD, LIVE, PUBLIC

__all__ = ["ByToken", "Guard", "origin_of"]

log = structlog.get_logger(__name__)

BODY_BYTES = 65_536
BODY_S = 10.0
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_FORM = "application/x-www-form-urlencoded"
_PROBES = frozenset({"/livez", "/readyz"})
_STATUS = {404: Refusal.NOT_FOUND, 405: Refusal.METHOD_REFUSED, 413: Refusal.TOO_LARGE}

ByToken = Callable[[list[bytes]], Awaitable[Person]]
"""The Authorization header's values -> who they name; raises RefusedError."""


class Guard:
    """Wraps the routes. `leaves_for` are further origins that a form may lead to: the issuer's, at logout.

    `pace` limits how often one person changes something.
    """

    def __init__(
        self, app: ASGIApp, *, settings: ConsoleSettings, sessions: Sessions, by_token: ByToken,
        leaves_for: Callable[[], str] = lambda: "",
        pace: Pace,
    ) -> None:  # fmt: skip
        self._app = app
        self._settings = settings
        self._sessions = sessions
        self._by_token = by_token
        self._leaves_for = leaves_for
        self._pace = pace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; never raises."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        began, status = time.monotonic(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._dress(scope["path"], bool(scope["query_string"]), MutableHeaders(scope=message))
            await send(message)

        request = Request(scope, receive)
        try:
            await self._guarded(request, receive, sending)
        except (RefusedError, HTTPException) as error:
            await self._refuse(request, receive, sending, _refusal(error), started=bool(status))
        except Exception as error:  # noqa: BLE001  # the text may quote the request: only its kind is written
            log.error("request_failed", path=_shape(scope["path"]), error=type(error).__name__)  # noqa: TRY400
            await self._refuse(request, receive, sending, Refusal.INTERNAL, started=bool(status))
        finally:
            if scope["path"] not in _PROBES:
                took_ms = round(1000 * (time.monotonic() - began), 1)
                log.info("request", method=scope["method"], path=_shape(scope["path"]), status=status, ms=took_ms)

    async def _guarded(self, request: Request, receive: Receive, send: Send) -> None:
        path, unsafe = request.url.path, request.method not in _SAFE
        # Probes come by address, not by name, and are told nothing but yes or no.
        if path not in _PROBES:
            self._named(request)
        at_api = _below(path, API)
        person: Person | None = None
        if not _is_public(path):
            if at_api:
                person = await self._by_token(_values(request.headers, "authorization"))
            else:
                person = self._sessions.person(request, idle=_is_by_itself(request))
        if unsafe:
            self._from_here(request, at_api=at_api)
            if person is not None and not self._pace.allows(person.voter.person):
                raise RefusedError(Refusal.RATE_LIMITED)
            body = await _whole(request)
            if not at_api:
                _meant(request, body, person)
            receive = _again(body, receive)
        if person is None and not _is_public(path):
            response = sign_in(request)
            await response(request.scope, receive, send)
            return
        request.scope.setdefault("state", {})["person"] = person
        await self._app(request.scope, receive, send)

    def _named(self, request: Request) -> None:
        """Refuse other names than ours: a page that is reached under a foreign one is in that one's origin."""
        if [value.lower() for value in _values(request.headers, "host")] != [self._settings.host.encode()]:
            raise RefusedError(Refusal.HOST_UNKNOWN)

    def _from_here(self, request: Request, *, at_api: bool) -> None:
        """Refuse what another site sent (Fetch Metadata, RFC 6454). Programs at the API send neither header."""
        site = request.headers.get("sec-fetch-site")
        origins = _values(request.headers, "origin")
        ours = origins == [self._settings.origin.encode()]
        # Under `Referrer-Policy: no-referrer` a browser writes `null` into its own forms' Origin.
        own_form = origins in ([], [b"null"]) and site == "same-origin"
        nothing_said = at_api and site is None and not origins
        if site not in {None, "same-origin"} or not (ours or own_form or nothing_said):
            raise RefusedError(Refusal.ORIGIN_REFUSED)

    async def _refuse(self, request: Request, receive: Receive, send: Send, refusal: Refusal, *, started: bool) -> None:
        # Of an answer that has begun nothing can be taken back; the server ends the connection.
        if not started:
            response = told(request, refusal, self._settings.vote_fresh_s)
            await response(request.scope, receive, send)

    def _dress(self, path: str, versioned: bool, headers: MutableHeaders) -> None:
        away = self._leaves_for()
        headers["content-security-policy"] = (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
            f"form-action 'self'{' ' + away if away else ''}; base-uri 'none'; frame-ancestors 'none'"
        )
        headers["x-content-type-options"] = "nosniff"
        headers["x-frame-options"] = "DENY"
        headers["referrer-policy"] = "no-referrer"
        headers["cross-origin-opener-policy"] = "same-origin"
        headers["cross-origin-resource-policy"] = "same-origin"
        headers["permissions-policy"] = "camera=(), geolocation=(), microphone=(), payment=(), usb=()"
        # A file's address changes with the file.
        lasting = path.startswith("/static/") and versioned
        headers["cache-control"] = "public, max-age=31536000, immutable" if lasting else "no-store"
        if self._settings.scheme == "https":
            headers["strict-transport-security"] = "max-age=31536000"


def _meant(request: Request, body: bytes, person: Person | None) -> None:
    """Refuse a form that does not bring back its session's token."""
    if person is None:
        return
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise RefusedError(Refusal.TYPE_REFUSED)
    try:
        given = parse_qs(body.decode("ascii"), max_num_fields=32).get(CSRF_FIELD, [])
    except ValueError:
        raise RefusedError(Refusal.INPUT_INVALID) from None
    if len(given) != 1 or not person.csrf or not hmac.compare_digest(given[0].encode(), person.csrf.encode()):
        raise RefusedError(Refusal.FORM_STALE)


async def _whole(request: Request) -> bytes:
    body = bytearray()
    if not request.headers.get("content-length", "0").isdecimal():
        raise RefusedError(Refusal.INPUT_INVALID)
    if int(request.headers.get("content-length", "0")[:12]) > BODY_BYTES:
        raise RefusedError(Refusal.TOO_LARGE)
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > BODY_BYTES:
                    raise RefusedError(Refusal.TOO_LARGE)
    except TimeoutError:
        raise RefusedError(Refusal.TOO_SLOW) from None
    return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a channel that gives a body that was read once more, and then whatever else comes."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return left.pop() if left else await receive()

    return replay


def _refusal(error: RefusedError | HTTPException) -> Refusal:
    if isinstance(error, RefusedError):
        return error.refusal
    return _STATUS.get(error.status_code, Refusal.INPUT_INVALID)


def _values(headers: Headers, name: str) -> list[bytes]:
    wanted = name.encode("ascii")
    return [value for given, value in headers.raw if given == wanted]


def _below(path: str, parent: str) -> bool:
    return path == parent or path.startswith(f"{parent}/")


def _is_by_itself(request: Request) -> bool:
    """Tell whether a page that is open asks, not a person: for its feed, or through htmx for what the feed told."""
    return request.url.path == LIVE or request.headers.get("hx-request") == "true"


def _is_public(path: str) -> bool:
    return any(path == one or (one.endswith("/") and path.startswith(one)) for one in PUBLIC)


def _shape(path: str) -> str:
    """Return a path for the log: short, and nothing in it that a terminal obeys. Queries are never written."""
    return path[:200] if path.isascii() and path.isprintable() else "(unprintable)"


def origin_of(url: str | None) -> str:
    """Return the origin of `url` as a policy names it; empty for None."""
    if url is None:
        return ""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
