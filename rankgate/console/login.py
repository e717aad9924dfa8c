"""Logging in: OpenID Connect's code flow with PKCE (OIDC Core 1.0 section 3.1, RFC 9700), and logging out.

What begins is bound to the browser by a sealed cookie; what comes back is believed only with its state, from the
right issuer (RFC 9207), for its own nonce. Why a login failed is in the journal, as a word; people read one text.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from rankgate.bearer import read
from rankgate.clients.openid import Metadata, OpenId
from rankgate.console.desk import Book
from rankgate.console.idtoken import verified
from rankgate.console.naming import person_from, strong_enough
from rankgate.console.pace import Pace
from rankgate.console.refusals import Refusal, RefusedError
from rankgate.console.sessions import Pending, Sessions
from rankgate.console.settings import ConsoleSettings
from rankgate.console.site import LOGGED_OUT, person_of
from rankgate.errors import GateError, Reason
from rankgate.identity import UnknownKeyError
from rankgate.keyset import KeySource

__all__ = ["Login"]

log = structlog.get_logger(__name__)

ANSWER_CHARS = 4096
NEXT_CHARS = 1024


class Login:
    """The three routes of a login. `clock` is the wall clock, in seconds since the epoch."""

    def __init__(
        self, settings: ConsoleSettings, openid: OpenId, keys: KeySource, sessions: Sessions, journal: Book,
        *, clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._openid = openid
        self._keys = keys
        self._sessions = sessions
        self._journal = journal
        self._clock = clock
        self._pace = Pace(30, 60)
        # An entry takes some 700 bytes: a megabyte a day at the most, which fills no journal.
        self._refusals = Pace(60, 3600)

    async def begin(self, request: Request) -> Response:
        """Send the browser to the issuer; `?again=1` asks for the password anew."""
        pending = Pending.begin(_path(request.query_params.get("next", "/")))
        again = request.query_params.get("again") == "1"
        extra = {"prompt": "login", "max_age": "0"} if again else {"max_age": str(self._settings.session_s)}
        login = self._settings.login
        if login.acr_values:
            extra["acr_values"] = " ".join(login.acr_values)
        metadata = await self._metadata()
        url = self._openid.authorization_url(
            metadata, login.scopes, state=pending.state, nonce=pending.nonce, verifier=pending.verifier, **extra
        )
        response = RedirectResponse(url, 303)
        self._sessions.hold(response, pending)
        return response

    async def finish(self, request: Request) -> Response:
        """Take the issuer's answer, and begin a session under a new name."""
        try:
            pending, claims = await self._answered(request)
            person = person_from(claims, self._settings.login, self._settings.roles)
        except GateError as error:
            await self._note(error.detail)
            unavailable = error.reason is Reason.KEYS_UNAVAILABLE
            raise RefusedError(Refusal.ISSUER_UNAVAILABLE if unavailable else Refusal.LOGIN_FAILED) from None
        except RefusedError as error:
            await self._note(error.refusal.value)
            raise
        await self._journal.write(
            "login", person.voter.person, subject=person.voter.subject, names=" ".join(person.voter.names),
            authenticated_ms=person.logged_in_ms,
        )  # fmt: skip
        response = RedirectResponse(pending.next, 303)
        self._sessions.begin(request, response, person)
        return response

    async def logout(self, request: Request) -> Response:
        """End the session, whatever else fails, and let the issuer end its own where it offers that."""
        response = RedirectResponse(LOGGED_OUT, 303)
        self._sessions.end(request, response)
        person = person_of(request)
        await self._journal.write("logout", person.voter.person)
        try:
            metadata = await self._openid.metadata()
        except GateError:
            return response
        if metadata.end_session is not None:
            # By the client's name alone: an ID token as a hint would end up in histories and access logs.
            back = {"client_id": self._settings.login.client_id, "post_logout_redirect_uri": self._origin(LOGGED_OUT)}
            joint = "&" if "?" in metadata.end_session else "?"
            response.headers["location"] = f"{metadata.end_session}{joint}{urlencode(back)}"
        return response

    async def _answered(self, request: Request) -> tuple[Pending, dict[str, Any]]:
        pending, query = self._sessions.held(request), request.query_params
        if pending is None:
            raise _failed("no login under way")
        if len(request.url.query) > ANSWER_CHARS or any(len(query.getlist(name)) > 1 for name in query):
            raise _failed("answer")
        if not hmac.compare_digest(query.get("state", "").encode(), pending.state.encode()):
            raise _failed("state")
        metadata = await self._openid.metadata()
        if (
            query.get("iss", "" if metadata.names_itself else self._settings.login.issuer)
            != self._settings.login.issuer
        ):
            raise _failed("issuer")
        code = query.get("code", "")
        if "error" in query or not code:
            raise _failed("refused by the issuer")
        # Here, where it costs the issuer something: behind a proxy all people have one address, and what costs nothing
        # must not keep the others out.
        if not self._pace.allows(request.client.host if request.client else ""):
            raise RefusedError(Refusal.RATE_LIMITED)
        tokens = await self._openid.redeem(code, pending.verifier)
        claims = await self._verified(tokens.id_token, tokens.access_token, pending.nonce)
        login = self._settings.login
        if not strong_enough(claims, login):
            raise _failed("acr")
        if login.userinfo:
            said = await self._openid.userinfo(tokens.access_token)
            # OIDC Core 1.0 section 5.3.4: about the same subject, or about nobody we know.
            if said.get("sub") != claims["sub"]:
                raise _failed("userinfo subject")
            claims = said | claims
        return pending, claims

    async def _verified(self, id_token: str, access_token: str, nonce: str) -> dict[str, Any]:
        token = read(id_token)

        def judged() -> dict[str, Any]:
            keys, login = self._keys.current(), self._settings.login
            return verified(token, keys, login, nonce=nonce, access_token=access_token, now=self._clock())

        try:
            return judged()
        except UnknownKeyError:
            await self._keys.seek(token.key_id or "")
            return judged()

    async def _metadata(self) -> Metadata:
        try:
            return await self._openid.metadata()
        except GateError:
            raise RefusedError(Refusal.ISSUER_UNAVAILABLE) from None

    async def _note(self, why: str) -> None:
        """Journal a refused login; not without end: anybody can fail to log in, and nobody may fill the disk by it."""
        if self._refusals.allows(""):
            await self._journal.write("login_refused", "", why=why)
        else:
            log.warning("login_refused", why=why)

    def _origin(self, path: str) -> str:
        return f"{self._settings.origin}{path}"


def _path(given: str) -> str:
    """Return where to go after a login: a path of ours, never another site."""
    own = given.startswith("/") and not given.startswith(("//", "/login")) and given.isascii() and given.isprintable()
    return given if own and "\\" not in given and len(given) <= NEXT_CHARS else "/"


def _failed(why: str) -> GateError:
    return GateError(Reason.TOKEN_INVALID, why)
