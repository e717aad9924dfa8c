"""A reranker that keeps every byte it is sent and answers as a test tells it to."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Exchanged", "RecordingUpstream", "Script"]


@dataclass(frozen=True, slots=True)
class Exchanged:
    """One request as it arrived: its bytes, and what they say."""

    raw: bytes
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    trailers: tuple[tuple[str, str], ...] = ()

    @property
    def json(self) -> Any:
        """Return the parsed body."""
        return json.loads(self.body)

    def values(self, name: str) -> list[str]:
        """Return every value of the header `name` (lower case)."""
        return [value for key, value in self.headers if key == name]


Body = bytes | Callable[[Exchanged], bytes] | None


@dataclass(frozen=True, slots=True)
class Script:
    """How to answer. `body` None ranks the documents; `drop` closes the connection instead of answering."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: Body = None
    content_type: str = "application/json"
    delay_s: float = 0.0
    drop: bool = False
    gzip: bool = False
    trailers: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class RecordingUpstream:
    """An HTTP/1.1 server over raw sockets. `requests` are whole requests, `bytes_seen` all that ever arrived."""

    script: Script = field(default_factory=Script)
    tls: ssl.SSLContext | None = None
    requests: list[Exchanged] = field(default_factory=list)
    connections: list[bytearray] = field(default_factory=list)
    port: int = 0
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Return its base URL."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def bytes_seen(self) -> bytes:
        """Return every byte received so far, connection by connection."""
        return b"".join(bytes(connection) for connection in self.connections)

    async def start(self) -> None:
        """Listen on a free port of loopback."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and close every connection."""
        if self._server is not None:
            self._server.close()
            for writer in list(self._open):
                writer.transport.abort()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = _Wire(reader)
        self.connections.append(wire.seen)
        self._open.add(writer)
        try:
            while (request := await wire.request()) is not None:
                self.requests.append(request)
                if not await self._answer(request, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, ValueError, IndexError):
            pass  # whatever arrived is kept; a broken request gets no answer
        finally:
            self._open.discard(writer)
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    async def _answer(self, request: Exchanged, writer: asyncio.StreamWriter) -> bool:
        script = self.script
        if script.delay_s:
            await asyncio.sleep(script.delay_s)
        if script.drop:
            return False
        body = script.body(request) if callable(script.body) else script.body
        if body is None:
            body = ranking(request)
        headers = [("content-type", script.content_type), *script.headers]
        if script.gzip:
            body = gzip.compress(body)
            headers.append(("content-encoding", "gzip"))
        if script.trailers:
            headers += [("transfer-encoding", "chunked"), ("trailer", ", ".join(name for name, _ in script.trailers))]
            body = b"%x\r\n%s\r\n0\r\n%s\r\n" % (len(body), body, _lines(script.trailers))
        elif not any(name == "content-length" for name, _ in headers):
            headers.append(("content-length", str(len(body))))
        writer.write(b"HTTP/1.1 %d Scripted\r\n%s\r\n%s" % (script.status, _lines(headers), body))
        await writer.drain()
        return True


def ranking(request: Exchanged) -> bytes:
    """Return the answer of a small lexical reranker in the API that the path and body speak."""
    call = json.loads(request.body)
    texts, scores = _scored(call)
    order = sorted(range(len(texts)), key=lambda index: (-scores[index], index))
    if "texts" in call:
        echo = {index: {"text": texts[index]} for index in order} if call.get("return_text") else {}
        return _dump([{"index": index, "score": scores[index], **echo.get(index, {})} for index in order])
    order = order[: call.get("top_n") or call.get("top_k") or len(order)]
    if "passages" in call:
        return _dump({"rankings": [{"index": index, "logit": 8 * scores[index] - 4} for index in order]})
    usage = {"usage": {"total_tokens": 8}}
    if "/voyage/" in request.target or "top_k" in call:
        results = [{"index": index, "relevance_score": scores[index]} for index in order]
        return _dump({"object": "list", "data": results, "model": call["model"], **usage})
    if "/vllm/" in request.target:
        echo = {index: {"document": {"text": texts[index], "multi_modal": None}} for index in order}
    else:
        echo = {index: {"document": {"text": texts[index]}} for index in order} if call.get("return_documents") else {}
    results = [{"index": index, "relevance_score": scores[index], **echo.get(index, {})} for index in order]
    answer: dict[str, Any] = {"id": "07734bd2-2473-4f07-94e1-0d9f0e6843cf", "results": results}
    if request.target.startswith(("/v1/", "/v2/")):
        version = {"version": request.target[2]}
        answer["meta"] = {"api_version": version, "billed_units": {"search_units": 1}}
    return _dump(answer | (usage if "/vllm/" in request.target else {}))


def _scored(call: dict[str, Any]) -> tuple[list[str], list[float]]:
    """Return the texts of a call's documents, and the share of the query's words in each."""
    documents = call.get("texts", call.get("passages", call.get("documents", [])))
    texts = [item if isinstance(item, str) else str(item.get("text", "")) for item in documents]
    query = call.get("query", "")
    words = set((query if isinstance(query, str) else str(query.get("text", ""))).lower().split())
    return texts, [len(words & set(text.lower().split())) / (len(words) or 1) for text in texts]


class _Wire:
    """Reads HTTP/1.1 requests and remembers each byte in order."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self.seen = bytearray()
        self._reader = reader

    async def request(self) -> Exchanged | None:
        began = len(self.seen)
        first = await self._line()
        if not first:
            return None
        method, target, _ = first.split(" ")
        headers = await self._headers()
        of = dict(headers)
        body, trailers = b"", ()
        if "chunked" in of.get("transfer-encoding", ""):
            body, trailers = await self._chunks()
        elif "content-length" in of:
            body = await self._exactly(int(of["content-length"]))
        return Exchanged(bytes(self.seen[began:]), method, target, headers, body, trailers)

    async def _chunks(self) -> tuple[bytes, tuple[tuple[str, str], ...]]:
        body = b""
        while size := int((await self._line()).split(";")[0], 16):
            body += await self._exactly(size)
            await self._line()
        return body, await self._headers()

    async def _headers(self) -> tuple[tuple[str, str], ...]:
        found = []
        while line := await self._line():
            name, _, value = line.partition(":")
            found.append((name.lower(), value.strip()))
        return tuple(found)

    async def _line(self) -> str:
        line = await self._reader.readline()
        self.seen += line
        return line.rstrip(b"\r\n").decode("latin-1")

    async def _exactly(self, count: int) -> bytes:
        part = b""
        while len(part) < count:
            read = await self._reader.read(count - len(part))
            self.seen += read
            if not read:
                raise asyncio.IncompleteReadError(part, count)
            part += read
        return part


def _lines(headers: Any) -> bytes:
    return b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in headers)


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
