"""When the certificates that the settings name run out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cryptography import x509

from rankgate.settings import Settings

__all__ = ["Expiry"]

_Version = tuple[int, int, int]


class Expiry:
    """Reads the named PEM files again when they change. What cannot be read is left out: another process may own it."""

    def __init__(self, settings: Settings) -> None:
        exchange = settings.credentials.exchange
        named: dict[str, Path | None] = {
            "upstream.trusted_ca": settings.upstream.trusted_ca,
            "policy.ca_file": settings.policy.ca_file,
            "audit.redis_ca_file": settings.audit.redis_ca_file,
            "traces.ca_file": settings.traces.ca_file,
            "credentials.exchange.ca_file": exchange.ca_file if exchange else None,
        }
        for number, issuer in enumerate(settings.issuers):
            named[f"issuers.{number}.ca_file"] = issuer.ca_file
        self._bundles = {name: path for name, path in named.items() if path is not None}
        self._chain = settings.listen.certificate_file
        self._known: dict[Path, tuple[_Version, list[float]]] = {}

    def read(self) -> Iterator[tuple[str, float]]:
        """Yield each setting and when what it names runs out, in seconds since 1970.

        A chain is as good as its first to end. A bundle is as good as its last: during a change it holds both.
        """
        if self._chain is not None and (ends := self._ends(self._chain)):
            yield "listen.certificate_file", min(ends)
        for name, path in self._bundles.items():
            if ends := self._ends(path):
                yield name, max(ends)

    def _ends(self, path: Path) -> list[float]:
        try:
            state = path.stat()
            version = (state.st_ino, state.st_size, state.st_mtime_ns)
            if path not in self._known or self._known[path][0] != version:
                found = x509.load_pem_x509_certificates(path.read_bytes())
                self._known[path] = version, [one.not_valid_after_utc.timestamp() for one in found]
        except (OSError, ValueError):
            return []
        return self._known[path][1]
