"""What is compared: whole gates on free ports, each in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rankgate.clients.embedded import FilterCommand, Stack, filter_command
from rankgate.clients.processes import Child
from rankgate.clients.state import merged
from rankgate.demo.issuer import DevIssuer
from rankgate.resources import policies
from rankgate.settings.text import to_toml

__all__ = ["Contender", "Ground", "empty_filters", "ground", "without"]

AUDIENCE = "rerank"
CONSTANT_POLICY = 'package rankgate\n\nimport rego.v1\n\ndecision := {"allowed": true}\n'
READY_S = 15.0
EXT_AUTHZ, EXT_PROC = "envoy.filters.http.ext_authz", "envoy.filters.http.ext_proc"


@dataclass(frozen=True, slots=True)
class Contender:
    """A running gate: its port and the processes that work for a call, by name."""

    name: str
    port: int
    pids: Mapping[str, int]


def empty_filters(role: str, config: Path, slot: int) -> Sequence[str | Path]:
    """Return the command of one empty filter."""
    return sys.executable, "-P", "-m", "bench.floor", role, "--config", config, "--slot", str(slot)


def without(*names: str) -> Callable[[str], str]:
    """Return what takes these HTTP filters out of Envoy's YAML and leaves the rest as it is."""

    def strip(node: Any) -> Any:
        if isinstance(node, list):
            return [strip(item) for item in node if not (isinstance(item, dict) and item.get("name") in names)]
        if isinstance(node, dict):
            return {key: strip(value) for key, value in node.items() if key not in names}
        return node

    return lambda text: yaml.safe_dump(strip(yaml.safe_load(text)), sort_keys=False)


class Ground:
    """What all contenders share: the reranker, the issuer, a folder. Ends with the scope it was made in."""

    def __init__(self, folder: Path, scope: contextlib.AsyncExitStack) -> None:
        self.folder = folder
        self._scope = scope
        self._issuer = DevIssuer(lifetime_s=3600)
        self._upstream_port = 0

    def token(self, subject: str) -> str:
        """Return a token of the shipped policy's client `subject`."""
        return self._issuer.mint(sub=subject, aud=AUDIENCE, tenant="acme", groups=["search"])

    async def start(self) -> None:
        """Start what is shared. Raises StartError."""
        await self._issuer.start()
        self._scope.push_async_callback(self._issuer.stop)
        ready = self.folder / "upstream.port"
        child = await self.child("upstream", [sys.executable, "-P", "-m", "bench.upstream", "--ready", ready])
        await child.until(_exists(ready), within_s=READY_S)
        self._upstream_port = int(ready.read_text())

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
        shown: Sequence[str] = ("envoy", "ext_authz-0", "ext_proc-0", "valkey"),
        beside: Mapping[str, int] | None = None,
        filters: FilterCommand = filter_command,
        **options: Any,
    ) -> Contender:
        """Start a gate; `shown` are its processes that count, `beside` others that do. Raises StartError."""
        folder = self.folder / name
        folder.mkdir()
        shipped = {"audit": {"redis_url": f"unix://{folder}/valkey.sock"}}
        config = self.write_settings(folder, merged(shipped, settings or {}))
        stack = Stack(config, folder / "run", filters=filters, **options)
        await self._scope.enter_async_context(stack)
        pids = {child.name: child.pid for child in stack.children if child.name in shown}
        return Contender(name, stack.port, {**pids, **(beside or {})})

    def write_settings(self, folder: Path, overrides: Mapping[str, Any]) -> Path:
        """Write the settings of a gate that lives in `folder`: what ships, the constant policy, no stream."""
        (folder / "masking.key").write_bytes(secrets.token_bytes(32))
        (folder / "upstream.key").write_text(secrets.token_hex(16))
        (folder / "policy").mkdir()
        (folder / "policy" / "policy.rego").write_text(CONSTANT_POLICY)
        settings = {
            "listen": {"port": 0},
            "upstream": {"url": f"http://127.0.0.1:{self._upstream_port}"},
            "issuers": [
                {
                    "issuer": self._issuer.url,
                    "audiences": [AUDIENCE],
                    "insecure_http": True,
                    "claims": {"tenant": "tenant"},
                }
            ],
            "masking": {"key_file": folder / "masking.key"},
            "policy": {"directory": folder / "policy"},
            "credentials": {"broker": "file", "file": folder / "upstream.key"},
            "audit": {"directory": folder / "audit"},
            "sockets": {"directory": folder / "sockets"},
            "envoy": {"access_log": str(folder / "access.log")},
        }
        path = folder / "gate.toml"
        path.write_text(to_toml(merged(settings, overrides)), encoding="utf-8")
        return path

    # -- the contenders -------------------------------------------------------------------------------------------

    async def plain(self) -> Contender:
        """Start Envoy with the same listener and routes, without the two filters."""
        return await self.gate(
            "plain", shown=("envoy",), filters=empty_filters, valkey=False, bootstrap=without(EXT_AUTHZ, EXT_PROC)
        )

    async def floor(self) -> Contender:
        """Start Envoy with both filters empty."""
        return await self.gate("floor", filters=empty_filters, valkey=False)

    async def constant(self) -> Contender:
        """Start the whole gate with a policy that allows everything."""
        return await self.gate("constant")

    async def shipped(self) -> Contender:
        """Start the whole gate with the shipped policy in the embedded engine."""
        return await self.gate("embedded", {"policy": {"directory": policies()}})


@contextlib.asynccontextmanager
async def ground() -> AsyncIterator[Ground]:
    """Hold what contenders share; every process has ended and the folder is gone when this returns."""
    # Short: a unix socket's path may have about a hundred bytes.
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        async with contextlib.AsyncExitStack() as scope:
            shared = Ground(Path(folder), scope)
            await shared.start()
            yield shared


def _exists(path: Path) -> Callable[[], Any]:
    async def there() -> bool:
        return path.exists()

    return there
