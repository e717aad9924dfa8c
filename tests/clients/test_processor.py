"""The probe says ready only while an ext_proc process says it serves."""

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from rankgate.clients.processor import CACHE_S, SERVICE, ProcessorProbe

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
async def serve(tmp_path):
    servers = []

    async def _serve(slot, status):
        server = grpc.aio.server()
        servicer = health.aio.HealthServicer()
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
