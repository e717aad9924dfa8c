"""Which addresses of an issuer are trusted: its own host, and those that the settings list."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import SplitResult, urlsplit, urlunsplit

from rankgate.errors import SettingsError
from rankgate.settings.base import is_loopback

__all__ = ["Origins"]

_PORTS = {"http": 80, "https": 443}


class Origins:
    """The trusted hosts and ports of `issuer`; an entry of `trusted_hosts` without a port means 443.

    Raises SettingsError, naming `section`, for an entry that is no host.
    """

    def __init__(self, issuer: str, trusted_hosts: Iterable[str], *, insecure_http: bool, section: str) -> None:
        self._insecure_http = insecure_http
        self._trusted = {_origin(urlsplit(issuer))}
        for entry in trusted_hosts:
            try:
                self._trusted.add(_origin(urlsplit(f"https://{entry}")))
            except ValueError:
                raise SettingsError(f"{section}.trusted_hosts has an entry that is not host or host:port") from None

    def trusted(self, url: str) -> str | None:
        """Return `url` if it may be asked, else None.

        It is put together again from the parts that were checked: the HTTP client may read the original otherwise.
        """
        try:
            parts = urlsplit(url)
            host, port = origin = _origin(parts)
        except ValueError:
            return None
        plain = parts.scheme == "http" and self._insecure_http and is_loopback(host)
        if not (plain or parts.scheme == "https") or origin not in self._trusted or parts.username is not None:
            return None
        netloc = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return urlunsplit((parts.scheme, netloc, parts.path, parts.query, ""))


def _origin(parts: SplitResult) -> tuple[str, int]:
    port = parts.port or _PORTS.get(parts.scheme)
    if not parts.hostname or port is None:
        raise ValueError("no host")
    return parts.hostname, port
