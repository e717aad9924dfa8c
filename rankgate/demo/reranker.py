"""A development reranker that speaks Cohere v1, Cohere v2 and TEI, and remembers what reached it.

`python -m rankgate.demo.reranker --port N` serves it on loopback, or where `--address` says. Never a production engine.
"""

from __future__ import annotations

import argparse
import hmac
import json
import os
import uuid
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from rankgate.demo import bm25

__all__ = ["DemoReranker", "Received"]

BODY_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Received:
    """One request as the engine got it: path, headers (lower case) and the exact body."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Return the body, parsed."""
        return json.loads(self.body)


@dataclass(slots=True)
class DemoReranker:
    """A BM25 reranker on loopback. With `key`, a request without `Bearer <key>` gets 401.

    `received` holds the latest requests, oldest first, those it refused included; `count` is how many there were.
    """

    key: str | None = None
    received: deque[Received] = field(default_factory=lambda: deque(maxlen=16))
    count: int = 0
    url: str = ""
    _runner: web.AppRunner | None = None

    def app(self) -> web.Application:
        """Return the three rerank paths and /health."""
        app = web.Application(client_max_size=BODY_BYTES)
        app.add_routes(
            [
                web.get("/health", _health),
                web.post("/v1/rerank", self._cohere),
                web.post("/v2/rerank", self._cohere),
                web.post("/rerank", self._tei),
            ]
        )
        return app

    async def start(self, port: int = 0) -> str:
        """Listen on loopback, on a free port where `port` is 0; return the base URL."""
        self._runner = web.AppRunner(self.app(), access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self.url

    async def stop(self) -> None:
        """Close the listener and every connection."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _cohere(self, request: web.Request) -> web.Response:
        body = await self._body(request)
        if body is None:
            return web.json_response({"message": "invalid api token"}, status=401)
        v1 = request.path.startswith("/v1/")
        try:
            documents, texts = _documents(body, "documents")
            top_n = _top_n(body, len(documents))
        except ValueError as error:
            return web.json_response({"message": str(error)}, status=400)
        results: list[dict[str, object]] = []
        for index, score in _ranked(body["query"], texts)[:top_n]:
            entry: dict[str, object] = {"index": index, "relevance_score": score}
            if body.get("return_documents") is True:
                document = documents[index]
                entry["document"] = {"text": document} if isinstance(document, str) else document
            results.append(entry)
        meta = {"api_version": {"version": "1" if v1 else "2"}, "billed_units": {"search_units": 1}}
        return web.json_response({"id": str(uuid.uuid4()), "results": results, "meta": meta})

    async def _tei(self, request: web.Request) -> web.Response:
        body = await self._body(request)
        if body is None:
            return web.Response(status=401)
        try:
            _, texts = _documents(body, "texts")
        except ValueError as error:
            return web.json_response({"error": str(error), "error_type": "Validation"}, status=422)
        echo = body.get("return_text") is True
        return web.json_response(
            [
                {"index": index, "score": score} | ({"text": texts[index]} if echo else {})
                for index, score in _ranked(body["query"], texts)
            ]
        )

    async def _body(self, request: web.Request) -> dict[str, Any] | None:
        """Remember the request; return its JSON object, empty where it is none, or None without the key."""
        raw = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.received.append(Received(request.path, headers, raw))
        self.count += 1
        expected = f"Bearer {self.key}".encode()
        if self.key is not None and not hmac.compare_digest(headers.get("authorization", "").encode(), expected):
            return None
        try:
            body = json.loads(raw)
        except ValueError:
            return {}
        return body if isinstance(body, dict) else {}


async def _health(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


def _ranked(query: str, texts: list[str]) -> list[tuple[int, float]]:
    return sorted(enumerate(bm25.scores(query, texts)), key=lambda pair: (-pair[1], pair[0]))


def _documents(body: dict[str, Any], member: str) -> tuple[list[Any], list[str]]:
    """Return the documents as they were sent, and the text of each; a fault is a ValueError fit for the caller."""
    documents = body.get(member)
    if not isinstance(body.get("query"), str):
        raise ValueError("query must be a string")  # noqa: TRY004  (answered as 400)
    if not isinstance(documents, list) or not documents:
        raise ValueError(f"{member} must be a non-empty array")
    fields = body.get("rank_fields") or ["text"]
    texts = []
    for document in documents:
        if isinstance(document, dict):
            texts.append(" ".join(value for name in fields if isinstance(value := document.get(name), str)))
        elif isinstance(document, str):
            texts.append(document)
        else:
            raise ValueError(f"{member} must hold strings or objects")  # noqa: TRY004  (answered as 400)
    return documents, texts


def _top_n(body: dict[str, Any], count: int) -> int:
    top_n = body.get("top_n")
    if top_n is None:
        return count
    if not isinstance(top_n, int) or isinstance(top_n, bool) or top_n < 1:
        raise ValueError("top_n must be an integer of at least 1")
    return min(top_n, count)


def main() -> None:
    """Serve until interrupted; the key comes from the file in RERANKER_KEY_FILE, none is asked for without it."""
    parser = argparse.ArgumentParser(description="A BM25 reranker for development: Cohere v1, v2 and TEI.")
    parser.add_argument("--address", default="127.0.0.1", help="address to listen on  [default: loopback]")
    parser.add_argument("--port", type=int, default=9000)
    arguments = parser.parse_args()
    key_file = os.environ.get("RERANKER_KEY_FILE")
    key = Path(key_file).read_text(encoding="utf-8").strip() if key_file else None
    try:
        web.run_app(DemoReranker(key=key).app(), host=arguments.address, port=arguments.port, access_log=None)
    except OSError as error:
        where = f"{arguments.address}:{arguments.port}"
        parser.exit(1, f"cannot listen on {where}: {os.strerror(error.errno or 0)}; choose another with --port\n")


if __name__ == "__main__":
    main()
