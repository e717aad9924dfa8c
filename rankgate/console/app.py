"""The console as an ASGI application: the guard around the pages and the API."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from starlette.applications import Starlette
from starlette.routing import BaseRoute

from rankgate.console.site import Site

__all__ = ["application"]


def application(site: Site) -> Starlette:
    """Return the application. Pages are there if this installation has them."""
    return Starlette(routes=list(_pages(site)))


def _pages(site: Site) -> Sequence[BaseRoute]:
    if find_spec("rankgate.console.pages") is None:
        return ()
    from rankgate.console import pages

    return list(pages.routes(site))
