"""The demo's stage: a gate in front of the BM25 reranker, with the development issuer, all on this machine."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankgate.clients.embedded import Stack
from rankgate.clients.processes import Child
from rankgate.clients.state import StateDirectory, merged
from rankgate.console.keys import make_keys
from rankgate.demo.footprint import resident_mib
from rankgate.demo.issuer import DevIssuer
from rankgate.demo.logins import DEMO_PEOPLE
from rankgate.demo.people import OWNER, People, console
from rankgate.demo.reranker import DemoReranker

__all__ = ["AUDIENCE", "DOCUMENT_LIMIT", "Stage", "stage"]

AUDIENCE = "rerank"
DOCUMENT_LIMIT = 20


@dataclass(frozen=True, slots=True)
class Stage:
    """What the story is told with. `upstream_key` is the reranker's, which no caller ever holds."""

    stack: Stack
    people: People
    console: Child
    issuer: DevIssuer
    reranker: DemoReranker
    upstream_key: str

    def token(self, subject: str, *, tenant: str, groups: tuple[str, ...], audience: str = AUDIENCE) -> str:
        """Return an access token of a machine, good for one hour."""
        claims = {"sub": subject, "aud": audience, "tenant": tenant, "groups": list(groups), "scope": "rerank"}
        return self.issuer.mint(**claims)

    def memory(self) -> dict[str, float]:
        """Return the resident memory of each process, in MiB; this one holds the issuer and the reranker."""
        pids = {child.name: child.pid for child in (*self.stack.children, self.console)}
        pids |= {"issuer and reranker": os.getpid()}
        sizes = {name: resident_mib(pid) for name, pid in pids.items()}
        return {name: size for name, size in sizes.items() if size is not None}


@contextlib.asynccontextmanager
async def stage(state: StateDirectory) -> AsyncIterator[Stage]:
    """Start everything in the folder `state` (locked by the caller); all of it has ended when this returns.

    Raises StartError naming the part that did not start.
    """
    issuer, key = DevIssuer(people=DEMO_PEOPLE, lifetime_s=3600), secrets.token_urlsafe(24)
    reranker = DemoReranker(key=key)
    async with contextlib.AsyncExitStack() as cleanup:
        cleanup.push_async_callback(issuer.stop)
        await issuer.start()
        cleanup.push_async_callback(reranker.stop)
        await reranker.start()
        keys = make_keys(state.path / "keys")
        own = _settings(issuer, reranker, state.write_secret("upstream.key", key.encode()))
        defaults = state.defaults()
        own["approvals"] = {
            "redis_url": defaults["audit"]["redis_url"],
            "vote_keys": [keys.public],
            "preview_recipient": keys.recipient,
            "owners": [{"subject": "fraud-svc", "people": [OWNER]}],
        }
        settings = state.write_settings(merged(defaults, own))
        stack = await cleanup.enter_async_context(Stack(settings, state.path / "run"))
        redis_url = str(stack.settings.audit.redis_url)
        people, child = await cleanup.enter_async_context(console(state, keys, issuer, redis_url))
        yield Stage(stack, people, child, issuer, reranker, key)


def _settings(issuer: DevIssuer, reranker: DemoReranker, key_file: Path) -> dict[str, Any]:
    claims = {"tenant": "tenant"}
    return {
        "deployment": "demo",
        "listen": {"port": 0},
        "upstream": {"url": reranker.url},
        "issuers": [{"issuer": issuer.url, "audiences": [AUDIENCE], "insecure_http": True, "claims": claims}],
        "limits": {"documents": DOCUMENT_LIMIT},
        "credentials": {"broker": "file", "file": key_file},
    }
