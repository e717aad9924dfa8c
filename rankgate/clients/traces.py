"""One span for each call of a filter, by W3C trace context, exported by OTLP in the background.

OpenTelemetry is imported only where `traces.endpoint` is set. A span is made when its call is over, from what is known
then: nothing is carried through the work, and a call that is not traced costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from rankgate.clients.slot import Slot
from rankgate.errors import SettingsError
from rankgate.settings import TraceSettings
from rankgate.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

__all__ = ["NO_TRACES", "Tracer", "tracing"]

# How long one batch may take, and all that is left at the end.
EXPORT_S = 5.0
END_S = 3.0

Attributes = Mapping[str, str | int | bool]


class Tracer(Protocol):
    """Takes the spans of a filter."""

    enabled: bool

    def span(self, name: str, traceparent: str, began_ns: int, attributes: Attributes, *, failed: bool) -> None:
        """Add the span of a call that began at `began_ns` (since 1970) and ends now.

        `traceparent` is the caller's (W3C Trace Context level 1), empty where there is none.
        """
        ...


class _NoTracer:
    enabled = False

    def span(self, name: str, traceparent: str, began_ns: int, attributes: Attributes, *, failed: bool) -> None:
        """Drop the span."""


NO_TRACES: Tracer = _NoTracer()


@contextlib.asynccontextmanager
async def tracing(settings: TraceSettings, slot: Slot, *, deployment: str) -> AsyncIterator[Tracer]:
    """Hold the tracer of one process; at the end, send what is left. Raises SettingsError.

    A collector that is out loses spans and holds up nothing.
    """
    if settings.endpoint is None:
        yield NO_TRACES
        return
    tracer = _OtlpTracer(settings, slot, deployment)
    try:
        yield tracer
    finally:
        await asyncio.to_thread(tracer.close)


class _OtlpTracer:
    enabled = True

    def __init__(self, settings: TraceSettings, slot: Slot, deployment: str) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider, sampling
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError:
            raise SettingsError("traces.endpoint needs OpenTelemetry; install rankgate[otel] or unset it") from None
        self._kind = trace.SpanKind.SERVER
        self._failed = trace.Status(trace.StatusCode.ERROR)
        self._parent = TraceContextTextMapPropagator()
        self._provider = TracerProvider(
            sampler=sampling.ParentBased(sampling.TraceIdRatioBased(settings.ratio)),
            resource=Resource({
                "service.name": f"rankgate-{slot.role.replace('_', '-')}",
                "service.namespace": deployment,
                "service.instance.id": str(slot.number),
                "service.version": VERSION,
            }),
            shutdown_on_exit=False,
        )  # fmt: skip
        self._exporter = _exporter(settings)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("rankgate", VERSION)

    def span(self, name: str, traceparent: str, began_ns: int, attributes: Attributes, *, failed: bool) -> None:
        parent = self._parent.extract({"traceparent": traceparent} if traceparent else {})
        span = self._tracer.start_span(name, parent, self._kind, dict(attributes), start_time=began_ns)
        if failed:
            span.set_status(self._failed)
        span.end()

    def close(self) -> None:
        """Send what is left, for as long as that may take; what is not sent by then is lost."""
        # A thread of its own: the provider would go on for as many batches as there are.
        sending = threading.Thread(target=self._provider.shutdown, name="rankgate-spans", daemon=True)
        sending.start()
        sending.join(END_S)
        if sending.is_alive():
            self._exporter.shutdown()
            sending.join(END_S)


def _exporter(settings: TraceSettings) -> SpanExporter:
    import grpc
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    credentials = None
    if urlsplit(settings.endpoint or "").scheme == "https":
        try:
            roots = settings.ca_file.read_bytes() if settings.ca_file else None
        except OSError as error:
            raise SettingsError(f"traces.ca_file {settings.ca_file} cannot be read: {error.strerror}") from None
        credentials = grpc.ssl_channel_credentials(roots)
    return OTLPSpanExporter(settings.endpoint, insecure=credentials is None, credentials=credentials, timeout=EXPORT_S)
