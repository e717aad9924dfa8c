"""What every contender stands on: the reranker, the issuer, and gates on free ports, each in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankgate.clients.embedded import FilterCommand, Stack, filter_command
from rankgate.clients.processes import Child
from rankgate.clients.state import merged
from rankgate.demo.issuer import DevIssuer
from rankgate.settings.text import to_toml

__all__ = ["Contender", "Ground", "exists", "ground"]

AUDIENCE = "rerank"
CONSTANT_POLICY = 'package rankgate\n\nimport rego.v1\n\ndecision := {"allowed": true}\n'
READY_S = 15.0


@dataclass(frozen=True, slots=True)
class Contender:
    """A running gate: its port and the processes that work for a call, by name."""

    name: str
    port: int
    pids: Mapping[str, int]


class Ground:
    """What all contenders share: the reranker, the issuer, a folder. Ends with the scope it was made in."""

    def __init__(self, folder: Path, scope: contextlib.AsyncExitStack) -> None:
        self.folder = folder
        self._scope = scope
        self._issuer = DevIssuer(lifetime_s=3600)
        self.upstream_port = 0

    def token(self, subject: str) -> str:
        """Return a token of the shipped policy's client `subject`."""
        return self._issuer.mint(sub=subject, aud=AUDIENCE, tenant="acme", groups=["search"])

    async def start(self) -> None:
        """Start what is shared. Raises StartError."""
        await self._issuer.start()
        self._scope.push_async_callback(self._issuer.stop)
        ready = self.folder / "upstream.port"
        child = await self.child("upstream", [sys.executable, "-P", "-m", "bench.upstream", "--ready", ready])
        await child.until(exists(ready), within_s=READY_S)
        self.upstream_port = int(ready.read_text())

    async def child(self, name: str, command: Sequence[str | Path]) -> Child:
        """Start a process that ends with the ground. Raises StartError."""
        root = str(Path(__file__).parent.parent)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
        child = await Child.start(name, command, log=self.folder / f"{name}.log", environment=environment)
        self._scope.push_async_callback(child.stop, grace_s=2.0)
        return child

    async def gate(
        self,
        name: str,
        settings: Mapping[str, Any] | None = None,
        *,
        policy: str = CONSTANT_POLICY,
        shown: Sequence[str] = ("envoy", "ext_authz-0", "ext_proc-0", "valkey"),
        beside: Mapping[str, int] | None = None,
        filters: FilterCommand = filter_command,
        **options: Any,
    ) -> Contender:
        """Start a gate; `shown` are its processes that count, `beside` others that do. Raises StartError."""
        folder = self.folder / name
        folder.mkdir()
        shipped = {"audit": {"redis_url": f"unix://{folder}/valkey.sock"}}
        config = self.write_settings(folder, merged(shipped, settings or {}), policy=policy)
        stack = Stack(config, folder / "run", filters=filters, **options)
        await self._scope.enter_async_context(stack)
        pids = {child.name: child.pid for child in stack.children if child.name in shown}
        return Contender(name, stack.port, {**pids, **(beside or {})})

    def write_settings(self, folder: Path, overrides: Mapping[str, Any], *, policy: str = CONSTANT_POLICY) -> Path:
        """Write the settings of a gate that lives in `folder`: what ships, this policy, no stream."""
        (folder / "masking.key").write_bytes(secrets.token_bytes(32))
        (folder / "upstream.key").write_text(secrets.token_hex(16))
        (folder / "policy").mkdir()
        (folder / "policy" / "policy.rego").write_text(policy)
        engine = overrides.get("policy", {}).get("engine")
        settings = {
            "listen": {"port": 0},
            "upstream": {"url": f"http://127.0.0.1:{self.upstream_port}"},
            "issuers": [
                {
                    "issuer": self._issuer.url,
                    "audiences": [AUDIENCE],
                    "insecure_http": True,
                    "claims": {"tenant": "tenant"},
                }
            ],
            "masking": {"key_file": folder / "masking.key"},
            "policy": {} if engine == "opa" else {"directory": folder / "policy"},
            "credentials": {"broker": "file", "file": folder / "upstream.key"},
            "audit": {"directory": folder / "audit"},
            "sockets": {"directory": folder / "sockets"},
            "envoy": {"access_log": str(folder / "access.log")},
        }
        path = folder / "gate.toml"
        path.write_text(to_toml(merged(settings, overrides)), encoding="utf-8")
        return path


@contextlib.asynccontextmanager
async def ground() -> AsyncIterator[Ground]:
    """Hold what contenders share; every process has ended and the folder is gone when this returns."""
    # Short: a unix socket's path may have about a hundred bytes.
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        async with contextlib.AsyncExitStack() as scope:
            shared = Ground(Path(folder), scope)
            await shared.start()
            yield shared


def exists(path: Path) -> Callable[[], Awaitable[bool]]:
    """Return what tells whether `path` is there."""

    async def there() -> bool:
        return path.exists()  # noqa: ASYNC240 - a look at a local file

    return there
