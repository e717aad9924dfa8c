"""The issuer that people log in at, as far as a console asks it before anybody has: what it announces, and its keys."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from certificates import identity

from rankgate.demo.issuer import SigningKey

__all__ = ["LOGIN_HOST", "PeopleIssuer"]

LOGIN_HOST = "login.example"


class PeopleIssuer:
    """A context manager; `address` is host and port, `authority` the certificate file to trust it by."""

    def __init__(self, folder: Path) -> None:
        own = identity(folder, "127.0.0.1")
        self.authority = own.certificate
        pages: dict[str, dict[str, Any]] = {}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = pages.get(self.path)
                body = json.dumps(found).encode()
                self.send_response(200 if found else 404)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.socket = own.server().wrap_socket(self._server.socket, server_side=True)
        self.address = f"127.0.0.1:{self._server.server_port}"
        at = f"https://{self.address}"
        pages["/jwks"] = {"keys": [SigningKey("RS256").public]}
        pages["/.well-known/openid-configuration"] = {
            "issuer": at, "jwks_uri": f"{at}/jwks", "authorization_endpoint": f"{at}/authorize",
            "token_endpoint": f"{at}/token", "response_types_supported": ["code"],
            "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256"],
        }  # fmt: skip

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
