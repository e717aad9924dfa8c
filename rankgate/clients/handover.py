"""Before a process ends: Envoy is told, and its calls are served until Envoy gives them to another process."""

from __future__ import annotations

import asyncio
import math

import grpc
from grpc_health.v1 import health, health_pb2

from rankgate.envoyconfig import HEALTH_CHECK

__all__ = ["LONGEST_S", "Handover"]

# Who has not asked for so long does not balance between processes, or is gone itself.
SILENCE_S = 4 * HEALTH_CHECK.interval_s
# Envoy heard as many answers as it takes when it asks once more.
ASKS = HEALTH_CHECK.failures + 1
LONGEST_S = ASKS * SILENCE_S


class Handover(health.aio.HealthServicer):  # type: ignore[misc,name-defined]  # untyped, and added at run time
    """grpc.health.v1 of one process; notices who asks for the process itself, by the empty name.

    Envoy does so where a filter has several processes, and nobody where there is no other to take over.
    """

    def __init__(self) -> None:
        super().__init__()
        self._asked_at = -math.inf
        self._asked = asyncio.Event()

    async def Check(  # noqa: N802 - the name of the method in grpc.health.v1
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> health_pb2.HealthCheckResponse:
        """Answer as the base class does."""
        if not request.service:
            self._asked_at = asyncio.get_running_loop().time()
            self._asked.set()
        return await super().Check(request, context)

    async def done(self) -> None:
        """Say that the process wants no more calls; return once Envoy knows, at once where nobody asks.

        The service's own name stays as it is: until then it serves, and ext_authz may lend a credential for it.
        """
        await self.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        for _ in range(ASKS):
            self._asked.clear()
            try:
                async with asyncio.timeout_at(self._asked_at + SILENCE_S):
                    await self._asked.wait()
            except TimeoutError:
                return
