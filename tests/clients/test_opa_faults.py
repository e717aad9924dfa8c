"""An OPA that misbehaves: small real servers that speak HTTP badly."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from fakes.opa_server import free_port
from fakes.waiting import until

from rankgate.clients.breaker import Breaker
from rankgate.clients.opa import ANSWER_BYTES, OpaEngine
from rankgate.errors import GateError, Reason, SettingsError
from rankgate.settings import PolicySettings

Speak = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class BadServer:
    """Speaks as told to every question; health checks are answered well and not counted."""

    def __init__(self, speak: Speak) -> None:
        self.speak = speak
        self.questions = 0
        self.connections = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if head.startswith(b"GET /health"):
                    writer.write(answer(b"{}"))
                    continue
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.split(b":")[1]))
                self.questions += 1
                await self.speak(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def answer(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def says(raw: bytes, *, close: bool = False) -> Speak:
    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()
        if close:
            writer.close()

    return speak


async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(speak: Speak) -> AsyncIterator[BadServer]:
    bad = BadServer(speak)
    server = await asyncio.start_server(bad.serve, "127.0.0.1", 0)
    bad.port = server.sockets[0].getsockname()[1]
    yield bad
    server.close()


@asynccontextmanager
async def asking(port: int, breaker: Breaker | None = None, timeout_s: float = 0.2) -> AsyncIterator[OpaEngine]:
    settings = PolicySettings(engine="opa", url=f"http://127.0.0.1:{port}", timeout_s=timeout_s)
    engine = OpaEngine(settings, breaker=breaker)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


async def refusal(engine: OpaEngine) -> GateError:
    with pytest.raises(GateError) as refused:
        await engine.decide('{"secret":"jonas"}')
    assert "jonas" not in str(refused.value) + refused.value.public
    return refused.value


TRUE = b'{"result": true}'
FAULTS = {
    "hangs": (hang, Reason.POLICY_TIMEOUT),
    "drips": (drip, Reason.POLICY_TIMEOUT),
    "resets": (reset, Reason.POLICY_UNAVAILABLE),
    "closes unasked": (says(b"", close=True), Reason.POLICY_UNAVAILABLE),
    "closes inside the answer": (says(answer(TRUE)[:-4], close=True), Reason.POLICY_UNAVAILABLE),
    "speaks no HTTP": (says(b"allowed\r\n\r\n", close=True), Reason.POLICY_UNAVAILABLE),
    "500": (says(answer(TRUE, "500 Internal Server Error")), Reason.POLICY_ERROR),
    "502": (says(answer(TRUE, "502 Bad Gateway")), Reason.POLICY_UNAVAILABLE),
    "503": (says(answer(TRUE, "503 Service Unavailable")), Reason.POLICY_UNAVAILABLE),
    "429": (says(answer(TRUE, "429 Too Many Requests")), Reason.POLICY_UNAVAILABLE),
    "404": (says(answer(TRUE, "404 Not Found")), Reason.POLICY_ERROR),
    "201": (says(answer(TRUE, "201 Created")), Reason.POLICY_ERROR),
    "HTML": (says(answer(b"<html>allowed</html>")), Reason.POLICY_ERROR),
    "truncated JSON": (says(answer(b'{"result": {"allowed": true')), Reason.POLICY_ERROR),
    "a bare true": (says(answer(b"true")), Reason.POLICY_ERROR),
    "a duplicate result": (says(answer(b'{"result": false, "result": true}')), Reason.POLICY_ERROR),
    "a duplicate inside": (says(answer(b'{"result": {"allowed": false, "allowed": true}}')), Reason.POLICY_ERROR),
    "NaN": (says(answer(b'{"result": {"allowed": true, "x": NaN}}')), Reason.POLICY_ERROR),
    "another encoding": (says(answer(TRUE.decode().encode("utf-16"))), Reason.POLICY_ERROR),
    "compressed": (says(answer(TRUE, **{"content-encoding": "gzip"})), Reason.POLICY_ERROR),
    "too much": (says(answer(b'{"result": true, "x": "' + b"x" * ANSWER_BYTES + b'"}')), Reason.POLICY_ERROR),
    "nested without end": (says(answer(b'{"result": ' + b"[" * 100_000)), Reason.POLICY_ERROR),
}


@pytest.mark.parametrize(("speak", "reason"), FAULTS.values(), ids=FAULTS)
async def test_scenario_15_a_faulty_answer_denies_within_the_budget(speak: Speak, reason: Reason) -> None:
    async with serving(speak) as bad, asking(bad.port) as engine:
        begun = time.monotonic()
        refused = await refusal(engine)
        assert time.monotonic() - begun < 1.0
        assert refused.reason is reason
        assert refused.reason.status == 503
        # Two only where the connection of the health check was closed under the question.
        assert bad.questions <= 2


async def test_scenario_15_nobody_listens() -> None:
    async with asking(free_port()) as engine:
        assert not engine.ready
        assert (await refusal(engine)).reason is Reason.POLICY_UNAVAILABLE


async def test_scenario_15_after_failures_in_a_row_nothing_is_asked_until_a_trial() -> None:
    now = [0.0]
    breaker = Breaker(3, 10.0, 10.0, clock=lambda: now[0])
    async with serving(reset) as bad, asking(bad.port, breaker) as engine:
        for _ in range(3):
            await refusal(engine)
        asked = bad.questions
        for _ in range(10):
            assert (await refusal(engine)).detail == "the breaker is open"
        assert bad.questions == asked
        assert not engine.ready
        now[0] = 10.0
        await refusal(engine)
        await refusal(engine)
        assert bad.questions == asked + 1
        now[0] = 20.0
        bad.speak = says(answer(TRUE))
        assert await engine.decide("{}") is True
        assert engine.ready
        assert await engine.decide("{}") is True


async def test_scenario_15_a_caller_who_leaves_during_the_trial_leaves_room_for_the_next() -> None:
    now = [0.0]
    breaker = Breaker(1, 1.0, 1.0, clock=lambda: now[0])
    async with serving(hang) as bad, asking(bad.port, breaker, timeout_s=5.0) as engine:
        breaker.failed()
        now[0] = 2.0
        trial = asyncio.create_task(engine.decide("{}"))
        await until(lambda: bad.questions > 0)
        trial.cancel()
        await asyncio.gather(trial, return_exceptions=True)
        bad.speak = says(answer(TRUE))
        assert await engine.decide("{}") is True


async def test_scenario_15_an_evaluation_error_is_one_callers_and_opens_nothing() -> None:
    body = json.dumps({"code": "internal_error", "errors": [{"code": "eval_conflict_error", "message": "jonas"}]})
    failing = says(answer(body.encode(), "500 Internal Server Error"))
    async with serving(failing) as bad, asking(bad.port, Breaker(2, 10.0, 10.0)) as engine:
        for _ in range(5):
            refused = await refusal(engine)
            assert (refused.reason, refused.detail) == (Reason.POLICY_ERROR, "eval_conflict_error")
        assert bad.questions == 5
        assert engine.ready


async def test_scenario_17_a_redirect_is_not_followed() -> None:
    async with serving(says(answer(TRUE))) as other:
        for status in ("301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"):
            there = f"http://127.0.0.1:{other.port}/v1/data/rankgate/decision"
            async with serving(says(answer(b"", status, location=there))) as bad, asking(bad.port) as engine:
                assert (await refusal(engine)).reason is Reason.POLICY_ERROR
        assert other.questions == 0


@pytest.mark.parametrize(
    ("result", "decision"),
    [
        (b"{}", None),
        (b'{"result": null}', None),
        (b'{"result": "true"}', "true"),
        (b'{"result": 1}', 1),
        (b'{"result": {"allow": "true"}, "allowed": true}', {"allow": "true"}),
    ],
)
async def test_scenario_16_the_result_alone_is_the_decision(result: bytes, decision: object) -> None:
    async with serving(says(answer(result))) as bad, asking(bad.port) as engine:
        assert await engine.decide("{}") == decision


async def test_a_connection_closed_while_idle_is_tried_once_more_on_a_new_one() -> None:
    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(TRUE))
        if bad.questions > 1:
            return
        # The next question on this connection is taken and never answered.
        await reader.readuntil(b"}")
        writer.transport.abort()

    async with serving(answer_once) as bad, asking(bad.port, timeout_s=2.0) as engine:
        assert await engine.decide("{}") is True
        before = bad.connections
        assert await engine.decide("{}") is True
        assert bad.connections == before + 1


async def test_a_second_failure_is_not_tried_again() -> None:
    async def answer_first(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if bad.questions == 1:
            writer.write(answer(TRUE))
        else:
            writer.transport.abort()

    async with serving(answer_first) as bad, asking(bad.port, timeout_s=2.0) as engine:
        assert await engine.decide("{}") is True
        assert (await refusal(engine)).reason is Reason.POLICY_UNAVAILABLE
        assert bad.questions == 3


async def test_the_revision_is_the_bundles_of_the_last_answer() -> None:
    bundles = {"provenance": {"bundles": {"b": {"revision": "7"}, "a": {"revision": "6"}}}, "result": True}
    async with serving(says(answer(json.dumps(bundles).encode()))) as bad, asking(bad.port) as engine:
        assert engine.revision == "opa:unversioned"
        await engine.decide("{}")
        assert engine.revision == "opa:a:6,b:7"


async def test_a_stopped_engine_denies() -> None:
    async with serving(says(answer(TRUE))) as bad, asking(bad.port) as engine:
        await engine.stop()
        assert not engine.ready
        assert (await refusal(engine)).reason is Reason.POLICY_UNAVAILABLE


def test_a_bundle_of_authorities_that_is_not_there_is_refused(tmp_path) -> None:
    with pytest.raises(SettingsError, match=r"policy\.ca_file"):
        OpaEngine(PolicySettings(engine="opa", url="https://opa.example", ca_file=tmp_path / "none.pem"))
