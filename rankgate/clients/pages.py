"""The pages of a filter process: `/livez`, `/readyz`, `/metrics`, and documents that a part of it publishes.

Imported where a port is set: aiohttp takes 10 MB.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from rankgate.clients.probes import Health
from rankgate.errors import GateError, SettingsError

__all__ = ["PUBLISHED_S", "serve"]

# How long a reader of a published document may keep it, in seconds.
PUBLISHED_S = 60


@contextlib.asynccontextmanager
async def serve(
    health: Health,
    registry: CollectorRegistry,
    address: str,
    port: int,
    published: Mapping[str, Callable[[], str]],
) -> AsyncIterator[int]:
    """Serve the pages, and hold the port they are on: `port`, or any free one where it is 0.

    `published` makes JSON documents by path, anew for each request; one that raises GateError answers 503.
    Raises SettingsError where the port cannot be had.
    """
    pages = _Pages(health, registry)
    app = web.Application(client_max_size=1)
    app.router.add_get("/livez", pages.live)
    app.router.add_get("/readyz", pages.ready)
    app.router.add_get("/metrics", pages.metrics)
    for path, document in published.items():
        app.router.add_get(path, partial(_published, document))
    app.on_response_prepare.append(_unnamed)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, address, port)
        try:
            await site.start()
        except OSError as error:
            why = error.strerror or "no such address"
            raise SettingsError(f"health: port {port} cannot be had on {address}: {why}; set another") from None
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


class _Pages:
    def __init__(self, health: Health, registry: CollectorRegistry) -> None:
        self._health = health
        self._registry = registry

    async def live(self, _: web.Request) -> web.Response:
        return _json(self._health.alive, {"alive": self._health.alive})

    async def ready(self, _: web.Request) -> web.Response:
        health = self._health
        return _json(health.ready, {"ready": health.ready, "draining": health.draining, "parts": dict(health.parts)})

    async def metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"content-type": CONTENT_TYPE_LATEST})


async def _published(document: Callable[[], str], _: web.Request) -> web.Response:
    try:
        text = document()
    except GateError as error:
        return _json(False, {"reason": error.reason.value})
    # Readers that keep it for longer would not know a new key when it begins to sign.
    headers = {"cache-control": f"max-age={PUBLISHED_S}"}
    return web.Response(text=text, content_type="application/json", headers=headers)


def _json(good: bool, value: dict[str, Any]) -> web.Response:
    return web.Response(status=200 if good else 503, text=json.dumps(value), content_type="application/json")


async def _unnamed(_: web.Request, response: web.StreamResponse) -> None:
    """Tell nobody which server this is."""
    response.headers["server"] = "rankgate"
