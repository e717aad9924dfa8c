"""A whole gate for tests: real Envoy, filters, Valkey, a development issuer and a reranker that records.

async with Gate({"limits": {"documents": 3}}) as gate:
    status, headers, body = await gate.post("/v2/rerank", {"query": "a", "documents": ["b"]})
    gate.upstream.requests[0].json
    await gate.events()
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import secrets
import shutil
import ssl
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp
from flow.upstream import RecordingUpstream
from redis.asyncio import Redis
from yarl import URL

from rankgate.clients.embedded import FilterCommand, Stack, admin, filter_command
from rankgate.clients.state import merged
from rankgate.demo.issuer import DevIssuer
from rankgate.settings.text import to_toml

__all__ = ["ALLOW_ALL", "Answer", "Gate", "trivial"]

ALLOW_ALL = 'package rankgate\n\nimport rego.v1\n\ndecision := {"allowed": true}\n'
AUDIENCE = "rerank"
# What a credential or a token may look like wherever it stands.
_SECRETS = re.compile(rb"upstream-[0-9a-f]{24}|eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


class Answer(NamedTuple):
    """What the caller received. `headers` have lower-case names; a name that came twice is joined by a comma."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Return the parsed body."""
        return json.loads(self.body)


def trivial(role: str, config: Path, slot: int) -> tuple[str | Path, ...]:
    """Run the filters of trivial.py instead of the real ones."""
    here = Path(__file__).parent
    return sys.executable, here / "trivial.py", role, "--config", config, "--slot", str(slot)


