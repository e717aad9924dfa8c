"""A token endpoint over HTTP: one token exchange, and how the gate proves who it is there."""

from __future__ import annotations

import secrets
import ssl
import time
from collections.abc import Callable
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from urllib.parse import quote_plus

from authlib.integrations.httpx_client import AsyncOAuth2Client, OAuth2ClientAuth
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from joserfc.jwk import ECKey

from rankgate.clients.rereading import Rereading
from rankgate.credentials import Secret
from rankgate.errors import SettingsError
from rankgate.issued import ACCESS_TOKEN, GRANT, Issued, error_word, read_issued
from rankgate.settings import ExchangeSettings

__all__ = ["AwayError", "RefusedError", "TokenEndpoint"]

ANSWER_BYTES = 65_536
ASSERTION_S = 60
_HEADERS = {"accept": "application/json", "accept-encoding": "identity", "user-agent": "rankgate"}

Proof = Callable[[], OAuth2ClientAuth]


class AwayError(Exception):
    """The endpoint does not work now, with the word for why."""


class RefusedError(Exception):
    """The endpoint works, and gives no token, with the word for why."""


class TokenEndpoint:
    """Exchanges tokens at the endpoint of `settings`. Its files are read now: raises SettingsError.

    No redirect is followed, no proxy of the environment used, no cookie kept.
    """

    def __init__(self, settings: ExchangeSettings) -> None:
        self._settings = settings
        self._proof = _proof(settings)
        self._client = AsyncOAuth2Client(
            client_id=settings.client_id,
            verify=_tls(settings.ca_file),
            trust_env=False,
            follow_redirects=False,
            headers=_HEADERS,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )

    async def exchange(self, subject: Secret, now: float) -> Issued:
        """Exchange the access token `subject` (RFC 8693 section 2.1) at `now`, in seconds since 1970.

        Raises AwayError, RefusedError, UnfitError, or OSError and ValueError where the gate's own proof cannot be
        read; takes as long as it takes.
        """
        proof = self._proof()
        try:
            status, document = await self._post(subject, proof)
        except (AwayError, RefusedError):
            raise
        except Exception:  # noqa: BLE001 - whatever the HTTP client raises: its texts may quote what was sent
            raise AwayError("connection") from None
        if status == 200:
            return read_issued(document, subject, self._settings.scopes, now)
        if status >= 500 or status == 429:
            raise AwayError(f"status {status}")
        raise RefusedError(error_word(document) or f"status {status}")

    async def stop(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _post(self, subject: Secret, proof: OAuth2ClientAuth) -> tuple[int, bytes]:
        settings = self._settings
        form: dict[str, str | list[str]] = {
            "grant_type": GRANT,
            "subject_token": subject.reveal(),
            "subject_token_type": ACCESS_TOKEN,
            "requested_token_type": ACCESS_TOKEN,
            "audience": list(settings.audiences),
            "resource": list(settings.resources),
        }
        if settings.scopes:
            form["scope"] = " ".join(settings.scopes)
        # Not `fetch_token`, which reads an answer of any length and keeps the token for the calls of others.
        async with self._client.stream(
            "POST", settings.token_url, data=form, auth=proof, withhold_token=True, timeout=None
        ) as answer:
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise RefusedError("content-encoding")
            document = bytearray()
            async for chunk in answer.aiter_raw():
                document += chunk
                if len(document) > ANSWER_BYTES:
                    raise RefusedError("too large")
            return answer.status_code, bytes(document)


def _proof(settings: ExchangeSettings) -> Proof:
    """Return what makes the client's authentication for one request, from its file as it is then."""
    if settings.client_secret_file is not None:
        secret = Rereading(settings.client_secret_file, _secret)
        _check("client_secret_file", secret, "write the client secret into it, one line of visible ASCII characters")
        # RFC 6749 section 2.3.1: both are form-encoded before they are joined, which authlib leaves to us.
        name = quote_plus(settings.client_id)
        return lambda: OAuth2ClientAuth(name, quote_plus(secret.current().reveal()), "client_secret_basic")
    if settings.client_key_file is None:
        raise SettingsError("credentials.exchange needs one of client_secret_file and client_key_file")
    key = Rereading(settings.client_key_file, _key)
    _check("client_key_file", key, "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out FILE makes one")

    def assertion() -> OAuth2ClientAuth:
        now = int(time.time())
        method = PrivateKeyJWT(
            settings.token_url,
            claims={"jti": secrets.token_hex(16), "iat": now, "exp": now + ASSERTION_S},
            headers={"kid": key.current().thumbprint()},
            alg="ES256",
        )
        return OAuth2ClientAuth(settings.client_id, key.current(), method)

    return assertion


def _check(name: str, file: Rereading[Secret] | Rereading[ECKey], remedy: str) -> None:
    try:
        file.current()
    except (OSError, ValueError):
        raise SettingsError(f"credentials.exchange.{name} {file.path} holds none that can be read; {remedy}") from None


def _secret(content: bytes) -> Secret:
    text = content.decode("ascii").strip()
    if not text or not text.isprintable() or " " in text:
        raise ValueError("no secret")
    return Secret(text)


def _key(pem: bytes) -> ECKey:
    try:
        key = ECKey.import_key(pem)
        fits = key.is_private and key.curve_name == "P-256"
    except Exception:  # noqa: BLE001 - whatever the library says of key material goes nowhere
        fits = False
    if not fits:
        raise ValueError("no P-256 private key")
    return key


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError:
        raise SettingsError(
            f"credentials.exchange.ca_file {ca_file} holds no certificate that can be read; name a PEM bundle"
        ) from None
