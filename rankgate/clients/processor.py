"""Is ext_proc there? Asked before a credential is lent, because without it nothing can be masked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

__all__ = ["ProcessorProbe"]

SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"
CACHE_S = 1.0
TIMEOUT_S = 0.5


class ProcessorProbe:
    """Asks the health service on every ext_proc socket (grpc.health.v1); a good answer is good for a second.

    A bad one is good for the callers who shared the question: when ext_proc is there, nobody is refused any more.
    """

    def __init__(self, directory: Path, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._monotonic = monotonic
        self._channels: dict[Path, grpc.aio.Channel] = {}
        self._seen: float | None = None
        self._asking: asyncio.Task[bool] | None = None

    async def ready(self) -> bool:
        """Tell whether at least one ext_proc process serves. Concurrent callers share one question."""
        if self._seen is not None and self._monotonic() - self._seen < CACHE_S:
            return True
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(self._asking)

    async def look(self) -> bool:
        """Ask now, for those who only watch: what they see is no answer to a call that comes later."""
        return any(await asyncio.gather(*(self._serving(path) for path in self._directory.glob("ext_proc-*.sock"))))

    async def stop(self) -> None:
        """Close every channel."""
        if self._asking is not None:
            self._asking.cancel()
        await asyncio.gather(*(channel.close(None) for channel in self._channels.values()))
        self._channels.clear()

    async def _ask(self) -> bool:
        ready = await self.look()
        self._seen = self._monotonic() if ready else None
        return ready

    async def _serving(self, path: Path) -> bool:
        if path not in self._channels:
            # Ask at once after an outage instead of waiting out gRPC's reconnect back-off.
            options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500)]
            self._channels[path] = grpc.aio.insecure_channel(f"unix:{path}", options=options)
        try:
            stub = health_pb2_grpc.HealthStub(self._channels[path])
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
