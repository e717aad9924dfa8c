"""The processing filter: one stream a call, its start and end, and the completion event."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping

import grpc

from ext_proc import wire
from ext_proc.completions import Completions
from ext_proc.conversation import Abort, Action, Event, Refuse, RequestBody, ResponseBody, ResponseHeaders
from ext_proc.exchange import Exchange, Tools
from ext_proc.record import completion_event
from rankgate.audit import CompletionEvent, Outcome, What
from rankgate.clients import gauges, logs
from rankgate.clients.masking import read_keys
from rankgate.clients.metrics import AuditMetrics, ProcessingMetrics
from rankgate.clients.offload import Offload, deadline
from rankgate.clients.recording import Recording
from rankgate.clients.slot import Slot
from rankgate.clients.telemetry import Telemetry
from rankgate.clients.traces import Tracer
from rankgate.detect import Detector
from rankgate.errors import GateError
from rankgate.masking import Maskers, Plan
from rankgate.settings import Settings

__all__ = ["Processing", "build"]

Context = grpc.aio.ServicerContext[bytes, bytes]


class Processing:
    """envoy.service.ext_proc.v3.ExternalProcessor."""

    service = wire.SERVICE

    def __init__(
        self,
        tools: Tools,
        recording: Recording,
        work: Offload,
        clock: Callable[[], float],
        metrics: ProcessingMetrics,
        tracer: Tracer,
    ) -> None:
        self._tools = tools
        self._recording = recording
        self._work = work
        self._clock = clock
        self._metrics = metrics
        self._tracer = tracer
        self._log = logs.logger("ext_proc")
        self.completions = Completions(recording)
        """What became of calls, not yet recorded."""

    def handler(self) -> grpc.GenericRpcHandler[bytes, bytes]:
        """Return the handler of Process; it takes and returns serialised messages."""
        method = grpc.stream_stream_rpc_method_handler(self._process)
        return grpc.method_handlers_generic_handler(wire.SERVICE, {wire.PROCESS: method})

    async def parts(self) -> Mapping[str, bool]:
        """Tell whether what becomes of a call could be recorded now; masking itself needs nobody."""
        return {"audit": self._recording.ready}

    def drain(self) -> None:
        """Let nothing go: every call under way is soon over."""

    def published(self) -> Mapping[str, Callable[[], str]]:
        """Return nothing: this filter has no document for anybody."""
        return {}

    async def start(self) -> None:
        """Record the start."""
        await self._lifecycle(What.START)

    async def stop(self) -> None:
        """Finish the records of calls that ended, and record the end."""
        await self.completions.flush()
        await self._lifecycle(What.STOP)

    async def _process(self, _requests: object, context: Context) -> None:
        """Carry one call. Ends well only after every phase was answered: a clean early end is a leak."""
        exchange = Exchange(self._tools)
        started, began_ns = self._clock(), time.time_ns()
        forwarded = 0.0
        word = ""
        try:
            while (data := await context.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]  # missing in the stubs
                event = wire.event_of(wire.parse(data))
                if event is None:
                    continue
                if isinstance(event, ResponseHeaders) and forwarded and not event.local:
                    self._metrics.answered(time.perf_counter() - forwarded)
                action = await self._step(exchange, event)
                if isinstance(action, Abort):
                    word = action.word
                    break
                await context.write(wire.response_of(event, action).SerializeToString())
                if isinstance(event, RequestBody):
                    forwarded = time.perf_counter()
                if isinstance(action, Refuse):
                    self._log.warning("refused", decision_id=_decision(exchange), reason=action.details)
        except Exception as error:  # noqa: BLE001 - its text would end up in Envoy's access log
            word = "internal"
            self._log.error("process_failed", error=type(error).__name__)
        finally:
            self._complete(exchange, started, began_ns)
        if word:
            self._metrics.aborted(word)
            self._log.warning("aborted", decision_id=_decision(exchange), word=word)
        if word or not exchange.finished:
            await context.abort(grpc.StatusCode.INTERNAL, word or "incomplete")

    async def _step(self, exchange: Exchange, event: Event) -> Action:
        if not isinstance(event, (RequestBody, ResponseBody)):
            return exchange.step(event)
        tenant = exchange.handoff.tenant if exchange.handoff else ""
        began = time.perf_counter()
        try:
            return await self._work.run(exchange.effort(event), tenant, lambda: exchange.step(event))
        except GateError as refusal:
            return exchange.refuse(refusal)
        finally:
            body = "request" if isinstance(event, RequestBody) else "response"
            self._metrics.stepped(body, time.perf_counter() - began)

    def _complete(self, exchange: Exchange, started: float, began_ns: int) -> None:
        """Record what became of the call, without waiting: the stream may be cancelled at any moment."""
        summary = exchange.end()
        if summary is None or exchange.handoff is None:
            return
        now = self._clock()
        event = completion_event(exchange.handoff, summary, started, now)
        if self._tracer.enabled:
            self._trace(event, began_ns)
        self.completions.add(event)

    def _trace(self, event: CompletionEvent, began_ns: int) -> None:
        attributes: dict[str, str | int | bool] = {
            "rankgate.decision_id": event.decision_id,
            "rankgate.route": event.route,
            "rankgate.outcome": event.outcome.value,
            "rankgate.reason": event.reason.value if event.reason else "",
        }
        failed = event.outcome is Outcome.ABORTED or (event.reason is not None and event.reason.status >= 500)
        self._tracer.span("rankgate.process", event.trace, began_ns, attributes, failed=failed)

    async def _lifecycle(self, what: What) -> None:
        detail = {"detector_revision": self._tools.detector.revision}
        try:
            await self._recording.lifecycle(what, "ext_proc", self._clock(), detail)
        except GateError as error:
            self._log.error("lifecycle_not_recorded", reason=error.reason.value)


@contextlib.asynccontextmanager
async def build(settings: Settings, slot: Slot, telemetry: Telemetry) -> AsyncIterator[Processing]:
    """Hold everything the filter works with, ready for calls; raises SettingsError."""
    keys = read_keys(settings.masking)
    tools = Tools(
        detector=Detector(
            settings.masking.everything.types,
            phone_regions=settings.masking.phone_regions,
            cache_bytes=settings.masking.cache_bytes,
        ),
        keys=keys,
        maskers=Maskers(keys, settings.masking.phone_regions, remembers=settings.masking.cache_bytes > 0),
        all_types=Plan.of(settings.masking.everything),
        routes={route.name: route for route in settings.routes},
        max_masked_bytes=settings.limits.masked_body_bytes,
        max_response_bytes=settings.limits.response_bytes,
        hidden=settings.hidden_headers,
        deadline=lambda: deadline(settings.limits.process_timeout_s),
    )
    async with contextlib.AsyncExitStack() as scope:
        # First in and last out: what any other part does until its end can be recorded.
        recording = await Recording.open(settings, slot, keys, AuditMetrics(telemetry.registry))
        scope.push_async_callback(recording.close)
        work = Offload()
        scope.callback(work.close)
        gauges.register(
            telemetry.registry, gauges.recording(recording), gauges.detector(tools.detector), gauges.offload(work)
        )
        metrics = ProcessingMetrics(telemetry.registry)
        processing = Processing(tools, recording, work, time.time, metrics, telemetry.tracer)
        await processing.start()
        scope.push_async_callback(processing.stop)
        yield processing


def _decision(exchange: Exchange) -> str:
    return exchange.handoff.decision_id if exchange.handoff else ""
