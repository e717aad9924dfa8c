"""On the wire: a stream ends well only when every phase was answered, and its end is always recorded."""

import asyncio
import json

import grpc
import pytest
from fakes.handing import DETECTOR, EVERYTHING, KEYS, MASKERS, hand_over

from ext_proc.exchange import Tools
from ext_proc.server import Processing
from ext_proc.wire import PROCESS, SERVICE
from rankgate.audit import Outcome
from rankgate.clients.metrics import ProcessingMetrics
from rankgate.clients.offload import Offload
from rankgate.clients.slot import Slot
from rankgate.clients.telemetry import Telemetry
from rankgate.errors import GateError, Reason
from rankgate.handoff import to_metadata
from rankgate.pb import ext_proc_pb2 as pb
from rankgate.settings import RouteSettings

BODY = json.dumps({"model": "m", "query": "maren.oldfield@example.org", "documents": ["a"]}).encode()
ANSWER = b'{"results":[{"index":0,"relevance_score":0.5}]}'


class Recording:
    """Keeps what is appended; refuses it where told to."""

    def __init__(self):
        self.events = []
        self.appended = asyncio.Event()
        self.full = False

    async def append_all(self, events):
        if self.full:
            return [GateError(Reason.AUDIT_UNAVAILABLE)] * len(events)
        self.events.extend(events)
        self.appended.set()
        return [None] * len(events)

    async def lifecycle(self, what, component, now, detail):
        pass

    async def close(self):
        pass


@pytest.fixture
async def recording():
    return Recording()


@pytest.fixture
async def channel(tmp_path, recording):
    route = RouteSettings.model_validate({"name": "rerank", "path": "/v2/rerank"})
    tools = Tools(DETECTOR, KEYS, MASKERS, EVERYTHING, {"rerank": route}, 1_000_000, 1_000_000, ("authorization",))
    telemetry = Telemetry.local(Slot("ext_proc", 0))
    metrics = ProcessingMetrics(telemetry.registry)
    processing = Processing(tools, recording, Offload(), lambda: 1_800_000_000.0, metrics, telemetry.tracer)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((processing.handler(),))
    server.add_insecure_port(f"unix:{tmp_path}/s")
    await server.start()
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/s") as channel:
        yield channel
    await server.stop(None)
    await processing.stop()


def head(body=BODY):
    message = pb.ProcessingRequest()
    message.request_headers.headers.headers.add(key="content-length", raw_value=b"1")
    message.protocol_config.request_body_mode = message.protocol_config.response_body_mode = pb.BUFFERED
    metadata = message.metadata_context.filter_metadata["envoy.filters.http.ext_authz"]
    metadata.update({"rankgate": to_metadata(hand_over(body))})
    return message


def answer_head():
    message = pb.ProcessingRequest()
    for key, value in ((":status", b"200"), ("content-type", b"application/json")):
        message.response_headers.headers.headers.add(key=key, raw_value=value)
    message.attributes["envoy.filters.http.ext_proc"].update({"response.code_details": "via_upstream"})
    return message


PHASES = [
    head(),
    pb.ProcessingRequest(request_body=pb.HttpBody(body=BODY, end_of_stream=True)),
    answer_head(),
    pb.ProcessingRequest(response_body=pb.HttpBody(body=ANSWER, end_of_stream=True)),
]


def stream(channel):
    return channel.stream_stream(f"/{SERVICE}/{PROCESS}")()


async def talk(call, messages):
    """Send messages one by one; return the kinds answered and how the stream ended after the last."""
    kinds = []
    try:
        for message in messages:
            await call.write(message if isinstance(message, bytes) else message.SerializeToString())
            answer = await call.read()
            assert answer is not grpc.aio.EOF
            kinds.append(pb.ProcessingResponse.FromString(answer).WhichOneof("response"))
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
    except grpc.aio.AioRpcError:
        pass
    return kinds, await call.code(), await call.details()


async def test_a_whole_call_ends_well_and_is_recorded_complete(channel, recording):
    kinds, code, _ = await talk(stream(channel), PHASES)
    assert kinds == ["request_headers", "request_body", "response_headers", "response_body"]
    assert code is grpc.StatusCode.OK
    await recording.appended.wait()
    (event,) = recording.events
    assert (event.outcome, event.decision_id, event.status) == (Outcome.COMPLETE, "dec-1", 200)


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_scenario_46_a_stream_that_ends_early_never_ends_well(channel, recording, count):
    kinds, code, details = await talk(stream(channel), PHASES[:count])
    assert len(kinds) == count
    assert (code, details) == (grpc.StatusCode.INTERNAL, "incomplete")
    await recording.appended.wait()
    assert recording.events[0].outcome is Outcome.ABORTED


@pytest.mark.parametrize(
    ("messages", "word"),
    [
        ([b"\xff\xff\xff"], "internal"),
        ([PHASES[1]], "unexpected_message"),
        ([PHASES[0], PHASES[0]], "unexpected_message"),
        ([PHASES[0], PHASES[1], PHASES[1]], "unexpected_message"),
        ([answer_head()], "response_without_request"),
        ([pb.ProcessingRequest(request_headers=pb.HttpHeaders())], "body_mode"),
    ],
)
async def test_scenario_48_what_is_out_of_order_ends_with_an_error_and_a_constant_word(channel, messages, word):
    _, code, details = await talk(stream(channel), messages)
    assert (code, details) == (grpc.StatusCode.INTERNAL, word)


async def test_a_refusal_is_answered_at_once_and_the_stream_does_not_end_well(channel, recording):
    other = pb.ProcessingRequest(request_body=pb.HttpBody(body=b"other", end_of_stream=True))
    kinds, code, _ = await talk(stream(channel), [PHASES[0], other])
    assert kinds == ["request_headers", "immediate_response"]
    assert code is grpc.StatusCode.INTERNAL
    await recording.appended.wait()
    assert (recording.events[0].outcome, recording.events[0].reason) == (Outcome.REFUSED, Reason.HANDOFF_MISMATCH)


async def test_scenario_46_a_cancelled_stream_is_recorded(channel, recording):
    call = stream(channel)
    for message in PHASES[:2]:
        await call.write(message.SerializeToString())
        await call.read()
    call.cancel()
    await recording.appended.wait()
    assert recording.events[0].outcome is Outcome.ABORTED


async def test_a_completion_that_cannot_be_recorded_does_not_hurt_the_call(channel, recording):
    recording.full = True
    _, code, _ = await talk(stream(channel), PHASES)
    assert code is grpc.StatusCode.OK