class Gate:
    """One gate of its own, in a folder of its own, on free ports.

    `overrides` are merged over settings that let everything pass; `policy` is the Rego text served;
    `options` go to Stack (`authz_slots`, `proc_slots`, ...); `upstream_tls` makes the reranker speak TLS.
    """

    def __init__(
        self,
        overrides: Mapping[str, Any] | None = None,
        *,
        policy: str = ALLOW_ALL,
        filters: FilterCommand = filter_command,
        upstream_tls: ssl.SSLContext | None = None,
        listen_tls: ssl.SSLContext | None = None,
        **options: Any,
    ) -> None:
        # Short: a unix socket's path may have about a hundred bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="gate-"))
        self.upstream = RecordingUpstream(tls=upstream_tls)
        self.issuer = DevIssuer(algorithm="ES256")
        self.credential = f"upstream-{secrets.token_hex(12)}"
        self._secrets = {self.credential.encode()}
        self.overrides = overrides or {}
        self._policy = policy
        self._filters = filters
        self._tls = listen_tls
        self._options = options
        self._stack: Stack | None = None
        self._http: aiohttp.ClientSession | None = None

    @property
    def stack(self) -> Stack:
        """Return the running processes."""
        assert self._stack is not None
        return self._stack

    @property
    def url(self) -> str:
        """Return the base URL callers use."""
        return self.stack.url

    @property
    def port(self) -> int:
        """Return the port callers use."""
        return self.stack.port

    async def __aenter__(self) -> Self:
        try:
            await self.upstream.start()
            await self.issuer.start()
            self._write_settings()
            self._stack = Stack(
                self.directory / "gate.toml",
                self.directory / "run",
                filters=self._filters,
                flush_ms=20,
                **self._options,
            )
            await self._stack.start()
            connector = aiohttp.TCPConnector(ssl=self._tls or True)
            self._http = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print(self.logs(), file=sys.stderr)
        elif self._filters is not trivial:
            # Every file that the whole gate wrote: logs, access log, trail, Valkey's own, sockets' folder, settings.
            await self._stop_stack()
            written = [file for file in self.directory.rglob("*") if file.is_file() and file.name != "upstream.key"]
            leaks = {file.name: found for file in written if (found := self.secrets_in(file.read_bytes()))}
            assert not leaks, leaks.keys()
        await self.stop()

    async def stop(self) -> None:
        """Stop everything and remove the folder."""
        await self._stop_stack()
        await self.issuer.stop()
        await self.upstream.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    async def _stop_stack(self) -> None:
        if self._http is not None:
            await self._http.close()
        if self._stack is not None:
            await self._stack.stop()

    def token(self, subject: str = "search", **claims: Any) -> str:
        """Return a signed token the gate accepts; a claim given as None is left out."""
        token = self.issuer.mint(**{"sub": subject, "aud": AUDIENCE, "tenant": "acme", "groups": ["search"], **claims})
        self._secrets.add(token.encode())
        return token

    def secrets_in(self, data: bytes) -> set[bytes]:
        """Return which callers' tokens, and whether the reranker's credential, stand in `data`."""
        return {found for found in _SECRETS.findall(data) if found in self._secrets}

    async def post(
        self, path: str, body: Any = b"", headers: Mapping[str, str] | None = None, *, token: str | None = ""
    ) -> Answer:
        """Send one call: bytes as they are, anything else as JSON. `token` None sends no Authorization."""
        return await self.request("POST", path, body, headers, token=token)

    async def request(
        self,
        method: str,
        path: str,
        body: Any = b"",
        headers: Mapping[str, str] | None = None,
        *,
        token: str | None = "",
    ) -> Answer:
        """Send one call with any method."""
        assert self._http is not None
        sent = {"content-type": "application/json"}
        if token is not None:
            sent["authorization"] = f"Bearer {token or self.token()}"
        data = io.BytesIO(body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode())
        timeout = aiohttp.ClientTimeout(total=30)
        async with self._http.request(
            method,
            URL(f"{self.url}{path}", encoded=True),
            data=data,
            headers={**sent, **(headers or {})},
            timeout=timeout,
        ) as answer:
            received = await answer.read()
            assert not self.secrets_in(b"\0".join([received, *(part for pair in answer.raw_headers for part in pair)]))
            names = dict.fromkeys(name.lower() for name in answer.headers)
            return Answer(answer.status, {name: ",".join(answer.headers.getall(name)) for name in names}, received)

    async def raw(self, data: bytes, *, within_s: float = 10.0, until_closed: bool = False) -> bytes:
        """Send bytes over a new connection; return what comes back until it is closed or, by default, one answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        received = b""
        try:
            writer.write(data)
            async with asyncio.timeout(within_s):
                while part := await reader.read(65_536):
                    received += part
                    if not until_closed and _complete(received):
                        break
        except (TimeoutError, ConnectionError):
            pass
        finally:
            writer.transport.abort()
        return received

    async def events(self, *, unconfirmed: int = 0, within_s: float = 10.0) -> list[dict[str, Any]]:
        """Return every event shipped so far: its flat fields, and `body` parsed.

        Waits until as many decisions have arrived as Envoy counted answers of ext_authz, and a completion for
        each call it allowed, except for `unconfirmed` of them. Fails after `within_s` seconds.
        """
        deadline = time.monotonic() + within_s
        while True:
            events = await self._read_streams()
            allowed = await self.counter("http.ingress.ext_authz.ok")
            decided = allowed + await self.counter("http.ingress.ext_authz.denied")
            seen = [str(event.get("type", "")) for event in events]
            decisions = sum("decision" in kind for kind in seen)
            completions = sum("completion" in kind for kind in seen)
            if decisions >= decided and completions >= allowed - unconfirmed:
                return events
            assert time.monotonic() < deadline, f"{decisions}/{decided} decisions, {completions}/{allowed} completions"
            await asyncio.sleep(0.02)

    async def decisions(self, **options: Any) -> list[dict[str, Any]]:
        """Return the decision events; `options` go to `events`."""
        return [event for event in await self.events(**options) if "decision" in str(event["type"])]

    async def completions(self, **options: Any) -> list[dict[str, Any]]:
        """Return the completion events; `options` go to `events`."""
        return [event for event in await self.events(**options) if "completion" in str(event["type"])]

    async def counter(self, name: str) -> int:
        """Return one of Envoy's counters or gauges; 0 where it was never touched."""
        text = await admin(self.stack.admin_socket, f"/stats?filter=^{name}$")
        return int(text.rsplit(":", 1)[1]) if ":" in text else 0

    async def settled(self, *, within_s: float = 10.0) -> None:
        """Wait until Envoy has no request open."""
        deadline = time.monotonic() + within_s
        while active := await self.counter("http.ingress.downstream_rq_active"):
            assert time.monotonic() < deadline, f"{active} requests are still open"
            await asyncio.sleep(0.02)

    def logs(self) -> str:
        """Return the text of every log of every part, Envoy's access log included."""
        files = sorted((self.directory / "run").glob("*.log")) if (self.directory / "run").exists() else []
        return "\n".join(f"--- {file.name}\n{file.read_text(errors='replace')}" for file in files)

    async def access_log(self, count: int, *, within_s: float = 10.0) -> list[dict[str, Any]]:
        """Return the access log once it has `count` entries."""
        file, lines = self.directory / "run" / "access.log", []
        deadline = time.monotonic() + within_s
        while len(lines := file.read_text().splitlines() if file.exists() else []) < count:
            assert time.monotonic() < deadline, f"{len(lines)} of {count} access log entries"
            await asyncio.sleep(0.02)
        return [json.loads(line) for line in lines]

    def journal(self, role: str, slot: int = 0) -> list[dict[str, Any]]:
        """Return what a filter of trivial.py wrote down."""
        file = self.directory / f"{role}-{slot}.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    async def _read_streams(self) -> list[dict[str, Any]]:
        found = []
        async with Redis(unix_socket_path=str(self.directory / "valkey.sock"), decode_responses=True) as redis:
            for key in sorted([key async for key in redis.scan_iter("audit:*", _type="stream")]):
                if not key.endswith(":checkpoints"):
                    found += [fields for _, fields in await redis.xrange(key)]
        return [{**fields, "body": json.loads(fields["body"])} for fields in found]

    def _write_settings(self) -> None:
        (self.directory / "masking.key").write_bytes(secrets.token_bytes(32))
        (self.directory / "upstream.key").write_text(self.credential)
        for name in ("policy", "run"):
            (self.directory / name).mkdir()
        (self.directory / "policy" / "policy.rego").write_text(self._policy)
        settings: dict[str, Any] = {
            "listen": {"address": "127.0.0.1", "port": 0},
            "upstream": {"url": self.upstream.url},
            "issuers": [
                {
                    "issuer": self.issuer.url,
                    "audiences": [AUDIENCE],
                    "algorithms": ["ES256"],
                    "insecure_http": True,
                    "claims": {"tenant": "tenant"},
                }
            ],
            "masking": {"key_file": str(self.directory / "masking.key")},
            "policy": {"engine": "embedded", "directory": str(self.directory / "policy")},
            "credentials": (
                {}
                if "broker" in self.overrides.get("credentials", {})
                else {"broker": "file", "file": str(self.directory / "upstream.key")}
            ),
            "audit": {
                "directory": str(self.directory / "audit"),
                "redis_url": f"unix://{self.directory}/valkey.sock",
            },
            "sockets": {"directory": str(self.directory / "sockets")},
            "envoy": {"access_log": str(self.directory / "run" / "access.log")},
        }
        (self.directory / "gate.toml").write_text(to_toml(merged(settings, self.overrides)))


def _complete(received: bytes) -> bool:
    head, separator, body = received.partition(b"\r\n\r\n")
    if not separator:
        return False
    for line in head.lower().split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return len(body) >= int(value)
        if name == b"transfer-encoding" and b"chunked" in value:
            return body.endswith(b"0\r\n\r\n")
    return True
