"""What every route of the console is handed: the desk, the settings, and where things are."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from rankgate.console.desk import Desk
from rankgate.console.people import Person
from rankgate.console.refusals import Refusal, RefusedError
from rankgate.console.settings import ConsoleSettings

__all__ = [
    "API",
    "CALLBACK",
    "CSRF_FIELD",
    "LIVE",
    "LOGGED_OUT",
    "LOGIN",
    "LOGOUT",
    "OPENID",
    "PUBLIC",
    "Site",
    "person_of",
]

LOGIN = "/login"
"""GET begins a login; `?next=/path` is where it returns to, `?again=1` asks for the password anew."""
CALLBACK = "/login/callback"
LOGOUT = "/logout"
"""POST, with the form's token."""
LOGGED_OUT = "/logged-out"
API = "/api/v1"
"""Everything below takes bearer tokens, never a cookie."""
OPENID = "/api/v1/openid"
LIVE = "/live"
"""The feed that tells an open page when something changed."""
PUBLIC = (LOGIN, CALLBACK, LOGGED_OUT, OPENID, "/livez", "/readyz", "/static/")
"""What is served without a login: these paths, and everything below those that end in a slash."""
CSRF_FIELD = "csrf"
"""The name of the form field that holds `Person.csrf`; every form needs it, the guard checks it."""


@dataclass(frozen=True, slots=True)
class Site:
    """One console."""

    desk: Desk
    settings: ConsoleSettings


def person_of(request: Request) -> Person:
    """Return who is asking; raises RefusedError(LOGIN_REQUIRED). Pages get here only with a person."""
    person = getattr(request.state, "person", None)
    if not isinstance(person, Person):
        raise RefusedError(Refusal.LOGIN_REQUIRED)
    return person
