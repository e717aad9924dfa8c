"""What `rankgate up` tells while it runs: who is not there at the start, and a policy that does not load."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from urllib.parse import SplitResult, urlsplit

from rankgate.clients.processes import Child
from rankgate.settings import Settings

__all__ = ["absent", "denies_everybody", "reloads"]

LOOK_S = 1.0
POLL_S = 0.5
_PORTS = {"http": 80, "https": 443}


async def absent(settings: Settings) -> list[str]:
    """Return one line for the reranker, each issuer and OPA that takes no connection within a second.

    None of them keeps a gate from starting: they may come later.
    """
    wanted = list(_neighbours(settings))
    answers = await asyncio.gather(*(_accepts(urlsplit(url)) for _, url, _ in wanted))
    return [
        f"{who} {url} cannot be reached; {until}"
        for (who, url, until), there in zip(wanted, answers, strict=True)
        if not there
    ]


def denies_everybody(settings: Settings) -> bool:
    """Tell whether the shipped policy decides, which knows only the clients of its example."""
    return settings.policy.engine == "embedded" and settings.policy.directory is None


async def reloads(child: Child, tell: Callable[[str], object]) -> None:
    """Follow the log of the filter `child` and tell of every policy that was loaded again, or was not."""
    position = None
    while True:
        with contextlib.suppress(OSError):
            text, position = child.written(position)
            for line in text.splitlines():
                if told := _reload(line):
                    tell(told)
        await asyncio.sleep(POLL_S)


def _neighbours(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Yield who, the URL, and what happens until it answers."""
    yield "the reranker", settings.upstream.url, "allowed calls end with 502 or 503 until it answers"
    for issuer in settings.issuers:
        if issuer.preset == "oidc":
            yield "the issuer", issuer.jwks_uri or issuer.issuer, "its tokens are refused until its keys were fetched"
    if settings.policy.url:
        yield "OPA", settings.policy.url, "every call is refused until it answers"


async def _accepts(url: SplitResult) -> bool:
    try:
        async with asyncio.timeout(LOOK_S):
            if url.scheme == "unix":
                _, writer = await asyncio.open_unix_connection(url.path)
            else:
                _, writer = await asyncio.open_connection(url.hostname, url.port or _PORTS[url.scheme])
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def _reload(line: str) -> str:
    """Return what a line of the filter's log says of the policy, nothing where it is about something else."""
    try:
        entry = json.loads(line)
    except ValueError:
        return ""
    match entry:
        case {"event": "policy_reload_failed" | "policy_watch_failed", "fault": str(fault)}:
            return f"policy not reloaded: {fault}; the old one stays"
        case {"event": "policy_reloaded", "revision": str(revision)}:
            return f"policy reloaded: {revision}"
    return ""
