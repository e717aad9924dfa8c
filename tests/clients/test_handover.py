"""A process that ends is left alone by Envoy first, and waits for nobody where nobody balances."""

from __future__ import annotations

import asyncio

import pytest
from grpc_health.v1 import health_pb2

from rankgate.clients.handover import ASKS, LONGEST_S, SILENCE_S, Handover
from rankgate.clients.serving import RELEASE_S, drain_s
from rankgate.envoyconfig import HEALTH_CHECK
from rankgate.settings import load

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


async def asked(handover: Handover, service: str = "") -> int:
    """Ask as Envoy does, and let whoever waits for it hear of it."""
    answer = await handover.Check(health_pb2.HealthCheckRequest(service=service), None)
    await turns()
    return answer.status


async def turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_where_nobody_asks_it_is_done_at_once() -> None:
    handover = Handover()
    done = asyncio.create_task(handover.done())
    await turns()
    assert done.done()
    assert await asked(handover) == NOT_SERVING


async def test_who_asks_for_the_service_alone_balances_nothing() -> None:
    handover = Handover()
    await handover.set("test.Echo", SERVING)
    assert await asked(handover, "test.Echo") == SERVING
    done = asyncio.create_task(handover.done())
    await turns()
    assert done.done()


async def test_it_is_done_when_envoy_asks_once_more_than_it_takes_to_leave_a_process_alone() -> None:
    handover = Handover()
    assert await asked(handover) == SERVING
    done = asyncio.create_task(handover.done())
    await turns()
    for _ in range(HEALTH_CHECK.failures):
        assert await asked(handover) == NOT_SERVING
        assert not done.done()
    assert await asked(handover) == NOT_SERVING
    assert done.done()


async def test_until_it_is_done_the_service_is_said_to_serve() -> None:
    handover = Handover()
    await handover.set("test.Echo", SERVING)
    await asked(handover)
    done = asyncio.create_task(handover.done())
    await turns()
    assert not done.done()
    assert await asked(handover, "test.Echo") == SERVING
    done.cancel()


@pytest.mark.parametrize("heard", range(ASKS))
async def test_an_envoy_that_ended_is_not_waited_for(heard: int, monkeypatch: pytest.MonkeyPatch) -> None:
    handover, loop = Handover(), asyncio.get_running_loop()
    await asked(handover)
    done = asyncio.create_task(handover.done())
    await turns()
    for _ in range(heard):
        await asked(handover)
    assert not done.done()
    later = loop.time() + SILENCE_S
    monkeypatch.setattr(loop, "time", lambda: later)
    await turns()
    assert done.done()


def test_a_slow_answer_or_two_of_envoys_are_no_silence() -> None:
    assert 2 * HEALTH_CHECK.interval_s < SILENCE_S


def test_an_end_takes_no_longer_than_the_longest_call_and_the_20_s_that_the_documents_ask_for() -> None:
    settings = load(
        None,
        upstream={"url": "http://127.0.0.1:9"},
        issuers=[{"issuer": "https://issuer.example", "audiences": ["rerank"]}],
        masking={"key_file": "/run/secrets/masking"},
        audit={"directory": "/var/lib/rankgate"},
        sockets={"directory": "/run/rankgate"},
    )
    assert LONGEST_S + drain_s(settings) + RELEASE_S <= settings.deadline_s + 20
