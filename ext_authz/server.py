"""The authorization filter: its clients built from the settings, its one method, its start and end."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import grpc

from ext_authz import wire
from ext_authz.approvals import approvals_for
from ext_authz.check import check
from ext_authz.gate import Gate
from rankgate.audit import What
from rankgate.clients import gauges, logs
from rankgate.clients.certificates import Expiry
from rankgate.clients.credentials import broker_for
from rankgate.clients.engines import engine_for
from rankgate.clients.identity import Verifier
from rankgate.clients.masking import read_keys
from rankgate.clients.metrics import AuditMetrics, DecisionMetrics, ShadowMetrics, TimedPolicy
from rankgate.clients.offload import Offload, deadline
from rankgate.clients.processor import ProcessorProbe
from rankgate.clients.recording import Recording
from rankgate.clients.shadow import Shadow
from rankgate.clients.slot import Slot
from rankgate.clients.telemetry import Telemetry
from rankgate.clients.traces import Tracer
from rankgate.decision import Allow, Decision, Deny
from rankgate.detect import Detector
from rankgate.errors import GateError, Reason
from rankgate.headers import traceparent
from rankgate.masking import Maskers, Plan
from rankgate.request import HttpRequest
from rankgate.settings import Settings

__all__ = ["Authorization", "build", "new_decision_id"]

# RFC 4648 base32hex to Crockford's alphabet, which has no letters that are read as others; both sort like the numbers.
_CROCKFORD = bytes.maketrans(b"0123456789ABCDEFGHIJKLMNOPQRSTUV", b"0123456789abcdefghjkmnpqrstvwxyz")


Parts = Callable[[], Awaitable[Mapping[str, bool]]]


class Authorization:
    """envoy.service.auth.v3.Authorization."""

    service = wire.SERVICE

    def __init__(
        self,
        gate: Gate,
        recording: Recording,
        metrics: DecisionMetrics,
        tracer: Tracer,
        *,
        ready: Parts,
        published: Mapping[str, Callable[[], str]],
    ) -> None:
        self._gate = gate
        self._recording = recording
        self._metrics = metrics
        self._tracer = tracer
        self._ready = ready
        self._published = published
        self._log = logs.logger("ext_authz")
        self._running: set[asyncio.Task[tuple[Decision, bytes]]] = set()

    def handler(self) -> grpc.GenericRpcHandler[bytes, bytes]:
        """Return the handler of Check; it takes and returns serialised messages."""
        method = grpc.unary_unary_rpc_method_handler(self._check)
        return grpc.method_handlers_generic_handler(wire.SERVICE, {wire.CHECK: method})

    async def parts(self) -> Mapping[str, bool]:
        """Tell of every part that a decision needs whether it works now."""
        return await self._ready()

    def drain(self) -> None:
        """Send those away who wait for a person: they ask again, and another process keeps them."""
        if self._gate.approvals is not None:
            self._gate.approvals.room.close()

    def published(self) -> Mapping[str, Callable[[], str]]:
        """Return the JSON documents that anybody may read: the keys of what the gate signs."""
        return self._published

    async def start(self) -> None:
        """Record the start."""
        await self._lifecycle(What.START)

    async def stop(self) -> None:
        """Finish what is still being decided for callers who left, and record the end."""
        if self._running:
            await asyncio.wait(self._running, timeout=self._gate.settings.limits.check_timeout_s)
        await self._lifecycle(What.STOP)

    async def _check(self, data: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        began, began_ns = time.perf_counter(), time.time_ns()
        decision_id = new_decision_id(self._gate.clock())
        try:
            http = wire.request_of(wire.parse(data))
        except Exception:  # noqa: BLE001 - decided and recorded like every other call: as a denial
            http = None
        # A caller that leaves does not undo what was decided: the record is written either way.
        left = asyncio.Event()
        task = asyncio.create_task(check(http, self._gate, decision_id, wire.rendered, left))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            decision, answer = await asyncio.shield(task)
        except asyncio.CancelledError:
            left.set()
            raise
        except Exception as error:  # noqa: BLE001 - its text would end up in Envoy's access log
            self._metrics.failed()
            self._log.error("check_failed", decision_id=decision_id, error=type(error).__name__)
            await context.abort(grpc.StatusCode.INTERNAL, "internal")
        if isinstance(decision, Deny) and decision.status >= 500:
            self._log.warning("refused", decision_id=decision_id, reason=decision.reason.value)
        self._metrics.decided(decision, http.route if http else "", time.perf_counter() - began)
        if self._tracer.enabled:
            self._trace(decision, http, began_ns)
        return answer

    def _trace(self, decision: Decision, http: HttpRequest | None, began_ns: int) -> None:
        allowed = isinstance(decision, Allow)
        reason = Reason.ALLOWED if isinstance(decision, Allow) else decision.reason
        route = self._gate.settings.route(http.route) if http else None
        attributes: dict[str, str | int | bool] = {
            "rankgate.decision_id": decision.decision_id,
            "rankgate.route": route.name if route else "",
            "rankgate.allowed": allowed,
            "rankgate.reason": reason.value,
        }
        caller = traceparent(http.values("traceparent")) if http else ""
        self._tracer.span("rankgate.check", caller, began_ns, attributes, failed=reason.status >= 500)

    async def _lifecycle(self, what: What) -> None:
        gate = self._gate
        detail = {"policy_revision": gate.policy.revision, "detector_revision": gate.detector.revision}
        try:
            await self._recording.lifecycle(what, "ext_authz", gate.clock(), detail)
        except GateError as error:  # requests are refused by the same fault, and say so
            self._log.error("lifecycle_not_recorded", reason=error.reason.value)


@contextlib.asynccontextmanager
async def build(settings: Settings, slot: Slot, telemetry: Telemetry) -> AsyncIterator[Authorization]:
    """Hold everything the filter works with, ready for calls; raises SettingsError.

    Calls are refused, not delayed, while an issuer is out.
    """
    registry = telemetry.registry
    metrics = DecisionMetrics(registry, [route.name for route in settings.routes])
    keys = read_keys(settings.masking)
    plans = {name: Plan.of(profile) for name, profile in settings.masking.profiles.items()} | {"none": Plan.none()}
    detector = Detector(
        settings.masking.everything.types,
        phone_regions=settings.masking.phone_regions,
        cache_bytes=settings.masking.cache_bytes,
    )
    async with contextlib.AsyncExitStack() as scope:
        # First in and last out: what any other part does until its end can be recorded.
        recording = await Recording.open(settings, slot, keys, AuditMetrics(registry))
        scope.push_async_callback(recording.close)
        work = Offload()
        scope.callback(work.close)
        probe = ProcessorProbe(settings.sockets.directory)
        scope.push_async_callback(probe.stop)
        engine = engine_for(settings.policy, changed=recording.policy_changed)
        policy = TimedPolicy(engine, metrics)
        scope.push_async_callback(policy.stop)
        await policy.start()
        shadow = None
        if settings.policy.shadow_directory is not None:
            shadow = Shadow(settings, counted=ShadowMetrics(registry).decided, told=recording.shadowed)
            scope.push_async_callback(shadow.stop)
            shadow.start()
        verifier = Verifier(settings.issuers)
        scope.push_async_callback(verifier.stop)
        await verifier.start()
        broker = broker_for(settings.credentials, keys.lease())
        scope.push_async_callback(broker.stop)
        asking = await scope.enter_async_context(approvals_for(settings, keys))
        gate = Gate(
            settings=settings,
            keys=keys,
            maskers=Maskers(keys, settings.masking.phone_regions, remembers=settings.masking.cache_bytes > 0),
            plans=plans,
            all_types=Plan.of(settings.masking.everything),
            detector=detector,
            identities=verifier,
            policy=policy,
            processor=probe,
            approvals=asking and asking[0],
            credentials=broker,
            audit=recording,
            work=work,
            clock=time.time,
            deadline=deadline,
            shadow=shadow,
        )
        gauges.register(
            registry,
            gauges.recording(recording),
            gauges.issuers(verifier),
            gauges.policy(engine),
            gauges.detector(detector),
            gauges.offload(work),
            gauges.certificates(Expiry(settings)),
            *([gauges.waiting(asking[1])] if asking else []),
        )

        async def ready() -> Mapping[str, bool]:
            # Not Redis, without which calls go on; not the reranker, whose own probe tells.
            return {
                "policy": policy.ready,
                "issuers": verifier.ready,
                "audit": recording.ready,
                "ext_proc": await probe.look(),
            }

        authorization = Authorization(
            gate, recording, metrics, telemetry.tracer, ready=ready, published=broker.published()
        )
        await authorization.start()
        scope.push_async_callback(authorization.stop)
        yield authorization


def new_decision_id(now: float) -> str:
    """Return a receipt: `dec-` and 26 characters, sortable by time (48 bits of milliseconds, 80 random bits)."""
    value = (int(now * 1000) << 80) | secrets.randbits(80)
    # The last 26 of 32 characters hold 130 bits.
    return "dec-" + base64.b32hexencode(value.to_bytes(20, "big"))[6:].translate(_CROCKFORD).decode("ascii")
