"""A filter's socket is private, has one owner, and the process ends in order, also where something fails."""

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from rankgate.clients.handover import ASKS
from rankgate.clients.serving import drain_s
from rankgate.settings import load

# `test.Echo/Call` answers with what it is sent; a call "slow" says when it runs, and takes half a second.
PROGRAM = """
import asyncio, contextlib, sys, time, grpc
from rankgate.clients import serving
from rankgate.errors import SettingsError

class Echo:
    service = "test.Echo"
    def handler(self):
        async def call(data, context):
            if data == b"slow":
                print("running", flush=True)
                await asyncio.sleep(0.5)
            return data
        return grpc.method_handlers_generic_handler("test.Echo", {"Call": grpc.unary_unary_rpc_method_handler(call)})
    async def parts(self):
        return {}
    def published(self):
        return {}
    def drain(self):
        print("drains", flush=True)

@contextlib.contextmanager
def part(name):
    try:
        yield
    finally:
        print(name, "released", flush=True)

def fail(error):
    raise error

@contextlib.asynccontextmanager
async def build(settings, slot, telemetry):
    with part("recording"), part("keys"):
        %s
        yield Echo()
        %s

%s
sys.exit(serving.run("echo", build))
"""
RELEASED = b"keys released\nrecording released\n"
# Calls that can come again are let go before anything is released.
ENDED = b"drains\n" + RELEASED


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

    async def _start(*, wait=True, opening="", closing="", before=""):
        program = PROGRAM % (opening, closing, before)
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, "--config", str(config),
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
    assert (child.returncode, out) == (0, ENDED)
    assert not (tmp_path / "s/echo-0.sock").exists()


async def test_a_call_under_way_is_answered_before_anything_is_released(start, tmp_path):
    child = await start()
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/s/echo-0.sock") as channel:
        call = channel.unary_unary("/test.Echo/Call")(b"slow")
        await call.wait_for_connection()
        assert await child.stdout.readline() == b"running\n"
        child.send_signal(signal.SIGTERM)
        assert await call == b"slow"
    out, _ = await asyncio.wait_for(child.communicate(), 20)
    assert (child.returncode, out) == (0, ENDED)


async def test_a_part_that_does_not_work_shows_under_the_services_name_and_not_under_the_process(start, tmp_path):
    await start(wait=False, before="async def parts(self): return {'audit': False}\nEcho.parts = parts")
    async with asyncio.timeout(20), grpc.aio.insecure_channel(f"unix:{tmp_path}/s/echo-0.sock") as channel:
        await channel.channel_ready()
        stub = health_pb2_grpc.HealthStub(channel)
        status = [(await stub.Check(health_pb2.HealthCheckRequest(service=name))).status for name in ("test.Echo", "")]
        assert await channel.unary_unary("/test.Echo/Call")(b"hello") == b"hello"
    assert status == [health_pb2.HealthCheckResponse.NOT_SERVING, health_pb2.HealthCheckResponse.SERVING]


async def test_a_process_that_drains_tells_everyone_that_it_takes_no_more(start, tmp_path):
    child = await start()
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/s/echo-0.sock") as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="test.Echo"))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        child.send_signal(signal.SIGTERM)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
    out, _ = await asyncio.wait_for(child.communicate(), 20)
    assert (child.returncode, out) == (0, ENDED)


async def test_a_process_that_envoy_asks_for_serves_until_envoy_knows_that_it_ends(start, tmp_path):
    child = await start()
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/s/echo-0.sock") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        process, service = (
            stub.Watch(health_pb2.HealthCheckRequest(service=name), timeout=20) for name in ("", "test.Echo")
        )
        for watch in (process, service):
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        assert (await stub.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
        child.send_signal(signal.SIGTERM)
        assert (await process.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        for _ in range(ASKS):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service="test.Echo"))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            assert await channel.unary_unary("/test.Echo/Call")(b"hello") == b"hello"
            answer = await stub.Check(health_pb2.HealthCheckRequest())
            assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert (await service.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        for watch in (process, service):
            watch.cancel()
    out, _ = await asyncio.wait_for(child.communicate(), 20)
    assert (child.returncode, out) == (0, ENDED)


def test_calls_may_go_on_for_longer_than_the_longest_one_takes(config):
    settings = load(config)
    assert drain_s(settings) > settings.deadline_s


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        ("SettingsError('policy.directory is empty')", 2, b"echo: policy.directory is empty"),
        ("RuntimeError('unforeseen')", 1, b"RuntimeError: unforeseen"),
    ],
)
async def test_a_start_that_fails_releases_what_was_held_and_leaves_no_socket(start, tmp_path, error, code, says):
    child = await start(wait=False, opening=f"fail({error})")
    out, err = await asyncio.wait_for(child.communicate(), 20)
    assert (child.returncode, out) == (code, RELEASED)
    assert says in err
    assert not (tmp_path / "s/echo-0.sock").exists()
    await start()


