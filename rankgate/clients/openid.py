"""The login's issuer over HTTP: what it announces, a code for tokens, and what it says about a person.

Nothing is followed, nothing comes from the environment, every answer is capped and timed. Secrets leave in requests
to trusted hosts only, and appear in no error.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from rankgate.clients.origins import Origins
from rankgate.errors import GateError, Reason, SettingsError
from rankgate.strict import MalformedError, json_object

__all__ = ["Metadata", "OpenId", "Tokens", "read_secret"]

ANSWER_BYTES = 262_144
TIMEOUT_S = 5.0
METADATA_S = 300.0
_DEPTH = 16


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the issuer announces (OIDC Discovery 1.0 section 3), as far as it is trusted.

    `names_itself` tells that it sends `iss` with its answers (RFC 9207), `posts_secret` that the secret goes into the
    body (`client_secret_post`) because the header is not taken.
    """

    authorization: str
    token: str
    userinfo: str | None = None
    end_session: str | None = None
    device: str | None = None
    names_itself: bool = False
    posts_secret: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class Tokens:
    """What a code was good for."""

    id_token: str
    access_token: str


class OpenId:
    """One issuer and our client there. Everything raises GateError(KEYS_UNAVAILABLE) where it does not answer.

    `clock` is monotonic, in seconds. `secret` is the client's, None for a public one.
    """

    def __init__(
        self, issuer: str, client_id: str, secret: str | None, redirect_uri: str, *,
        trusted_hosts: tuple[str, ...] = (), insecure_http: bool = False, ca_file: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._issuer = issuer
        self._client_id = client_id
        self._secret = secret
        self._redirect_uri = redirect_uri
        self._ca_file = ca_file
        self._clock = clock
        self._origins = Origins(issuer, trusted_hosts, insecure_http=insecure_http, section="login")
        self._metadata: Metadata | None = None
        self._loaded_at = 0.0
        self._loading = asyncio.Lock()

    @property
    def end_session(self) -> str | None:
        """Return where the issuer lets people log out of it, as far as is known."""
        return self._metadata.end_session if self._metadata else None

    async def metadata(self) -> Metadata:
        """Return what the issuer announces, at most five minutes old; older while it does not answer."""
        async with self._loading:
            if self._metadata is None or self._clock() - self._loaded_at > METADATA_S:
                try:
                    self._metadata = await self._discover()
                except GateError:
                    if self._metadata is None:
                        raise
                self._loaded_at = self._clock()
            return self._metadata

    def authorization_url(
        self, metadata: Metadata, scopes: tuple[str, ...], *, state: str, nonce: str, verifier: str, **extra: str
    ) -> str:
        """Return where a login begins: code flow with PKCE (RFC 7636, S256)."""
        uri: str = prepare_grant_uri(
            metadata.authorization, self._client_id, "code", self._redirect_uri, list(scopes), state,
            nonce=nonce, code_challenge=create_s256_code_challenge(verifier), code_challenge_method="S256", **extra,
        )  # fmt: skip
        return uri

    async def redeem(self, code: str, verifier: str) -> Tokens:
        """Return the tokens for an authorization code; raises GateError(TOKEN_INVALID) where there are none."""
        metadata = await self.metadata()
        auth, named = None, {"client_id": self._client_id}
        if self._secret is not None and metadata.posts_secret:
            named["client_secret"] = self._secret
        elif self._secret is not None:
            auth, named = httpx.BasicAuth(_form(self._client_id), _form(self._secret)), {}
        body: str = prepare_token_request(
            "authorization_code", "", self._redirect_uri, code=code, code_verifier=verifier, **named
        )
        status, answer = await self._ask(
            "POST", metadata.token, content=body, auth=auth,
            headers={"content-type": "application/x-www-form-urlencoded"},
        )  # fmt: skip
        if status >= 500:
            raise _unavailable()
        given = _object(answer) if status == 200 else {}
        id_token, access_token = given.get("id_token"), given.get("access_token")
        if not isinstance(id_token, str) or not isinstance(access_token, str):
            raise GateError(Reason.TOKEN_INVALID, "code not accepted")
        return Tokens(id_token, access_token)

    async def userinfo(self, access_token: str) -> dict[str, Any]:
        """Return what the issuer says about whom the token is of (OIDC Core 1.0 section 5.3), plain JSON only."""
        metadata = await self.metadata()
        if metadata.userinfo is None:
            raise _unavailable()
        status, answer = await self._ask("GET", metadata.userinfo, headers={"authorization": f"Bearer {access_token}"})
        if status != 200:
            raise _unavailable()
        return _object(answer)

    async def _discover(self) -> Metadata:
        status, answer = await self._ask("GET", f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        given = _object(answer) if status == 200 else {}
        if given.get("issuer") != self._issuer:
            raise _unavailable()
        authorization, token = self._address(given, "authorization_endpoint"), self._address(given, "token_endpoint")
        if authorization is None or token is None:
            raise _unavailable()
        methods = given.get("token_endpoint_auth_methods_supported")
        return Metadata(
            authorization=authorization,
            token=token,
            userinfo=self._address(given, "userinfo_endpoint"),
            end_session=self._address(given, "end_session_endpoint"),
            device=self._address(given, "device_authorization_endpoint"),
            names_itself=given.get("authorization_response_iss_parameter_supported") is True,
            posts_secret=isinstance(methods, list)
            and "client_secret_basic" not in methods
            and "client_secret_post" in methods,
        )

    def _address(self, given: dict[str, Any], name: str) -> str | None:
        url = given.get(name)
        trusted = self._origins.trusted(url) if isinstance(url, str) else None
        return None if trusted is None else _without_default_port(trusted)

    async def _ask(
        self, method: str, url: str, *, headers: dict[str, str] | None = None, content: str | None = None,
        auth: httpx.Auth | None = None,
    ) -> tuple[int, bytes]:  # fmt: skip
        try:
            # The context is made anew each time, so that a rotated CA file takes effect.
            tls = await asyncio.to_thread(ssl.create_default_context, cafile=self._ca_file)
            async with (
                asyncio.timeout(TIMEOUT_S),
                httpx.AsyncClient(verify=tls, trust_env=False, follow_redirects=False) as client,
                client.stream(
                    method, url, content=content, auth=auth,
                    headers={"accept": "application/json", "accept-encoding": "identity", "user-agent": "rankgate"}
                    | (headers or {}),
                ) as answer,
            ):  # fmt: skip
                if answer.headers.get("content-encoding", "identity") != "identity":
                    raise _unavailable()
                body = bytearray()
                async for chunk in answer.aiter_raw():
                    body += chunk
                    if len(body) > ANSWER_BYTES:
                        raise _unavailable()
                return answer.status_code, bytes(body)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError):
            raise _unavailable() from None


def read_secret(file: Path) -> str:
    """Return a client's secret; raises SettingsError."""
    try:
        secret = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise SettingsError("login.client_secret_file cannot be read; change its owner or mode") from None
    if not secret or not secret.isprintable():
        raise SettingsError("login.client_secret_file must hold one line with the client's secret")
    return secret


def _form(text: str) -> str:
    # RFC 6749 section 2.3.1: both parts are form-encoded before they are put together.
    return urlencode({"": text})[1:]


def _without_default_port(url: str) -> str:
    parts = urlsplit(url)
    default = {"https": ":443", "http": ":80"}[parts.scheme]
    return parts._replace(netloc=parts.netloc.removesuffix(default)).geturl()


def _object(data: bytes) -> dict[str, Any]:
    try:
        return json_object(data, depth=_DEPTH)
    except MalformedError:
        raise _unavailable() from None


def _unavailable() -> GateError:
    return GateError(Reason.KEYS_UNAVAILABLE, "issuer")
