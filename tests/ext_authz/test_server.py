"""On the wire: every Check is answered by a decision that was recorded, whatever Envoy sent and whoever leaves."""

import asyncio
import json

import grpc
import pytest
from fakes.gate import BODY, Policy, Trail, gate
from fakes.waiting import until
from google.protobuf.json_format import MessageToDict

from ext_authz.server import Authorization, new_decision_id
from ext_authz.wire import CHECK, SERVICE
from rankgate.clients.metrics import DecisionMetrics
from rankgate.clients.slot import Slot
from rankgate.clients.telemetry import Telemetry
from rankgate.errors import GateError, Reason
from rankgate.pb import ext_authz_pb2 as pb

METHOD = f"/{SERVICE}/{CHECK}"


class Recorder(Trail):
    """A trail with a lifecycle, and an end."""

    closed = False

    async def lifecycle(self, what, component, now, detail):
        pass

    async def close(self):
        self.closed = True


class ServedPolicy(Policy):
    async def start(self):
        pass

    async def stop(self):
        pass


def request(**http):
    message = pb.CheckRequest()
    message.attributes.context_extensions["route"] = "rerank"
    fields = {"method": "POST", "path": "/v2/rerank", "raw_body": BODY, **http}
    for name, value in fields.items():
        setattr(message.attributes.request.http, name, value)
    for key, value in (("authorization", b"Bearer good"), ("content-type", b"application/json")):
        message.attributes.request.http.header_map.headers.add(key=key, raw_value=value)
    return message.SerializeToString()


async def ready():
    return {}


@pytest.fixture
async def serve(tmp_path):
    servers = []

    async def _serve(one):
        telemetry = Telemetry.local(Slot("ext_authz", 0))
        metrics = DecisionMetrics(telemetry.registry, ["rerank"])
        authorization = Authorization(one, one.audit, metrics, telemetry.tracer, ready=ready, published={})
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((authorization.handler(),))
        server.add_insecure_port(f"unix:{tmp_path}/s")
        await server.start()
        channel = grpc.aio.insecure_channel(f"unix:{tmp_path}/s")
        servers.append((server, channel))
        return channel.unary_unary(METHOD)

    yield _serve
    for server, channel in servers:
        await channel.close(None)
        await server.stop(None)


async def test_an_allowed_call_is_answered_with_code_zero_and_recorded_once(serve):
    one = gate(ServedPolicy(), trail=Recorder())
    answer = pb.CheckResponse.FromString(await (await serve(one))(request()))
    assert answer.status.code == 0
    (event,) = one.audit.events
    assert MessageToDict(answer.dynamic_metadata)["rankgate"]["decision_id"] == event.decision_id


async def test_what_cannot_be_read_is_denied_and_recorded(serve):
    one = gate(ServedPolicy(), trail=Recorder())
    answer = pb.CheckResponse.FromString(await (await serve(one))(b"\xff\xff\xff"))
    assert answer.status.code != 0
    assert answer.denied_response.status.code == 503
    (event,) = one.audit.events
    assert (event.allowed, event.reason, event.detail) == (False, Reason.INTERNAL, "unreadable")
    assert event.decision_id in json.loads(answer.denied_response.body)["message"]


async def test_an_answer_that_cannot_be_written_is_recorded_as_the_denial_it_becomes(serve):
    """A policy's metadata may hold what no protobuf Struct can."""
    policy = ServedPolicy({"allowed": True, "dynamic_metadata": {"x": "\ud800"}})
    one = gate(policy, trail=Recorder())
    answer = pb.CheckResponse.FromString(await (await serve(one))(request()))
    assert answer.status.code != 0
    (event,) = one.audit.events
    assert not event.allowed


async def test_a_caller_that_leaves_does_not_undo_what_was_decided(serve):
    release = asyncio.Event()

    async def late():
        await release.wait()
        return True

    one = gate(ServedPolicy(lambda _question: late()), trail=Recorder(), limits={"check_timeout_s": 10})
    call = (await serve(one))(request())
    waiting = asyncio.ensure_future(call)
    await until(lambda: one.policy.questions)
    call.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    release.set()
    await until(lambda: one.audit.events)
    assert one.audit.events[0].allowed


async def test_a_trail_that_refuses_is_a_denial_with_a_receipt(serve):
    one = gate(ServedPolicy(), trail=Recorder(GateError(Reason.AUDIT_UNAVAILABLE)))
    answer = pb.CheckResponse.FromString(await (await serve(one))(request()))
    assert answer.denied_response.status.code == 503
    assert "dec-" in json.loads(answer.denied_response.body)["message"]


def test_receipts_sort_by_time_and_never_repeat():
    ids = [new_decision_id(1_800_000_000 + n / 1000) for n in range(1000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 1000
    assert all(len(one) == 30 and one.startswith("dec-") for one in ids)
