"""Logging a person in from a terminal: OAuth 2.0 Device Authorization Grant (RFC 8628), as a public client.

The person logs in with a browser anywhere; the terminal never sees a password. Authlib has the server side only.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import httpx

from rankgate.clients.asking import ask, http_client, is_safe, json_object, safe_address
from rankgate.clients.console import OpenId

__all__ = ["DeviceError", "Prompt", "Signed", "device_login"]

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
# RFC 8628 section 3.5: the interval where none is given, and what `slow_down` adds.
INTERVAL_S = 5.0
SLOWER_S = 5.0
LONGEST_S = 1800.0


class DeviceError(Exception):
    """The login did not come about; the text says why, and holds nothing secret."""


class Prompt(NamedTuple):
    """What a person needs: the page, the code to type there, the page with the code in it, and how long it is valid."""

    url: str
    code: str
    complete: str
    expires_s: float


class Signed(NamedTuple):
    """An access token and for how many seconds it is valid; 0 where the issuer does not say."""

    token: str
    expires_s: float

    def __repr__(self) -> str:
        return f"Signed(expires_s={self.expires_s})"


def device_login(
    openid: OpenId, show: Callable[[Prompt], None], *, ca_file: Path | None = None,
    clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], object] = time.sleep,
) -> Signed:  # fmt: skip
    """Ask `openid.issuer` for a code, `show` it, and return the token once a person has agreed.

    The token must be a JWT of that issuer for that audience; the console checks its signature, nobody here can. Raises
    DeviceError, and SettingsError where the issuer's address can never work. `clock` is monotonic, in seconds.
    """
    issuer = safe_address("the issuer's address", openid.issuer)
    with http_client(issuer, ca_file) as http:
        device_url, token_url = _endpoints(http, openid.issuer)
        form = {"client_id": openid.client_id, "scope": " ".join(openid.scopes)}
        if openid.audience.startswith("https://"):
            form["resource"] = openid.audience  # RFC 8707 section 2
        code, prompt, interval_s = _authorized(http, device_url, form)
        show(prompt)
        poll = {"grant_type": GRANT, "device_code": code, "client_id": openid.client_id}
        if "resource" in form:
            poll["resource"] = form["resource"]
        signed = _polled(http, token_url, poll, interval_s, clock() + prompt.expires_s, clock, sleep)
    _check(signed.token, openid)
    return signed


def _endpoints(http: httpx.Client, issuer: str) -> tuple[str, str]:
    """Return where codes and tokens are had (OIDC Discovery 1.0 section 4, RFC 8628 section 4)."""
    status, found = _json(http, "GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    if status != 200 or found.get("issuer") != issuer:
        raise DeviceError("the issuer does not describe itself under the name that the console gives")
    device, token = found.get("device_authorization_endpoint"), found.get("token_endpoint")
    if device is None:
        raise DeviceError(
            "the issuer offers no login from a terminal (device authorization); set RANKGATE_CONSOLE_TOKEN"
        )
    # An issuer on the network never sends anybody to this machine.
    local = issuer.startswith("http:")
    if not all(is_safe(url) and (local or str(url).startswith("https:")) for url in (device, token)):
        raise DeviceError("the issuer names endpoints that are not https")
    return str(device), str(token)


def _authorized(http: httpx.Client, url: str, form: dict[str, str]) -> tuple[str, Prompt, float]:
    """Return the device code, what to show, and the interval (RFC 8628 section 3.2)."""
    status, found = _json(http, "POST", url, data=form)
    if status != 200:
        raise DeviceError(f"the issuer gives no code{_why(found)}")
    code, user_code, page = found.get("device_code"), found.get("user_code"), found.get("verification_uri")
    if not (isinstance(code, str) and isinstance(user_code, str) and 0 < len(user_code) <= 64):
        raise DeviceError("the issuer's code cannot be read")
    if not is_safe(page):
        raise DeviceError("the issuer's page is not https")
    complete = found.get("verification_uri_complete")
    expires_s, interval_s = found.get("expires_in"), found.get("interval", INTERVAL_S)
    if not _is_number(expires_s) or not _is_number(interval_s):
        raise DeviceError("the issuer's code cannot be read")
    shown = Prompt(str(page), user_code, str(complete) if is_safe(complete) else "", min(float(expires_s), LONGEST_S))
    return code, shown, max(float(interval_s), 1.0)


def _polled(
    http: httpx.Client, url: str, form: dict[str, str], interval_s: float, until: float,
    clock: Callable[[], float], sleep: Callable[[float], object],
) -> Signed:  # fmt: skip
    """Ask until a person has agreed or refused, or the code is of no use any more (RFC 8628 section 3.5)."""
    while True:
        # Never sooner than the interval: an issuer may take that for guessing.
        if clock() + interval_s > until:
            raise DeviceError("the code has expired; log in again")
        sleep(interval_s)
        try:
            status, found = _json(http, "POST", url, data=form)
        except _AwayError:
            interval_s *= 2
            continue
        token = found.get("access_token")
        if status == 200 and isinstance(token, str) and str(found.get("token_type")).lower() == "bearer":
            expires_s = found.get("expires_in", 0)
            return Signed(token, float(expires_s) if _is_number(expires_s) else 0.0)
        match found.get("error"):
            case "authorization_pending":
                pass
            case "slow_down":
                interval_s += SLOWER_S
            case "access_denied":
                raise DeviceError("the login was refused")
            case "expired_token":
                raise DeviceError("the code has expired; log in again")
            case _:
                raise DeviceError(f"the issuer gives no token{_why(found)}")


def _check(token: str, openid: OpenId) -> None:
    """Refuse what was issued by or for somebody else, before it is sent anywhere; the console checks its signature."""
    claims = None
    if token.count(".") == 2:
        try:
            claims = json_object(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        except (binascii.Error, ValueError):
            claims = None
    if claims is None:
        raise DeviceError("the issuer's token is not a JWT; the console could not tell whose it is")
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if claims.get("iss") != openid.issuer or openid.audience not in audiences:
        raise DeviceError("the issuer's token is not for the console's audience")


class _AwayError(DeviceError):
    """The issuer was not there, this time."""


def _json(http: httpx.Client, method: str, url: str, **options: Any) -> tuple[int, dict[str, Any]]:
    try:
        status, body = ask(http, method, url, **options)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _AwayError(f"the issuer cannot be reached ({type(error).__name__})") from None
    return status, json_object(body) or {}


def _why(found: dict[str, Any]) -> str:
    """Return the issuer's word for an error (RFC 6749 section 5.2); its description may quote anything."""
    word = found.get("error")
    known = isinstance(word, str) and 0 < len(word) <= 64 and word.replace("_", "").isalnum() and word.isascii()
    return f": {word}" if known else ""


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 10**9
