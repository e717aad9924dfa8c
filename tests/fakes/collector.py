"""An OTLP collector (opentelemetry.proto.collector.trace.v1) that keeps the spans it is sent."""

from __future__ import annotations

from types import TracebackType
from typing import Any, NamedTuple, Self

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

__all__ = ["Collector", "Seen"]

SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"


class Seen(NamedTuple):
    """A span; ids are hexadecimal, times in nanoseconds, `status` 2 is an error."""

    service: str
    name: str
    kind: int
    trace_id: str
    parent_id: str
    start: int
    end: int
    status: int
    attributes: dict[str, Any]


class Collector:
    """Serves on a free port of loopback as an async context manager."""

    def __init__(self) -> None:
        self.spans: list[Seen] = []
        self.raw = b""
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = grpc.aio.server()
        method = grpc.unary_unary_rpc_method_handler(self._export)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Export": method}),))
        self.url = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.stop(None)

    async def _export(self, data: bytes, _: object) -> bytes:
        self.raw += data
        for group in ExportTraceServiceRequest.FromString(data).resource_spans:
            resource = {one.key: one.value.string_value for one in group.resource.attributes}
            for span in (span for scope in group.scope_spans for span in scope.spans):
                attributes = {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}
                self.spans.append(
                    Seen(
                        resource["service.name"], span.name, span.kind, span.trace_id.hex(), span.parent_span_id.hex(),
                        span.start_time_unix_nano, span.end_time_unix_nano, span.status.code, attributes,
                    )
                )  # fmt: skip
        return ExportTraceServiceResponse().SerializeToString()
