"""The authorization filter: its clients built from the settings, its one method, its start and end."""

from __future__ import annotations

import asyncio
import secrets
import time

import grpc

from ext_authz import wire
from ext_authz.check import check
from ext_authz.gate import Gate
from rankgate.audit import What
from rankgate.clients import logs
from rankgate.clients.credentials import broker_for
from rankgate.clients.engines import engine_for
from rankgate.clients.identity import Verifier
from rankgate.clients.masking import read_keys
from rankgate.clients.offload import Offload, deadline
from rankgate.clients.processor import ProcessorProbe
from rankgate.clients.recording import Recording
from rankgate.clients.serving import Slot
from rankgate.decision import Decision, Deny
from rankgate.detect import Detector
from rankgate.errors import GateError
from rankgate.masking import Plan
from rankgate.settings import Settings

__all__ = ["Authorization", "build", "new_decision_id"]

_BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"


class Authorization:
    """envoy.service.auth.v3.Authorization."""

    service = wire.SERVICE

    def __init__(
        self, gate: Gate, recording: Recording, verifier: Verifier, probe: ProcessorProbe, work: Offload
    ) -> None:
        self._gate = gate
        self._recording = recording
        self._verifier = verifier
        self._probe = probe
        self._work = work
        self._log = logs.logger("ext_authz")
        self._running: set[asyncio.Task[tuple[Decision, bytes]]] = set()

    def handler(self) -> grpc.GenericRpcHandler[bytes, bytes]:
        """Return the handler of Check; it takes and returns serialised messages."""
        method = grpc.unary_unary_rpc_method_handler(self._check)
        return grpc.method_handlers_generic_handler(wire.SERVICE, {wire.CHECK: method})

    async def start(self) -> None:
        """Load keys and policy. Calls are refused, not delayed, while an issuer is out."""
        await self._gate.policy.start()
        await self._verifier.start()
        await self._lifecycle(What.START)

    async def stop(self) -> None:
        """Finish what is being decided, record the end, release everything."""
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._lifecycle(What.STOP)
        await self._verifier.stop()
        await self._gate.policy.stop()
        await self._probe.stop()
        self._work.close()
        await self._recording.close()

    async def _check(self, data: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        decision_id = new_decision_id(self._gate.clock())
        try:
            http = wire.request_of(wire.parse(data))
        except Exception:  # noqa: BLE001 - decided and recorded like every other call: as a denial
            http = None
        # A caller that leaves does not undo what was decided: the record is written either way.
        task = asyncio.create_task(check(http, self._gate, decision_id, wire.rendered))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            decision, answer = await asyncio.shield(task)
        except Exception as error:  # noqa: BLE001 - its text would end up in Envoy's access log
            self._log.error("check_failed", decision_id=decision_id, error=type(error).__name__)
            await context.abort(grpc.StatusCode.INTERNAL, "internal")
        if isinstance(decision, Deny) and decision.status >= 500:
            self._log.warning("refused", decision_id=decision_id, reason=decision.reason.value)
        return answer

    async def _lifecycle(self, what: What) -> None:
        gate = self._gate
        detail = {"policy_revision": gate.policy.revision, "detector_revision": gate.detector.revision}
        try:
            await self._recording.lifecycle(what, "ext_authz", gate.clock(), detail)
        except GateError as error:  # requests are refused by the same fault, and say so
            self._log.error("lifecycle_not_recorded", reason=error.reason.value)


async def build(settings: Settings, slot: Slot) -> Authorization:
    """Build the filter with everything it works with. Raises SettingsError."""
    keys = read_keys(settings.masking)
    plans = {name: Plan.of(profile) for name, profile in settings.masking.profiles.items()} | {"none": Plan.none()}
    detector = Detector(
        settings.masking.everything.types,
        phone_regions=settings.masking.phone_regions,
        cache_bytes=settings.masking.cache_bytes,
    )
    verifier = Verifier(settings.issuers)
    probe = ProcessorProbe(settings.sockets.directory)
    work = Offload()
    recording = await Recording.open(settings, slot, keys)
    gate = Gate(
        settings=settings,
        keys=keys,
        plans=plans,
        all_types=Plan.of(settings.masking.everything),
        detector=detector,
        identities=verifier,
        policy=engine_for(settings.policy, changed=recording.policy_changed),
        processor=probe,
        credentials=broker_for(settings.credentials, keys.lease()),
        audit=recording,
        work=work,
        clock=time.time,
        deadline=deadline,
    )
    return Authorization(gate, recording, verifier, probe, work)


def new_decision_id(now: float) -> str:
    """Return a receipt: `dec-` and 26 characters, sortable by time (48 bits of milliseconds, 80 random bits)."""
    value = (int(now * 1000) << 80) | secrets.randbits(80)
    return "dec-" + "".join(_BASE32[(value >> shift) & 31] for shift in range(125, -1, -5))
