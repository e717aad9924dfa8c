"""The console as an ASGI application: the guard around the pages, the API and the login."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from rankgate.console import api, pages
from rankgate.console.guard import ByToken, Guard
from rankgate.console.login import Login
from rankgate.console.pace import Pace
from rankgate.console.sessions import Sessions
from rankgate.console.site import CALLBACK, LOGGED_OUT, LOGIN, LOGOUT, Site

__all__ = ["application"]


def application(
    site: Site, *, sessions: Sessions, login: Login, by_token: ByToken, ready: Callable[[], Awaitable[bool]],
    leaves_for: Callable[[], str] = lambda: "", seconds: Callable[[], float] = time.monotonic,
) -> Starlette:  # fmt: skip
    """Return the application. `ready` tells whether people can be served; `seconds` is a monotonic clock."""

    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok")

    async def readyz(_: Request) -> Response:
        good = await ready()
        return PlainTextResponse("ok" if good else "not ready", 200 if good else 503)

    async def left(request: Request) -> Response:
        return pages.signed_out_page(request)

    routes: list[BaseRoute] = [
        Route("/livez", livez, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
        Route(LOGIN, login.begin, methods=["GET"]),
        Route(CALLBACK, login.finish, methods=["GET"]),
        Route(LOGOUT, login.logout, methods=["POST"]),
        Route(LOGGED_OUT, left, methods=["GET"]),
        *api.routes(site, seconds),
        *pages.routes(site),
    ]
    guard = Middleware(
        Guard, settings=site.settings, sessions=sessions, by_token=by_token, leaves_for=leaves_for,
        pace=Pace(60, 60, seconds),
    )  # fmt: skip
    return Starlette(routes=routes, middleware=[guard], exception_handlers={HTTPException: _to_the_guard})


async def _to_the_guard(_: Request, error: Exception) -> Response:
    """Leave the answer to the guard, which gives every refusal the same form."""
    raise error
