"""The probe says ready only while an ext_proc process says it serves."""

import asyncio
import socket
import time

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from rankgate.clients.processor import CACHE_S, SERVICE, TIMEOUT_S, ProcessorProbe

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Asked(health.aio.HealthServicer):
    """Counts the questions, and answers while `open` is set."""

    def __init__(self):
        super().__init__()
        self.questions = 0
        self.asked = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    async def Check(self, request, context):  # noqa: N802 - gRPC's name
        self.questions += 1
        self.asked.set()
        await self.open.wait()
        return await super().Check(request, context)


@pytest.fixture
async def serve(tmp_path):
    servers = []

    async def _serve(slot, status):
        server = grpc.aio.server()
        servicer = Asked()
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        await servicer.set(SERVICE, status)
        server.add_insecure_port(f"unix:{tmp_path}/ext_proc-{slot}.sock")
        await server.start()
        servers.append(server)
        return servicer

    yield _serve
    for server in servers:
        await server.stop(None)


@pytest.fixture
async def clock():
    return Clock()


@pytest.fixture
async def probe(tmp_path, clock):
    probe = ProcessorProbe(tmp_path, monotonic=clock)
    yield probe
    await probe.stop()


async def test_without_any_socket_it_is_not_ready(probe):
    assert not await probe.ready()


async def test_one_serving_process_of_several_is_enough(probe, serve):
    await serve(0, NOT_SERVING)
    await serve(1, SERVING)
    assert await probe.ready()


async def test_a_process_that_drains_is_not_ready(probe, serve):
    await serve(0, NOT_SERVING)
    assert not await probe.ready()


async def test_a_dead_socket_file_is_not_ready(probe, tmp_path):
    (tmp_path / "ext_proc-0.sock").touch()
    assert not await probe.ready()


async def test_the_answer_is_good_for_a_second_and_no_longer(probe, serve, clock):
    servicer = await serve(0, SERVING)
    assert await probe.ready()
    await servicer.set(SERVICE, NOT_SERVING)
    clock.now += CACHE_S * 0.9
    assert await probe.ready()
    clock.now += CACHE_S * 0.2
    assert not await probe.ready()


async def test_a_process_that_comes_up_is_seen_by_the_next_caller(probe, serve):
    assert not await probe.ready()
    servicer = await serve(0, NOT_SERVING)
    assert not await probe.ready()
    await servicer.set(SERVICE, SERVING)
    assert await probe.ready()


async def test_what_a_watcher_saw_is_no_answer_to_a_later_call(probe, serve):
    servicer = await serve(0, SERVING)
    assert await probe.look()
    await servicer.set(SERVICE, NOT_SERVING)
    assert not await probe.ready()


async def test_callers_at_the_same_time_share_one_question(probe, serve):
    servicer = await serve(0, SERVING)
    assert await asyncio.gather(*(probe.ready() for _ in range(20))) == [True] * 20
    assert servicer.questions == 1


async def test_a_caller_who_leaves_does_not_take_the_answer_from_the_others(probe, serve):
    servicer = await serve(0, SERVING)
    servicer.open.clear()
    leaving, staying = asyncio.create_task(probe.ready()), asyncio.create_task(probe.ready())
    await asyncio.wait_for(servicer.asked.wait(), 20)
    leaving.cancel()
    servicer.open.set()
    assert await staying
    assert leaving.cancelled()
    assert servicer.questions == 1


async def test_a_process_that_hangs_is_not_ready_and_holds_nobody_up(probe, serve):
    servicer = await serve(0, SERVING)
    servicer.open.clear()
    start = time.monotonic()
    assert not await probe.ready()
    assert TIMEOUT_S * 0.9 < time.monotonic() - start < TIMEOUT_S + 5
    assert servicer.questions == 1


async def test_a_socket_that_says_nothing_is_not_ready(probe, tmp_path):
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(f"{tmp_path}/ext_proc-0.sock")
        silent.listen()
        async with asyncio.timeout(TIMEOUT_S + 5):
            assert not await probe.ready()


async def test_one_that_hangs_does_not_hide_one_that_serves(probe, serve):
    servicer = await serve(0, SERVING)
    servicer.open.clear()
    await serve(1, SERVING)
    assert await probe.ready()
