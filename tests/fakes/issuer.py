"""The development issuer with everything a hostile or broken one does: odd tokens, odd key sets, odd answers."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from functools import cache
from typing import Any, Literal, Self

from aiohttp import web

from rankgate.demo.issuer import DevClient, DevIssuer, SigningKey
from rankgate.settings import IssuerSettings

__all__ = ["CLIENT", "FakeIssuer", "Fault", "b64", "signing_key"]

Fault = Literal["html", "500", "404", "redirect", "huge", "slow", "hang", "empty", "not json", "array", "gzip"]

CLIENT = DevClient("search", "test", tenant="acme", groups=("search", "eu"))


def signing_key(name: str, algorithm: Literal["RS256", "ES256"] = "RS256") -> SigningKey:
    """Return the same key for the same name and algorithm: making RSA keys is slow."""
    return _signing_key(name, algorithm)


@cache
def _signing_key(name: str, algorithm: Literal["RS256", "ES256"]) -> SigningKey:
    key = SigningKey(algorithm)
    key.id = key.public["kid"] = name
    return key


def b64(data: bytes | str) -> str:
    """Return unpadded base64url."""
    raw = data.encode() if isinstance(data, str) else data
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class FakeIssuer(DevIssuer):
    """A development issuer that misbehaves on request.

    `fault` and `discovery_fault` break the answers, `document` replaces the key set, `metadata` changes the
    discovery document, `requests` counts requests by path, `gate` holds back the key set while it is cleared.
    """

    def __init__(self, name: str = "fake", algorithm: Literal["RS256", "ES256"] = "RS256", **options: Any) -> None:
        super().__init__((CLIENT,), algorithm=algorithm, **options)
        self._name = name
        self.keys = [signing_key(f"{name}-0", algorithm)]
        self._generation = 0
        self.fault: Fault | None = None
        self.discovery_fault: Fault | None = None
        self.document: Any = None
        self.metadata: dict[str, Any] = {}
        self.requests: Counter[str] = Counter()
        self.request_headers: list[dict[str, str]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.gate.set()
        await self.stop()

    def settings(self, **changes: Any) -> IssuerSettings:
        """Return settings that trust this issuer."""
        usual = {"issuer": self.url, "audiences": ("rerank",), "insecure_http": True}
        return IssuerSettings.model_validate(usual | changes)

    def rotate(self, *, keep: int = 1) -> None:
        self._generation += 1
        old = self.keys[-keep:] if keep else []
        self.keys = [*old, signing_key(f"{self._name}-{self._generation}", self.keys[-1].algorithm)]

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return the claims `mint` would sign; None leaves one out."""
        payload: dict[str, Any] = json.loads(base64.urlsafe_b64decode(self.mint(**changes).split(".")[1] + "=="))
        return payload

    def forge(self, header: dict[str, Any] | None = None, key: SigningKey | None = None, **claims: Any) -> str:
        """Return a token under any header members (None leaves one out) and any key."""
        key = key or self.keys[-1]
        usual = {"alg": key.algorithm, "typ": "at+jwt", "kid": key.id} | (header or {})
        return key.sign({n: v for n, v in usual.items() if v is not None}, self.claims(**claims))

    def routes(self) -> list[web.RouteDef]:
        return [
            *super().routes(),
            web.get("/.well-known/oauth-authorization-server", self.oauth_metadata),
            web.get("/elsewhere", self.elsewhere),
        ]

    async def oauth_metadata(self, request: web.Request) -> web.StreamResponse:
        """Answer as RFC 8414 has it."""
        self.requests["oauth_metadata"] += 1
        return await super().discovery(request)

    async def elsewhere(self, _: web.Request) -> web.StreamResponse:
        """Serve an attacker's key set: where redirects and header members point to."""
        self.requests["elsewhere"] += 1
        return web.json_response({"keys": [signing_key("attacker").public]})

    async def discovery(self, request: web.Request) -> web.StreamResponse:
        self.requests["discovery"] += 1
        self.request_headers.append(dict(request.headers))
        if self.discovery_fault is not None:
            return await self._broken(self.discovery_fault, request)
        answer = await super().discovery(request)
        assert isinstance(answer, web.Response) and answer.text is not None
        return web.json_response({**json.loads(answer.text), **self.metadata})

    async def jwks(self, request: web.Request) -> web.StreamResponse:
        self.requests["jwks"] += 1
        self.request_headers.append(dict(request.headers))
        # What is true when the request arrives is answered, however long the gate holds it back.
        document = {"keys": [key.public for key in self.keys]} if self.document is None else self.document
        await self.gate.wait()
        if self.fault is not None:
            return await self._broken(self.fault, request)
        return web.json_response(document)

    async def _broken(self, fault: Fault, request: web.Request) -> web.StreamResponse:
        match fault:
            case "html":
                return web.Response(text="<html>sign in</html>", content_type="text/html")
            case "500":
                return web.json_response({"keys": [key.public for key in self.keys]}, status=500)
            case "404":
                return web.json_response({}, status=404)
            case "redirect":
                return web.Response(status=302, headers={"location": f"{self.url}/elsewhere"})
            case "huge":
                return web.Response(body=b'{"keys": [' + b" " * 10 * 2**20 + b"]}")
            case "slow":
                return await self._drip(request)
            case "hang":
                await asyncio.Event().wait()
                raise AssertionError
            case "empty":
                return web.json_response({"keys": []})
            case "not json":
                return web.Response(body=b'{"keys": [', content_type="application/json")
            case "array":
                return web.json_response([key.public for key in self.keys])
            case "gzip":
                answer = web.json_response({"keys": [key.public for key in self.keys]})
                answer.enable_compression(web.ContentCoding.gzip)
                return answer

    async def _drip(self, request: web.Request) -> web.StreamResponse:
        """Send one byte at a time, so that only a limit on the whole answer ends it."""
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(b" ")
            await asyncio.sleep(0.01)
