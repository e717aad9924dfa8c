"""Chromium at a whole console: the real process, a real Redis, the certified provider, and what people do there."""

from __future__ import annotations

import asyncio
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fakes.desk_store import make_ask
from fakes.provider import running_provider
from playwright.async_api import Browser, Page, async_playwright

from rankgate.approvals import Ask, Caps, Opener, Preview, Sealer, Stored
from rankgate.clients.approvals import ApprovalStore
from rankgate.console.keys import make_keys
from rankgate.console.settings import load

__all__ = ["Standing", "approve_in_browser", "axe", "chromium", "deny_in_browser", "log_in", "standing"]

AXE = Path(__file__).parents[1] / "browser" / "node_modules" / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@dataclass
class Standing:
    """A console that runs at `origin`, and the store that gates share with it."""

    origin: str
    store: ApprovalStore
    sealer: Sealer
    count: int = 0

    async def ask(self, preview: Preview | None = None, *, ago_s: int = 0, **members: Any) -> Ask:
        """Open an approval as a gate would; return it."""
        ask = self.made(preview, ago_s, **members)
        joined = await self.store.join(ask, "00", Caps(1000, 1000))
        assert joined.stored is not None, joined
        return ask

    async def review(self, **members: Any) -> Ask:
        """Leave a review item, as a gate would of a call that broke the glass."""
        ask = self.made(None, 3600, **members)
        assert await self.store.open_review(ask, "00", 100, 3600)
        return ask

    async def read(self, ask: Ask) -> Stored:
        """Return what became of an approval."""
        stored = await self.store.read(ask.id)
        assert stored is not None
        return stored

    def made(self, preview: Preview | None, ago_s: int, **members: Any) -> Ask:
        """Return an ask of its own."""
        self.count += 1
        usual = {
            "preview": self.sealer.seal(preview or Preview("who is <PERSON>?", None, ((0, "about <PERSON>"),))),
            "use_digest": f"use {self.count}", "plan_digest": f"plan {self.count}",
            "canonical_digest": f"canonical {self.count}",
        }  # fmt: skip
        return make_ask(self.count, 1000 * (int(time.time()) - ago_s), **(usual | members))


@asynccontextmanager
async def standing(folder: Path, redis_url: str, trail_url: str = "") -> AsyncIterator[Standing]:
    """Yield a console in a process of its own, whose people log in at the certified provider."""
    port = _free_port()
    origin = f"http://127.0.0.1:{port}"
    async with running_provider(origin) as issuer:
        file = _settings(folder, issuer, redis_url, trail_url, port)
        identity = (folder / "keys" / "preview-key.txt").read_text(encoding="utf-8")
        store = ApprovalStore.connect(load(file).state, "default", 2_592_000)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "rankgate.cli", "console", "--config", str(file), stderr=asyncio.subprocess.DEVNULL
        )
        try:
            await _ready(origin, process)
            yield Standing(origin, store, Sealer(Opener(identity).recipient))
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            await store.close()


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Yield Debian's Chromium."""
    path = shutil.which("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


async def log_in(page: Page, login: str) -> None:
    """Sign in from whatever page of the console asks for it; comes back to the page that was asked for."""
    await page.get_by_role("link", name="Sign in").click()
    await page.get_by_label("Name").fill(login)
    await page.get_by_role("button", name="Log in").click()
    await page.get_by_role("button", name="Sign out").wait_for()


async def approve_in_browser(page: Page, url: str, login: str, reason: str) -> None:
    """Open the approval at `url`, sign in as `login` where asked, and approve it; returns when the vote is there."""
    await _decide(page, url, login, reason, "Approve")


async def deny_in_browser(page: Page, url: str, login: str, reason: str) -> None:
    """Open the approval at `url`, sign in as `login` where that is asked for, and deny it."""
    await _decide(page, url, login, reason, "Deny")


async def axe(page: Page) -> list[str]:
    """Return what axe-core finds wrong with a page, a line each."""
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(AXE.read_text(encoding="utf-8"))
    found = await page.evaluate("rules => axe.run(document, {runOnly: rules})", RULES)
    return [
        f"{one['impact']} {one['id']}: {node['html'][:120]}" for one in found["violations"] for node in one["nodes"]
    ]


async def _decide(page: Page, url: str, login: str, reason: str, button: str) -> None:
    await page.goto(url)
    if await page.get_by_role("link", name="Sign in").count():
        await log_in(page, login)
    await page.get_by_label("Reason", exact=True).fill(reason)
    await page.get_by_role("button", name=button, exact=True).click()
    await page.get_by_role("list", name="Votes").get_by_text(reason, exact=True).first.wait_for()


def _settings(folder: Path, issuer: str, redis_url: str, trail_url: str, port: int) -> Path:
    if not (folder / "keys").exists():
        make_keys(folder / "keys")
    (folder / "secret").write_text("console-secret\n", encoding="utf-8")
    trail = f'audit = {{ redis_url = "{trail_url}" }}' if trail_url else ""
    file = folder / "console.toml"
    text = f"""
public_url = "http://127.0.0.1:{port}"
vote_key_file = "{folder}/keys/vote-key.pem"
preview_key_file = "{folder}/keys/preview-key.txt"
listen = {{ port = {port} }}
state = {{ redis_url = "{redis_url}" }}
{trail}
journal = {{ directory = "{folder}/journal" }}
roles = {{ view = ["viewers"], operate = ["operators"] }}

[login]
issuer = "{issuer}"
client_id = "console"
client_secret_file = "{folder}/secret"
audience = "https://approvals.example"
insecure_http = true
"""
    file.write_text(text, encoding="utf-8")
    return file


async def _ready(origin: str, process: asyncio.subprocess.Process) -> None:
    async with httpx.AsyncClient(trust_env=False) as probe, asyncio.timeout(30):
        while True:
            try:
                if (await probe.get(f"{origin}/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                assert process.returncode is None, "the console did not start"
            await asyncio.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
