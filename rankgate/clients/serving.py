"""A filter's process: its socket, its gRPC server, what it tells of itself, and an orderly end."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import signal
import stat
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from rankgate import envoyconfig
from rankgate.clients import handover, logs, probes
from rankgate.clients.locks import held
from rankgate.clients.metrics import new_registry
from rankgate.clients.slot import Slot
from rankgate.clients.telemetry import Telemetry
from rankgate.clients.traces import tracing
from rankgate.errors import GateError, SettingsError
from rankgate.settings import Settings, SocketSettings, load

__all__ = ["Build", "Filter", "drain_s", "run"]

# At the end: how long what a filter holds may take to be released, after the last call.
RELEASE_S = 15.0


class Filter(Protocol):
    """What a filter brings to its server."""

    service: str

    def handler(self) -> grpc.GenericRpcHandler[bytes, bytes]:
        """Return the handler of the service's methods."""
        ...

    async def parts(self) -> Mapping[str, bool]:
        """Tell of every part that a call needs whether it works now."""
        ...

    def drain(self) -> None:
        """Let those calls go that can come again: the process ends."""
        ...

    def published(self) -> Mapping[str, Callable[[], str]]:
        """Return the JSON documents that its pages show beside their own, by path; GateError where one has none now."""
        ...


Build = Callable[[Settings, Slot, Telemetry], AbstractAsyncContextManager[Filter]]
"""Holds a filter: entered before the first call, left after the last one, whatever happened in between."""


def run(role: str, build: Build) -> int:
    """Run one filter process until SIGTERM or SIGINT; return its exit code.

    1 for a part that does not work, 2 for settings that cannot work; both say so on standard error.
    """
    # Long work shares the interpreter with the event loop; the default of 5 ms would be added at its every turn.
    sys.setswitchinterval(0.0005)
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

    def stop() -> None:
        if not stopping.is_set():
            stopping.set()
            _end_within(handover.LONGEST_S + drain_s(settings) + RELEASE_S, log)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    path = envoyconfig.filter_socket(settings.sockets.directory, slot.role, slot.number)
    async with contextlib.AsyncExitStack() as scope:
        scope.enter_context(_owned(path, settings.sockets))
        registry = new_registry(slot)
        tracer = await scope.enter_async_context(tracing(settings.traces, slot, deployment=settings.deployment))
        filter_ = await scope.enter_async_context(build(settings, slot, Telemetry(registry, tracer)))
        # What is loaded by now stays: no collection needs to look at it again while a caller waits.
        gc.collect()
        gc.freeze()
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", settings.grpc_message_bytes),
                ("grpc.max_send_message_length", settings.grpc_message_bytes),
            ]
        )
        status = handover.Handover()
        health_pb2_grpc.add_HealthServicer_to_server(status, server)
        server.add_generic_rpc_handlers((filter_.handler(),))
        _bind(server, path, settings.sockets)

        async def told(ready: bool) -> None:
            word = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
            await status.set(filter_.service, word)

        # The empty name stands for the process: SERVING until it is told to end, whatever its parts do.
        await status.set("", health_pb2.HealthCheckResponse.SERVING)
        watch = probes.Health(filter_.parts, told, registry)
        await scope.enter_async_context(watch.watching())
        port = settings.health.port(slot.role, slot.number)
        if port is not None:
            from rankgate.clients import pages

            port = await scope.enter_async_context(
                pages.serve(watch, registry, settings.health.address, port, filter_.published())
            )
        # Longer than the longest call, so that a rolling restart cuts none.
        scope.push_async_callback(server.stop, drain_s(settings))
        await server.start()
        log.info("serving", slot=slot.number, health_port=port)
        await stopping.wait()
        await status.done()
        await watch.drain()
        filter_.drain()
        await status.enter_graceful_shutdown()
    log.info("stopped", slot=slot.number)


def drain_s(settings: Settings) -> float:
    """Return how long calls under way may go on once no more are taken, in seconds."""
    return settings.deadline_s + 1.0


def _end_within(seconds: float, log: Any) -> None:
    """End the process after `seconds` if it is still there. What was answered is on disk by then."""

    def end() -> None:
        log.error("stop_overdue")
        os._exit(1)

    # A thread, because what hangs may be the loop, or a thread that the interpreter would wait for.
    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


@contextlib.contextmanager
def _owned(path: Path, sockets: SocketSettings) -> Iterator[None]:
    """Hold the socket's path. A second server there would take the first one's calls, and unlink its file."""
    try:
        _make_private(path.parent, sockets.group)
    except OSError as error:
        raise SettingsError(f"sockets.directory {path.parent} cannot be used: {error.strerror}") from None
    with held(
        path.with_suffix(".lock"),
        taken=f"another process serves {path}; give this one its own --slot",
        unusable=f"sockets.directory {path.parent} cannot be used",
    ):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _make_private(folder: Path, group: int | None) -> None:
    """Make `folder`, or accept one of this user's that others cannot enter; 0750, and `group` where one is given.

    Raises SettingsError for a folder that is not private, OSError for one that cannot be made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o750)
        made = True
    except FileExistsError:
        made = False
    found = folder.stat()
    if found.st_uid != os.geteuid():
        raise SettingsError(
            f"sockets.directory {folder} belongs to another user, who could replace the sockets; "
            "name a folder inside it, which is then made"
        )
    if found.st_mode & stat.S_IRWXO:
        raise SettingsError(
            f"sockets.directory {folder} can be entered by others, who could obtain credentials there; "
            f"run chmod o= {folder}, or name a folder inside it, which is then made"
        )
    if group is not None:
        _give(folder, group)
    if made or group is not None:
        folder.chmod(0o750)  # the umask, or whoever made it, may have kept the group out


def _bind(server: grpc.aio.Server, path: Path, sockets: SocketSettings) -> None:
    """Bind the socket with mode 0660: whoever can connect to it can obtain a credential.

    The mode is set after binding and not by the umask, which is one for the whole process, whose threads make files
    of their own meanwhile. Until then the folder keeps everyone out but its user and group, and nothing is served.
    """
    try:
        server.add_insecure_port(f"unix:{path}")
    except RuntimeError:
        raise SettingsError(f"cannot bind {path}; its name may be too long (about 100 characters) or taken") from None
    if sockets.group is not None:
        _give(path, sockets.group)
    path.chmod(0o660)


def _give(path: Path, group: int) -> None:
    try:
        os.chown(path, -1, group)
    except OSError as error:
        raise SettingsError(
            f"sockets.group {group} cannot be given {path}: {error.strerror}; let this process's user be a member of it"
        ) from None
