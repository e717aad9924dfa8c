"""A filter's socket is private, has one owner, and the process ends in order."""

import asyncio
import os
import signal
import stat
import sys
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

PROGRAM = """
import sys, grpc
from rankgate.clients.serving import run

class Echo:
    service = "test.Echo"
    def handler(self):
        async def call(data, context):
            return data
        return grpc.method_handlers_generic_handler("test.Echo", {"Call": grpc.unary_unary_rpc_method_handler(call)})
    async def start(self): pass
    async def stop(self): print("released", flush=True)

async def build(settings, slot):
    return Echo()

sys.exit(run("echo", build))
"""


@pytest.fixture
def config(tmp_path):
    (tmp_path / "key").write_bytes(b"k" * 32)
    path = tmp_path / "rankgate.toml"
    path.write_text(f"""
[upstream]
url = "http://127.0.0.1:9"
[[issuers]]
issuer = "https://issuer.example"
audiences = ["rerank"]
[masking]
key_file = "{tmp_path}/key"
[audit]
directory = "{tmp_path}/audit"
[sockets]
directory = "{tmp_path}/s"
""")
    return path


@pytest.fixture
async def start(config, tmp_path):
    children = []

    async def _start(*, wait=True):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, "--config", str(config),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        children.append(child)
        if wait:
            await serving(tmp_path / "s/echo-0.sock")
        return child

    yield _start
    for child in children:
        if child.returncode is None:
            child.kill()
        await child.communicate()


async def serving(path):
    async with asyncio.timeout(20), grpc.aio.insecure_channel(f"unix:{path}") as channel:
        await channel.channel_ready()
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service="test.Echo"))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_the_socket_is_0660_in_a_folder_of_0750(start, tmp_path):
    await start()
    socket = tmp_path / "s/echo-0.sock"
    assert stat.S_IMODE(socket.stat().st_mode) == 0o660
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o750


async def test_it_serves_and_releases_everything_at_sigterm(start, tmp_path):
    child = await start()
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/s/echo-0.sock") as channel:
        assert await channel.unary_unary("/test.Echo/Call")(b"hello") == b"hello"
    child.send_signal(signal.SIGTERM)
    out, _ = await asyncio.wait_for(child.communicate(), 20)
    assert (child.returncode, out) == (0, b"released\n")
    assert not (tmp_path / "s/echo-0.sock").exists()


async def test_a_second_process_on_the_same_socket_is_refused_and_disturbs_nothing(start, tmp_path):
    await start()
    second = await start(wait=False)
    _, err = await asyncio.wait_for(second.communicate(), 20)
    assert second.returncode == 2
    assert b"another process serves" in err
    await serving(tmp_path / "s/echo-0.sock")


async def test_a_killed_process_leaves_nothing_in_the_way_of_its_successor(start, tmp_path):
    first = await start()
    os.kill(first.pid, signal.SIGKILL)
    await first.wait()
    await start()


async def test_settings_that_cannot_work_are_named_and_end_with_2(start, config):
    config.write_text(config.read_text().replace("[upstream]", "[nonsense]"))
    child = await start(wait=False)
    _, err = await asyncio.wait_for(child.communicate(), 20)
    assert child.returncode == 2
    assert b"upstream: Field required" in err
    assert b"Traceback" not in err
