"""Sessions of people who logged in, and logins under way.

A session lives in this process alone; its cookie is a random name. It gets a new name at every login, so a name that
somebody planted is worth nothing, and ends when it is idle, when it is old, and at logout. A login under way lives in
a sealed cookie of its own: nobody can fill our memory by beginning logins.
"""

from __future__ import annotations

import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from cryptography.fernet import Fernet, InvalidToken
from starlette.requests import HTTPConnection
from starlette.responses import Response

from rankgate.console.people import Person

__all__ = ["Pending", "Sessions"]

SESSIONS = 10_000
LOGIN_S = 600
_BYTES = 32


@dataclass(frozen=True, slots=True)
class Pending:
    """A login under way: what its answer must bring back, and where it then goes."""

    state: str
    nonce: str
    verifier: str
    next: str

    @classmethod
    def begin(cls, next_path: str) -> Pending:
        """Return a fresh one."""
        state, nonce, verifier = (secrets.token_urlsafe(_BYTES) for _ in range(3))
        return cls(state, nonce, verifier, next_path)


@dataclass(slots=True)
class _Session:
    person: Person
    begun: float
    seen: float


class Sessions:
    """Everybody who is logged in. `secure` is for https, where cookies bear the `__Host-` prefix.

    `clock` is monotonic, in seconds.
    """

    def __init__(
        self, *, secure: bool, longest_s: int, idle_s: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        prefix = "__Host-" if secure else ""
        self._secure = secure
        self._cookie = f"{prefix}rankgate"
        self._login_cookie = f"{prefix}rankgate-login"
        self._longest_s = longest_s
        self._idle_s = idle_s
        self._clock = clock
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._sealer = Fernet(Fernet.generate_key())

    def person(self, request: HTTPConnection, *, idle: bool = False) -> Person | None:
        """Return who the request's session belongs to, None where it has none that is alive.

        An `idle` request, which a browser sends by itself, does not keep the session alive.
        """
        name = request.cookies.get(self._cookie, "")
        session = self._sessions.get(name)
        if session is None:
            return None
        now = self._clock()
        if now - session.begun >= self._longest_s or now - session.seen >= self._idle_s:
            del self._sessions[name]
            return None
        if not idle:
            session.seen = now
            self._sessions.move_to_end(name)
        return session.person

    def begin(self, request: HTTPConnection, response: Response, person: Person) -> None:
        """Log `person` in under a new name; the session that the browser had ends."""
        self._sessions.pop(request.cookies.get(self._cookie, ""), None)
        name, now = secrets.token_urlsafe(_BYTES), self._clock()
        self._sessions[name] = _Session(replace(person, csrf=secrets.token_urlsafe(_BYTES)), now, now)
        while len(self._sessions) > SESSIONS:
            self._sessions.popitem(last=False)
        self._set(response, self._cookie, name, self._longest_s)
        self._unset(response, self._login_cookie)

    def end(self, request: HTTPConnection, response: Response) -> None:
        """Log out."""
        self._sessions.pop(request.cookies.get(self._cookie, ""), None)
        self._unset(response, self._cookie)

    def hold(self, response: Response, pending: Pending) -> None:
        """Let the browser keep a login under way, sealed."""
        sealed = self._sealer.encrypt(
            json.dumps([pending.state, pending.nonce, pending.verifier, pending.next]).encode()
        )
        self._set(response, self._login_cookie, sealed.decode("ascii"), LOGIN_S)

    def held(self, request: HTTPConnection) -> Pending | None:
        """Return the login under way; None where there is none, or it took too long."""
        try:
            sealed = request.cookies.get(self._login_cookie, "").encode("ascii")
            return Pending(*json.loads(self._sealer.decrypt(sealed, ttl=LOGIN_S)))
        except (InvalidToken, UnicodeEncodeError):
            return None

    def _set(self, response: Response, name: str, value: str, max_age: int) -> None:
        response.set_cookie(name, value, max_age=max_age, path="/", secure=self._secure, httponly=True, samesite="lax")

    def _unset(self, response: Response, name: str) -> None:
        response.delete_cookie(name, path="/", secure=self._secure, httponly=True, samesite="lax")
