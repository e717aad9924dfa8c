"""The people of the demo: a console of their own, and what they see and decide through its API."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from rankgate.clients.embedded import child_environment
from rankgate.clients.processes import Child
from rankgate.clients.state import StateDirectory
from rankgate.console.keys import KeyFiles
from rankgate.demo.issuer import DevIssuer
from rankgate.demo.logins import DEMO_PEOPLE
from rankgate.settings.text import to_toml

__all__ = ["APPROVER", "OWNER", "People", "console"]

AUDIENCE = "approvals"
APPROVER = "ada"
OWNER = "finn"
READY_S = 20.0
STOP_S = 5.0
PATIENCE_S = 5.0


class People:
    """Speaks to the console's API as whoever is named."""

    def __init__(self, url: str, issuer: DevIssuer, http: aiohttp.ClientSession) -> None:
        self.url = url
        self._issuer = issuer
        self._http = http

    def token(self, name: str) -> str:
        """Return an access token for the API of a person who logged in just now."""
        person = next(person for person in DEMO_PEOPLE if person.name == name)
        return self._issuer.mint(**person.claims(int(time.time())), aud=AUDIENCE, client_id="rankgate-cli")

    async def call(self, method: str, path: str, token: str, body: Any = None) -> tuple[int, Any]:
        """Return status and parsed answer of one call of the API."""
        headers = {"authorization": f"Bearer {token}"}
        async with self._http.request(method, f"{self.url}/api/v1{path}", json=body, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)

    async def waiting(self, name: str) -> dict[str, Any]:
        """Return the approval that waits for `name`, as the console shows it, once there is one; {} for none."""
        token = self.token(name)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    _, listed = await self.call("GET", "/approvals?state=pending", token)
                    if listed["approvals"]:
                        _, shown = await self.call("GET", f"/approvals/{listed['approvals'][0]['id']}", token)
                        return dict(shown)
                    await asyncio.sleep(0.02)
        return {}

    async def approve(self, name: str, shown: dict[str, Any], reason: str) -> int:
        """Let `name` agree to what is shown; return the status."""
        body = {"record": shown["record"], "reason": reason}
        status, _ = await self.call("POST", f"/approvals/{shown['id']}/approve", self.token(name), body)
        return status


@contextlib.asynccontextmanager
async def console(
    state: StateDirectory, keys: KeyFiles, issuer: DevIssuer, redis_url: str
) -> AsyncIterator[tuple[People, Child]]:
    """Run a console in the folder `state`; raises StartError where it does not start."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    settings = state.path / "console.toml"
    settings.write_text(
        to_toml(
            {
                "deployment": "demo",
                "public_url": url,
                "listen": {"port": port},
                "vote_key_file": keys.private,
                "preview_key_file": keys.preview,
                "state": {"redis_url": redis_url},
                "audit": {"redis_url": redis_url},
                "journal": {"directory": state.path / "journal"},
                "roles": {"operate": ["platform"]},
                "login": {"issuer": issuer.url, "client_id": "console", "audience": AUDIENCE, "insecure_http": True},
            }
        ),
        encoding="utf-8",
    )
    command: list[str | Path] = [sys.executable, "-m", "rankgate.cli", "console", "--config", settings]
    log = state.path / "run" / "console.log"
    child = await Child.start("console", command, log=log, environment=child_environment())
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5), trust_env=False) as http:
        people = People(url, issuer, http)

        async def ready() -> bool:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with http.get(f"{url}/readyz") as answer:
                    return answer.status == 200
            return False

        try:
            await child.until(ready, within_s=READY_S)
            yield people, child
        finally:
            await child.stop(grace_s=STOP_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
