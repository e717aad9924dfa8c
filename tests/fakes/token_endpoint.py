"""A token endpoint that exchanges the tokens of one issuer (RFC 8693), and does everything a broken one does."""

from __future__ import annotations

import asyncio
import hmac
import ssl
from typing import Any, Literal, Self

from aiohttp import web
from jose import JWTError, jwt

from rankgate.demo.issuer import DevIssuer, SigningKey, _basic
from rankgate.issued import ACCESS_TOKEN, GRANT

__all__ = ["CLIENT_ID", "CLIENT_SECRET", "Fault", "TokenEndpoint"]

CLIENT_ID = "rank gate:1"
# Every character that form-encoding changes is one that a client may forget to encode.
CLIENT_SECRET = "s3cret+with/odd=%20characters"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

Fault = Literal["500", "429", "hang", "huge", "not json", "redirect", "gzip", "close", "html 200"]


class TokenEndpoint:
    """Exchanges tokens of `issuer`. What was asked stands in `forms`.

    `fault` breaks answers, `changes` go over the members of good ones (None leaves one out), `lifetime_s` is that of
    what it issues, and while `gate` is cleared nothing is answered. `client_key` makes it ask for private_key_jwt.
    """

    def __init__(
        self, issuer: DevIssuer, *, client_key: dict[str, Any] | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._issuer = issuer
        self._client_key = client_key
        self._tls = tls
        self._key = SigningKey("ES256")
        self._runner: web.AppRunner | None = None
        self._assertions: set[str] = set()
        self.secret = CLIENT_SECRET
        self.lifetime_s = 120
        self.fault: Fault | None = None
        self.changes: dict[str, Any] = {}
        self.forms: list[dict[str, list[str]]] = []
        self.request_headers: list[dict[str, str]] = []
        self.issued: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.url = ""

    async def start(self, port: int = 0) -> None:
        """Serve on loopback."""
        app = web.Application()
        app.router.add_post("/token", self._token)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port, ssl_context=self._tls).start()
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self._runner.addresses[0][1]}/token"

    async def stop(self) -> None:
        """Stop serving."""
        self.gate.set()
        if self._runner is not None:
            await self._runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _token(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        self.forms.append({name: [str(value) for value in form.getall(name)] for name in form})
        self.request_headers.append(dict(request.headers))
        await self.gate.wait()
        if self.fault is not None:
            return await self._broken(self.fault, request)
        status, answer = self._answer(request, self.forms[-1])
        return web.json_response(
            {name: value for name, value in answer.items() if value is not None},
            status=status,
            headers={"cache-control": "no-store", "set-cookie": "seen=1; Path=/"},
        )

    def _answer(self, request: web.Request, form: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        if not self._authenticated(request, form):
            return 401, {"error": "invalid_client"}
        if form.get("grant_type") != [GRANT]:
            return 400, {"error": "unsupported_grant_type"}
        if form.get("subject_token_type") != [ACCESS_TOKEN] or len(form.get("subject_token", [])) != 1:
            return 400, {"error": "invalid_request"}
        try:
            subject = jwt.decode(
                form["subject_token"][0], self._issuer.key_set, options={"verify_aud": False}, issuer=self._issuer.url
            )
        except JWTError:
            return 400, {"error": "invalid_grant", "error_description": form["subject_token"][0]}
        targets = form.get("audience", []) + form.get("resource", [])
        if "https://forbidden.example" in targets:
            return 400, {"error": "invalid_target"}
        token = self._key.sign(
            {"alg": "ES256", "typ": "at+jwt", "kid": self._key.id},
            {
                "iss": self.url,
                "sub": subject["sub"],
                "aud": targets,
                "jti": str(len(self.issued)),
                "act": {"sub": CLIENT_ID},
            },
        )
        self.issued.append(token)
        usual = {
            "access_token": token,
            "issued_token_type": ACCESS_TOKEN,
            "token_type": "Bearer",
            "expires_in": self.lifetime_s,
            "scope": form.get("scope", [None])[0],
        }
        return 200, usual | self.changes

    def _authenticated(self, request: web.Request, form: dict[str, list[str]]) -> bool:
        if self._client_key is None:
            name, secret = _basic(request.headers.get("authorization", "")) or ("", "")
            return name == CLIENT_ID and hmac.compare_digest(secret.encode(), self.secret.encode())
        try:
            if form["client_assertion_type"] != [ASSERTION]:
                return False
            claims = jwt.decode(form["client_assertion"][0], self._client_key, ["ES256"], audience=self.url)
        except (JWTError, KeyError):
            return False
        fresh = claims["jti"] not in self._assertions and claims["exp"] - claims["iat"] <= 60
        self._assertions.add(claims["jti"])
        return fresh and claims["iss"] == claims["sub"] == CLIENT_ID

    async def _broken(self, fault: Fault, request: web.Request) -> web.StreamResponse:
        good = web.json_response({"access_token": "x" * 32, "issued_token_type": ACCESS_TOKEN, "token_type": "Bearer"})
        match fault:
            case "500" | "429":
                good.set_status(int(fault))
                return good
            case "hang":
                await asyncio.Event().wait()
                raise AssertionError
            case "huge":
                return web.Response(body=b'{"access_token": "' + b"x" * 2**20, content_type="application/json")
            case "not json":
                return web.Response(body=b'{"access_token": ', content_type="application/json")
            case "html 200":
                return web.Response(text="<html>sign in</html>", content_type="text/html")
            case "redirect":
                return web.Response(status=307, headers={"location": self.url})
            case "gzip":
                good.enable_compression(web.ContentCoding.gzip)
                return good
            case "close":
                assert request.transport is not None
                request.transport.abort()
                return good
