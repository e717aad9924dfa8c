"""A filter's process: its socket, its gRPC server, its health, and an orderly end."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from rankgate.clients import logs
from rankgate.errors import GateError, SettingsError
from rankgate.settings import Settings, SocketSettings, load

__all__ = ["Filter", "Slot", "run"]


@dataclass(frozen=True, slots=True)
class Slot:
    """Which process of a role this is: `role` and number name its socket and its log."""

    role: str
    number: int


class Filter(Protocol):
    """What a filter brings to its server."""

    service: str

    def handler(self) -> grpc.GenericRpcHandler[bytes, bytes]:
        """Return the handler of the service's methods."""
        ...

    async def start(self) -> None:
        """Acquire everything; returns when calls can be served."""
        ...

    async def stop(self) -> None:
        """Release everything, after the last call."""
        ...


Build = Callable[[Settings, Slot], Awaitable[Filter]]


def run(role: str, build: Build) -> int:
    """Run one filter process until SIGTERM or SIGINT; return its exit code.

    1 for a part that does not work, 2 for settings that cannot work; both say so on standard error.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {role}")
    parser.add_argument("--config", type=Path, required=True, help="settings file (TOML)")
    parser.add_argument("--slot", type=int, default=0, help="number of this process among those of its role")
    arguments = parser.parse_args()
    try:
        settings = load(arguments.config)
        logs.configure(settings.log)
        _run_loop(_serve(settings, Slot(role, arguments.slot), build))
    except SettingsError as error:
        print(f"{role}: {error}", file=sys.stderr)  # noqa: T201 - before or beside the log
        return 2
    except GateError as error:
        print(f"{role}: {error.reason.value}: {error.detail}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _run_loop(main: Awaitable[None]) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(_coroutine(main))
    else:
        uvloop.run(_coroutine(main))


async def _coroutine(awaitable: Awaitable[None]) -> None:
    await awaitable


async def _serve(settings: Settings, slot: Slot, build: Build) -> None:
    log = logs.logger(slot.role)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    path = settings.sockets.directory / f"{slot.role}-{slot.number}.sock"
    with _owned(path, settings.sockets):
        filter_ = await build(settings, slot)
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", settings.grpc_message_bytes),
                ("grpc.max_send_message_length", settings.grpc_message_bytes),
            ]
        )
        status = health.aio.HealthServicer()  # type: ignore[attr-defined]  # added at run time where asyncio exists
        health_pb2_grpc.add_HealthServicer_to_server(status, server)
        server.add_generic_rpc_handlers((filter_.handler(),))
        await filter_.start()
        try:
            _bind(server, path, settings.sockets)
            await server.start()
            for service in ("", filter_.service):
                await status.set(service, health_pb2.HealthCheckResponse.SERVING)
            log.info("serving", slot=slot.number)
            await stopping.wait()
            await status.enter_graceful_shutdown()
            # Longer than the longest call, so that a rolling restart cuts none.
            await server.stop(settings.upstream.timeout_s + settings.limits.check_timeout_s)
        finally:
            await filter_.stop()
        log.info("stopped", slot=slot.number)


@contextlib.contextmanager
def _owned(path: Path, sockets: SocketSettings) -> Iterator[None]:
    """Hold the socket's path. A second server there would take the first one's calls, and unlink its file."""
    try:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingsError(f"sockets.directory {sockets.directory} cannot be used: {error.strerror}") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SettingsError(f"another process serves {path}; give this one its own --slot") from None
        yield
        path.unlink(missing_ok=True)
    finally:
        os.close(lock)


def _bind(server: grpc.aio.Server, path: Path, sockets: SocketSettings) -> None:
    """Bind the socket with mode 0660: whoever can connect to it can obtain a credential."""
    before = os.umask(0o117)
    try:
        server.add_insecure_port(f"unix:{path}")
    except RuntimeError:
        raise SettingsError(f"cannot bind {path}; its name may be too long (about 100 characters) or taken") from None
    finally:
        os.umask(before)
    if sockets.group is not None:
        try:
            os.chown(path, -1, sockets.group)
        except OSError as error:
            raise SettingsError(f"sockets.group {sockets.group} cannot own {path}: {error.strerror}") from None
