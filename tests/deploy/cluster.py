"""The part of a cluster that a gate asks: an API server that publishes the keys of service accounts, over TLS."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from certificates import identity

from rankgate.demo.issuer import SigningKey

__all__ = ["ISSUER_HOST", "Cluster"]

ISSUER_HOST = "kubernetes.default.svc.cluster.local"


class Cluster:
    """A context manager; `address` is host and port, `authority` the PEM text that `kube-root-ca.crt` would hold."""

    def __init__(self, folder: Path) -> None:
        self._key = SigningKey("RS256")
        own = identity(folder, "127.0.0.1")
        self.authority = own.certificate.read_text()
        keys = json.dumps({"keys": [self._key.public]}).encode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = self.path == "/openid/v1/jwks"
                self.send_response(200 if found else 404)
                # What the API server says (RFC 7517 section 8.5.2).
                self.send_header("content-type", "application/jwk-set+json")
                self.send_header("content-length", str(len(keys) if found else 0))
                self.end_headers()
                self.wfile.write(keys if found else b"")

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.socket = own.server().wrap_socket(self._server.socket, server_side=True)
        self.address = f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def token(self, namespace: str, account: str, audience: str = "rerank") -> str:
        """Return what the kubelet projects: a bound service account token, without a `typ`."""
        now = int(time.time())
        claims = {
            "iss": f"https://{self.address}",
            "sub": f"system:serviceaccount:{namespace}:{account}",
            "aud": [audience],
            "iat": now,
            "nbf": now,
            "exp": now + 600,
            "jti": "5d1c0f55-0000-4000-8000-000000000001",
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": {"name": account, "uid": "5d1c0f55-0000-4000-8000-000000000002"},
                "pod": {"name": "caller-0", "uid": "5d1c0f55-0000-4000-8000-000000000003"},
            },
        }
        return self._key.sign({"alg": "RS256", "kid": self._key.id}, claims)
