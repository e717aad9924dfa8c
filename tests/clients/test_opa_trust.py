"""Whom OPA's engine trusts follows the bundle, without a restart and without trusting the old one any longer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from certificates import Identity, identity
from fakes.opa_server import free_port
from fakes.waiting import until

from rankgate.clients import opa
from rankgate.clients.opa import OpaEngine
from rankgate.errors import GateError
from rankgate.settings import PolicySettings


@asynccontextmanager
async def serving(port: int, one: Identity) -> AsyncIterator[None]:
    async def decide(_: web.Request) -> web.Response:
        return web.json_response({"result": True})

    async def health(_: web.Request) -> web.Response:
        return web.json_response({})

    app = web.Application()
    app.router.add_get("/health", health)
    app.router.add_post("/v1/data/{path:.*}", decide)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=one.server(), reuse_address=True).start()
    try:
        yield
    finally:
        await runner.cleanup()


def swap(mount: Path, text: bytes, version: int) -> None:
    """Replace the bundle as Kubernetes does: a new folder, and the link `..data` renamed over."""
    (mount / f"..{version}").mkdir()
    (mount / f"..{version}" / "ca.pem").write_bytes(text)
    (mount / "..data_tmp").symlink_to(f"..{version}")
    (mount / "..data_tmp").rename(mount / "..data")


async def test_a_replaced_bundle_is_trusted_and_the_old_one_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opa, "HEALTH_S", 0.05)
    old, new = identity(tmp_path / "old", "127.0.0.1"), identity(tmp_path / "new", "127.0.0.1")
    mount = tmp_path / "mount"
    mount.mkdir()
    swap(mount, old.certificate.read_bytes(), 1)
    (mount / "ca.pem").symlink_to("..data/ca.pem")
    port = free_port()
    settings = {"engine": "opa", "url": f"https://127.0.0.1:{port}", "ca_file": mount / "ca.pem"}
    engine = OpaEngine(PolicySettings.model_validate(settings))
    await engine.start()
    try:
        async with serving(port, old):
            await until(lambda: engine.ready)
            assert await engine.decide("{}") is True
            swap(mount, b"no certificate", 2)
            assert await engine.decide("{}") is True
        async with serving(port, new):
            await until(lambda: not engine.ready)
            swap(mount, new.certificate.read_bytes(), 3)
            await until(lambda: engine.ready)
            assert await engine.decide("{}") is True
        async with serving(port, old):
            await until(lambda: not engine.ready)
            with pytest.raises(GateError):
                await engine.decide("{}")
    finally:
        await engine.stop()
