"""A small real HTTP server in a thread, for clients that block."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

__all__ = ["Exchange", "serving"]


class Exchange:
    """One request, and how it is answered."""

    def __init__(self, handler: BaseHTTPRequestHandler) -> None:
        self._handler = handler
        self.method = handler.command
        self.path, _, self.query = handler.path.partition("?")
        self.headers = {name.lower(): value for name, value in handler.headers.items()}
        self.body = handler.rfile.read(int(self.headers.get("content-length", 0)))

    def json(self, value: Any, status: int = 200, kind: str = "application/json") -> None:
        self.send(json.dumps(value).encode(), status, {"content-type": kind})

    def send(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._handler.send_response(status)
        for name, value in {**(headers or {}), "content-length": str(len(body))}.items():
            self._handler.send_header(name, value)
        self._handler.end_headers()
        self._handler.wfile.write(body)

    def stream(self, parts: Iterator[bytes]) -> None:
        """Send parts as they come, until there are no more or nobody reads."""
        self._handler.close_connection = True
        self._handler.send_response(200)
        self._handler.send_header("content-type", "text/event-stream")
        self._handler.end_headers()
        try:
            for part in parts:
                self._handler.wfile.write(part)
                self._handler.wfile.flush()
        except OSError:
            pass


class App(Protocol):
    """Answers requests; `url` is set before the first."""

    url: str

    def answer(self, exchange: Exchange) -> None: ...


@contextmanager
def serving(app: App) -> Iterator[None]:
    """Serve `app` on a free port of loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            app.answer(Exchange(self))

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A client that went away is none of the test's business."""

    server = Server(("127.0.0.1", 0), Handler)
    app.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
