"""A caller of the rerank API: plain HTTP, one call at a time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Self

import aiohttp

__all__ = ["Answer", "Caller", "on_one_line"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: status, headers (lower case) and the exact body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Return the body, parsed; None where it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class Caller:
    """Sends JSON to `base`. A context manager that closes its connections."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10), trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    async def post(self, path: str, body: Any, token: str | None = None, **headers: str) -> Answer:
        """Send `body` to `path`, with `token` as bearer where there is one. Raises aiohttp.ClientError.

        `headers` are more of them, with `_` for `-` in their names.
        """
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            sent["authorization"] = f"Bearer {token}"
        async with self._http.post(self._base + path, json=body, headers=sent, allow_redirects=False) as answer:
            received = {name.lower(): value for name, value in answer.headers.items()}
            return Answer(answer.status, received, await answer.read())


def on_one_line(body: Any) -> str:
    """Return a JSON body, parsed or as bytes, as text on one line."""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False)
    return " ".join(text.split())
