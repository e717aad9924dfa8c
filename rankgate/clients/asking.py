"""Whom the command line talks to: addresses of https servers, or of this machine, and answers of a bounded size."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from rankgate.errors import SettingsError
from rankgate.settings.base import address, is_loopback

__all__ = ["ANSWER_BYTES", "TIMEOUT", "ask", "http_client", "is_safe", "json_object", "safe_address"]

ANSWER_BYTES = 8 * 2**20
TIMEOUT = httpx.Timeout(30.0, connect=10.0)


def safe_address(name: str, url: str) -> str:
    """Return `url` without a slash at its end. Raises SettingsError, naming `name`, where nothing secret may go there.

    That is what is neither https nor on loopback, and what holds a user, a password, a query or a fragment.
    """
    try:
        parts = address(name, url)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))):
        raise SettingsError(f"{name} must be an https:// address (http:// on loopback only)")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise SettingsError(f"{name} must hold no user, password, query or fragment")
    return url.rstrip("/")


def is_safe(url: object) -> bool:
    """Tell whether `url` is an address that something secret may be sent to, or a person; it may have a query."""
    try:
        parts = address("url", url) if isinstance(url, str) and len(url) <= 2048 else None
    except ValueError:
        return False
    return (
        parts is not None
        and bool(parts.hostname)
        and "@" not in parts.netloc
        and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or "")))
    )


def http_client(base: str, ca_file: Path | None = None, headers: Mapping[str, str] | None = None) -> httpx.Client:
    """Return a client for `base` that follows no redirect and keeps no cookie of use to another origin.

    Certificates are those of the system (or SSL_CERT_FILE), or of `ca_file`. A proxy of the environment is used for
    https alone: it relays what it cannot read. Raises SettingsError where `ca_file` holds no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError:
        raise SettingsError(f"{ca_file} holds no PEM certificate") from None
    return httpx.Client(
        base_url=base,
        headers={"accept": "application/json", "accept-encoding": "identity", "user-agent": "rankgate"}
        | dict(headers or {}),
        verify=context,
        timeout=TIMEOUT,
        follow_redirects=False,
        trust_env=base.startswith("https:"),
    )


def ask(client: httpx.Client, method: str, url: str, **options: Any) -> tuple[int, bytes]:
    """Return status and body of one request; raises httpx.HTTPError, also where the body is too large."""
    with client.stream(method, url, **options) as answer:
        body = bytearray()
        for chunk in answer.iter_raw(65_536):
            body += chunk
            if len(body) > ANSWER_BYTES:
                raise httpx.DecodingError("answer too large")
        return answer.status_code, bytes(body)


def json_object(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object that `body` is, None where it is none."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
