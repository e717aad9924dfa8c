"""A development issuer: discovery, a key set and client credentials, for nothing but development.

It listens on loopback unless told otherwise: whoever reaches it gets tokens. Run it with
`python -m rankgate.demo.issuer`, then ask it for one:
`curl -u search-svc:demo -d grant_type=client_credentials -d audience=rerank http://127.0.0.1:PORT/token`.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import binascii
import hmac
import json
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote_plus

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jose import jwk
from jose.backends.base import Key

from rankgate.demo.logins import DevPerson, Logins

__all__ = ["DEMO_CLIENTS", "DevClient", "DevIssuer", "SigningKey"]

HOST = "127.0.0.1"
_NOT_STORED = {"cache-control": "no-store"}
Algorithm = Literal["RS256", "ES256"]


@dataclass(frozen=True, slots=True)
class DevClient:
    """A machine that may ask for tokens, and what those say about it."""

    id: str
    secret: str = field(repr=False)
    tenant: str = "demo"
    groups: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ("rerank",)
    audiences: tuple[str, ...] = ("rerank",)


# Well-known on purpose: whoever reaches a development issuer may have its tokens, which no real gate accepts.
DEMO_CLIENTS = (
    # Those that the shipped policy knows; what is risky of the second one waits for people.
    DevClient("search-svc", "demo", tenant="acme", groups=("search",)),
    DevClient("fraud-svc", "demo", tenant="acme", groups=("fraud",)),
    DevClient("search", "demo", tenant="acme", groups=("search", "eu")),
    DevClient("rag-agent", "demo", tenant="acme", groups=("agents",)),
    DevClient("batch", "demo", tenant="globex", groups=("batch",)),
)


class SigningKey:
    """A fresh key pair with a random key id."""

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm = algorithm
        self.id = secrets.token_hex(8)
        private: Any
        if algorithm == "RS256":
            private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        else:
            private = ec.generate_private_key(ec.SECP256R1())
        self._key: Key = jwk.construct(private, algorithm)
        public = jwk.construct(private.public_key(), algorithm).to_dict()
        self.public: dict[str, Any] = {**public, "kid": self.id, "use": "sig"}

    def sign(self, header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
        """Return the compact serialisation (RFC 7515 section 7.1) of `claims` under exactly `header`."""
        signing_input = f"{_segment(header)}.{_segment(claims)}"
        signature: bytes = self._key.sign(signing_input.encode("ascii"))
        return f"{signing_input}.{_base64url(signature)}"


class DevIssuer:
    """An OIDC issuer that issues RFC 9068 access tokens to its clients.

    `await start()` serves it, `mint` makes a token without asking, `rotate` brings a new key while the old one
    stays published. `clock` is seconds since 1970.
    """

    def __init__(
        self,
        clients: Iterable[DevClient] = DEMO_CLIENTS,
        *,
        people: Iterable[DevPerson] = (),
        algorithm: Algorithm = "RS256",
        lifetime_s: int = 300,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clients = {client.id: client for client in clients}
        self._logins = Logins(people, self.mint, clock) if people else None
        self._algorithm = algorithm
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._runner: web.AppRunner | None = None
        self.keys = [SigningKey(algorithm)]
        self.url = ""

    async def start(self, port: int = 0, *, address: str = HOST, url: str | None = None) -> None:
        """Serve on `address`; `port` 0 takes a free one.

        Sets `url`, which is also the `iss` of its tokens: where it listens, or `url` where callers know it by another.
        """
        app = web.Application(client_max_size=16_384)
        app.add_routes(self.routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, address, port).start()
        self.url = url or f"http://{address}:{self._runner.addresses[0][1]}"

    def routes(self) -> list[web.RouteDef]:
        """Return what is served where."""
        return [
            web.get("/.well-known/openid-configuration", self.discovery),
            web.get("/jwks", self.jwks),
            web.post("/token", self.token),
            *([web.get("/authorize", self._logins.authorize)] if self._logins else []),
        ]

    async def stop(self) -> None:
        """Stop serving."""
        if self._runner is not None:
            await self._runner.cleanup()

    def rotate(self, *, keep: int = 1) -> None:
        """Sign with a new key from now on; the last `keep` old ones stay published."""
        old = self.keys[-keep:] if keep else []
        self.keys = [*old, SigningKey(self._algorithm)]

    def mint(self, kind: str = "at+jwt", /, **claims: Any) -> str:
        """Return a signed token; `claims` come over the usual ones, and None leaves one out. `kind` is its `typ`."""
        now = int(self._clock())
        usual = {
            "iss": self.url,
            "sub": "search",
            "aud": "rerank",
            "iat": now,
            "exp": now + self._lifetime_s,
            "jti": secrets.token_hex(16),
            "client_id": claims.get("sub", "search"),
        }
        key = self.keys[-1]
        header = {"alg": key.algorithm, "typ": kind, "kid": key.id}
        return key.sign(header, {name: value for name, value in (usual | claims).items() if value is not None})

    async def discovery(self, _: web.Request) -> web.StreamResponse:
        """Answer with the issuer's metadata (OIDC Discovery 1.0 section 3)."""
        metadata = {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/jwks",
            "token_endpoint": f"{self.url}/token",
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "response_types_supported": [],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [self._algorithm],
        }
        if self._logins is not None:
            metadata |= {
                "authorization_endpoint": f"{self.url}/authorize",
                "grant_types_supported": ["client_credentials", "authorization_code"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
                "response_types_supported": ["code"],
                "code_challenge_methods_supported": ["S256"],
            }
        return web.json_response(metadata)

    @property
    def key_set(self) -> dict[str, Any]:
        """Return the public keys (RFC 7517 section 5)."""
        return {"keys": [key.public for key in self.keys]}

    async def jwks(self, _: web.Request) -> web.StreamResponse:
        """Answer with the public keys."""
        return web.json_response(self.key_set)

    async def token(self, request: web.Request) -> web.StreamResponse:
        """Answer a client credentials request (RFC 6749 section 4.4), or one with a code of a login.

        Errors are those of its section 5.2 and of RFC 8707.
        """
        form = await request.post()
        if self._logins is not None and form.get("grant_type") == "authorization_code":
            named = [str(form.get(name, "")) for name in ("code", "client_id", "redirect_uri", "code_verifier")]
            tokens = self._logins.redeem(*named)
            return _error(400, "invalid_grant") if tokens is None else web.json_response(tokens, headers=_NOT_STORED)
        client = self._authenticate(request, form)
        if client is None:
            return _error(401, "invalid_client", {"www-authenticate": 'Basic realm="development issuer"'})
        if form.get("grant_type") != "client_credentials":
            return _error(400, "unsupported_grant_type")
        audiences = [str(value) for name in ("audience", "resource") for value in form.getall(name, [])]
        if not set(audiences) <= set(client.audiences):
            return _error(400, "invalid_target")
        scopes = str(form.get("scope", " ".join(client.scopes))).split()
        if not set(scopes) <= set(client.scopes):
            return _error(400, "invalid_scope")
        granted = audiences or list(client.audiences)
        token = self.mint(
            sub=client.id,
            aud=granted[0] if len(granted) == 1 else granted,
            tenant=client.tenant,
            groups=list(client.groups),
            scope=" ".join(scopes),
        )
        answer = {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": self._lifetime_s,
            "scope": " ".join(scopes),
        }
        return web.json_response(answer, headers=_NOT_STORED)

    def _authenticate(self, request: web.Request, form: Mapping[str, Any]) -> DevClient | None:
        basic = _basic(request.headers.get("authorization", ""))
        identifier, secret = basic or (str(form.get("client_id", "")), str(form.get("client_secret", "")))
        client = self._clients.get(identifier)
        if client is None or not hmac.compare_digest(client.secret.encode(), secret.encode()):
            return None
        return client


def _basic(value: str) -> tuple[str, str] | None:
    scheme, _, encoded = value.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        identifier, _, secret = base64.b64decode(encoded, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    # RFC 6749 section 2.3.1: both are form-encoded before they are joined.
    return unquote_plus(identifier), unquote_plus(secret)


def _error(status: int, word: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response({"error": word}, status=status, headers={**_NOT_STORED, **(headers or {})})


def _segment(value: Mapping[str, Any]) -> str:
    return _base64url(json.dumps(value, separators=(",", ":")).encode("utf-8"))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


async def _serve(chosen: argparse.Namespace) -> None:
    issuer = DevIssuer(algorithm=chosen.algorithm)
    if chosen.jwks_file is not None:
        # Whole or not at all: who waits for the file may read it at any moment.
        draft = chosen.jwks_file.with_suffix(".new")
        draft.write_text(json.dumps(issuer.key_set), encoding="utf-8")
        draft.replace(chosen.jwks_file)
    await issuer.start(chosen.port, address=chosen.address, url=chosen.url)
    print(f"development issuer at {issuer.url}, for development only", flush=True)  # noqa: T201
    for client in DEMO_CLIENTS:
        print(f"  client {client.id}: tenant {client.tenant}, groups {', '.join(client.groups)}", flush=True)  # noqa: T201
    try:
        await asyncio.Event().wait()
    finally:
        await issuer.stop()


def main() -> None:
    """Serve the development issuer until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m rankgate.demo.issuer", description=__doc__)
    parser.add_argument("--address", default=HOST, help="address to listen on  [default: loopback]")
    parser.add_argument("--port", type=int, default=0, help="port; 0 takes a free one")
    parser.add_argument("--url", help="`iss` of its tokens  [default: where it listens]")
    parser.add_argument("--jwks-file", type=Path, help="also write the key set here, for a gate without network")
    parser.add_argument("--algorithm", choices=("RS256", "ES256"), default="RS256")
    try:
        asyncio.run(_serve(parser.parse_args()))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