async def test_a_socket_that_cannot_be_bound_releases_what_was_held(start, config, tmp_path):
    config.write_text(config.read_text().replace(f"{tmp_path}/s", f"{tmp_path}/{'s' * 110}"))
    child = await start(wait=False)
    out, err = await asyncio.wait_for(child.communicate(), 20)
    assert (child.returncode, out) == (2, RELEASED)
    assert b"cannot bind" in err


async def test_an_end_that_fails_still_releases_the_rest_the_recording_last(start, tmp_path):
    child = await start(closing="fail(RuntimeError('unforeseen'))")
    child.send_signal(signal.SIGTERM)
    out, _ = await asyncio.wait_for(child.communicate(), 20)
    assert (child.returncode, out) == (1, ENDED)
    assert not (tmp_path / "s/echo-0.sock").exists()


@pytest.mark.parametrize(
    "hang", ["await asyncio.sleep(99)", "time.sleep(99)", "await asyncio.to_thread(time.sleep, 99)"]
)
async def test_an_end_that_hangs_is_ended(start, hang):
    child = await start(closing=hang, before="serving.drain_s = lambda settings: 0.2; serving.RELEASE_S = 0.2")
    child.send_signal(signal.SIGTERM)
    _, err = await asyncio.wait_for(child.communicate(), 20)
    assert child.returncode == 1
    assert json.loads(err.splitlines()[-1])["event"] == "stop_overdue"


# -- the folder -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o755, 0o751, 0o752, 0o777])
async def test_a_folder_that_others_can_enter_is_refused(start, tmp_path, mode):
    (tmp_path / "s").mkdir()
    (tmp_path / "s").chmod(mode)
    child = await start(wait=False)
    out, err = await asyncio.wait_for(child.communicate(), 20)
    assert (child.returncode, out) == (2, b"")
    assert f"sockets.directory {tmp_path}/s can be entered by others".encode() in err
    assert b"chmod o=" in err
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
async def test_a_folder_of_another_user_is_refused(start, tmp_path):
    (tmp_path / "s").mkdir(mode=0o700)
    os.chown(tmp_path / "s", 65534, -1)
    child = await start(wait=False)
    _, err = await asyncio.wait_for(child.communicate(), 20)
    assert child.returncode == 2
    assert b"belongs to another user" in err


async def test_a_private_folder_that_is_there_is_left_as_it_is(start, tmp_path):
    (tmp_path / "s").mkdir(mode=0o700)
    await start()
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o700


async def test_the_umask_of_whoever_starts_it_keeps_no_group_out(start, tmp_path):
    await start(before="import os; os.umask(0o077)")
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o750
    assert stat.S_IMODE((tmp_path / "s/echo-0.sock").stat().st_mode) == 0o660


CONNECT = """
import socket, sys
with socket.socket(socket.AF_UNIX) as one:
    one.connect(sys.argv[1])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a process as a member of the group alone")
@pytest.mark.parametrize("there", [False, True], ids=["made here", "there before"])
async def test_a_process_with_only_the_shared_group_can_connect_and_one_without_cannot(start, config, there):
    group = 54321
    # Not below pytest's own folder, which nobody else can enter.
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101
        directory = Path(folder) / "s"
        if there:
            directory.mkdir(mode=0o700)
        text = config.read_text().replace(f"{config.parent}/s", str(directory))
        config.write_text(f"{text}group = {group}\n")
        await start(wait=False)
        socket = directory / "echo-0.sock"
        await serving(socket)
        assert (directory.stat().st_gid, socket.stat().st_gid) == (group, group)
        modes = stat.S_IMODE(directory.stat().st_mode), stat.S_IMODE(socket.stat().st_mode)
        assert modes == (0o750, 0o660)
        for gid, code in ((group, 0), (group + 1, 1)):
            done = await asyncio.create_subprocess_exec(
                "/usr/bin/env", "python3", "-I", "-S", "-c", CONNECT, str(socket), user=65534, group=gid,
                extra_groups=[], env={"PATH": "/usr/local/bin:/usr/bin:/bin"}, stderr=asyncio.subprocess.PIPE, cwd="/",
            )  # fmt: skip
            _, err = await asyncio.wait_for(done.communicate(), 20)
            assert done.returncode == code, err
            assert code == 0 or b"PermissionError" in err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may give a file to any group")
async def test_a_group_that_cannot_be_given_is_named(start, config):
    config.write_text(f"{config.read_text()}group = 54321\n")
    child = await start(wait=False)
    _, err = await asyncio.wait_for(child.communicate(), 20)
    assert child.returncode == 2
    assert b"sockets.group 54321 cannot be given" in err


# -- the path ---------------------------------------------------------------------------------------------------------


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
    assert b"upstream: is required" in err
    assert b"Traceback" not in err


def test_ext_proc_loads_nothing_that_fetches_keys_or_evaluates_policies():
    program = "import sys, ext_proc.server, rankgate.clients.serving; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "ext_proc.server" in loaded
    assert loaded & {"aiohttp", "jose", "regorus", "watchfiles", "rankgate.clients.identity"} == set()
