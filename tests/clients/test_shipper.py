"""The shipper against a real Valkey, and where it is installed Debian's Redis."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from certificates import identity
from fakes.events import decision
from fakes.logs import CAP, Alarms, open_log, small, stored, until
from fakes.valkey import Server, redis_binary, running

from rankgate.audit.entry import differing, read_body
from rankgate.audit.names import StreamId, stream_key
from rankgate.clients.audit import FileLog
from rankgate.clients.audit_redis import connect, fault_word
from rankgate.clients.shipper import Pace, Shipper, ShipperState
from rankgate.errors import GateError
from rankgate.settings import AuditSettings

QUICK = Pace(first_s=0.02, longest_s=0.1, recheck_s=0.2, answer_s=0.5)
NEEDS_REDIS = pytest.mark.skipif(redis_binary() is None, reason="redis-server is not on PATH")
ACL = ["+xadd", "+xrange", "+xinfo|stream", "+multi", "+exec"]


@pytest.fixture(params=["valkey", pytest.param("redis", marks=[pytest.mark.redis_server, NEEDS_REDIS])])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Yield a running server of each kind that is here."""
    with running(redis_binary() if request.param == "redis" else None) as started:
        yield started


@dataclass(frozen=True, slots=True)
class Rig:
    """A log that is being shipped to a server."""

    server: Server
    log: FileLog
    shipper: Shipper
    alarms: Alarms

    @property
    def key(self) -> str:
        return stream_key("default", self.log.name)

    def entries(self) -> list[tuple[str, dict[bytes, bytes]]]:
        """Return what the current log's stream holds."""
        with self.server.client() as client:
            found: Any = client.xrange(self.key)
        return [(entry_id.decode(), fields) for entry_id, fields in found]

    async def append(self, count: int) -> None:
        await asyncio.gather(*(self.log.append(small(number)) for number in range(count)))

    async def shipped(self) -> None:
        """Wait until everything is shipped, then compare stream and log entry by entry."""

        def idle() -> bool:
            status = self.shipper.status()
            return status.shipped > 0 and status.lag == 0 and not status.error

        await until(idle)
        held = stored(self.log)
        await until(lambda: len(self.entries()) >= len(held))
        # An alarm may be recorded while we look; what was held when we looked must be there, and in its place.
        entries = self.entries()[: len(held)]
        assert [fields[b"body"] for _, fields in entries] == held
        assert [StreamId.parse(entry_id).index for entry_id, _ in entries] == list(range(len(held)))

    def recorded(self) -> list[str]:
        """Return the words of the alarms in the log itself."""
        return [row.word for row in map(read_body, stored(self.log)) if row.word]


@contextmanager
def shipping(server: Server, directory: Path, *, pace: Pace = QUICK, cap: int = CAP, **settings: Any) -> Iterator[Rig]:
    """Yield a shipped log; `settings` are those of the audit section."""
    alarms = Alarms()
    log = open_log(directory, alarms, cap=cap)
    chosen = AuditSettings(directory=directory, **{"redis_url": server.url, **settings})
    shipper = Shipper(log, chosen, deployment="default", pace=pace)
    shipper.start()
    try:
        yield Rig(server, log, shipper, alarms)
    finally:
        shipper.stop(0.2)
        log.shut()


async def test_every_entry_arrives_once_in_order_byte_for_byte(server: Server, tmp_path: Path) -> None:
    with shipping(server, tmp_path) as rig:
        await rig.append(300)
        await rig.log.append(decision())
        await rig.shipped()
        for entry_id, fields in rig.entries():
            flat = {name.decode(): value.decode() for name, value in fields.items() if name != b"body"}
            assert differing(flat, fields[b"body"], rig.key, entry_id) == ()
        assert rig.alarms == []


async def test_a_new_process_goes_on_behind_the_last_entry(server: Server, tmp_path: Path) -> None:
    for _ in range(2):
        with shipping(server, tmp_path) as rig:
            await rig.append(20)
            await rig.shipped()
            assert rig.alarms == []
    assert len(rig.entries()) == 41


async def test_stopping_ships_what_is_durable_first(server: Server, tmp_path: Path) -> None:
    with shipping(server, tmp_path) as rig:
        await rig.append(500)
        rig.shipper.stop(10)
        assert rig.shipper.status().state is ShipperState.STOPPED
        assert len(rig.entries()) == 501


async def test_a_minimal_user_is_enough(server: Server, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("secret\n")
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "audit", "on", ">secret", "~audit:*", "-@all", *ACL)
    with shipping(server, tmp_path, redis_user="audit", redis_password_file=password) as rig:
        await rig.append(20)
        await rig.shipped()
        rig.server.client().delete(rig.key)
        await rig.append(1)
        await rig.shipped()
        denied: Any = rig.server.client().execute_command("ACL", "LOG")
        assert denied == []


async def test_scenario_51_while_redis_is_down_requests_go_on_and_everything_is_replayed(
    server: Server, tmp_path: Path
) -> None:
    with shipping(server, tmp_path) as rig:
        await rig.append(50)
        await rig.shipped()
        server.kill()
        for _ in range(5):
            await rig.append(100)
        await until(lambda: rig.shipper.status().error == "unreachable")
        status = rig.shipper.status()
        assert status.state is ShipperState.WAITING
        assert status.lag >= 500
        assert status.lag_bytes > 0
        assert rig.log.ready
        server.start()
        await rig.shipped()
        assert set(rig.alarms.words) == set(rig.recorded()) == {"ship_failed"}


async def test_scenario_51_redis_coming_and_going_loses_and_doubles_nothing(server: Server, tmp_path: Path) -> None:
    with shipping(server, tmp_path, cap=16 * CAP) as rig:
        for _ in range(4):
            appending = asyncio.ensure_future(rig.append(300))
            await asyncio.sleep(0)
            server.kill()
            server.start()
            await appending
        await rig.shipped()
        assert "stream_forked" not in rig.alarms.words


async def test_scenario_51_a_start_while_redis_is_down_ships_later(server: Server, tmp_path: Path) -> None:
    server.kill()
    with shipping(server, tmp_path) as rig:
        await rig.append(10)
        server.start()
        await rig.shipped()
        assert "stream_shortened" not in rig.alarms.words


async def test_scenario_51_at_the_cap_requests_are_refused_and_go_on_after_shipping(
    server: Server, tmp_path: Path
) -> None:
    server.kill()
    with shipping(server, tmp_path) as rig:
        refused = False
        for number in range(5000):
            (result,) = await asyncio.gather(rig.log.append(small(number, 1000)), return_exceptions=True)
            if refused := isinstance(result, GateError):
                break
        assert refused
        server.start()
        await until(lambda: rig.log.ready)
        await rig.log.append(small())
        await until(lambda: rig.shipper.status().lag == 0)
        assert [StreamId.parse(entry_id).index for entry_id, _ in rig.entries()] == list(range(len(rig.entries())))


async def test_scenario_52_entries_lost_in_a_failover_are_shipped_again(server: Server, tmp_path: Path) -> None:
    data, copy = server.folder / "appendonlydir", server.folder / "copy"
    with shipping(server, tmp_path) as rig:
        await rig.append(40)
        await rig.shipped()
        shutil.copytree(data, copy)
        await rig.append(60)
        await rig.shipped()
        server.kill()
        shutil.rmtree(data)
        copy.rename(data)
        server.start()
        assert len(rig.entries()) == 41
        await until(lambda: "stream_shortened" in rig.alarms.words)
        await rig.shipped()
        shortened = dict(rig.alarms)["stream_shortened"]
        assert shortened == {"stream": rig.key, "entry": 41, "was": 101}
        assert "stream_shortened" in rig.recorded()


async def test_scenario_53_an_entry_whose_answer_was_lost_is_recognised_as_delivered(
    server: Server, tmp_path: Path
) -> None:
    with shipping(server, tmp_path) as rig:
        await rig.append(10)
        await rig.shipped()
        server.freeze()
        await rig.append(20)
        await until(lambda: rig.shipper.status().error == "timeout")
        server.thaw()
        await rig.shipped()
        assert set(rig.alarms.words) == {"ship_failed"}


async def test_scenario_53_a_resend_is_refused_by_the_server_and_compared(server: Server, tmp_path: Path) -> None:
    with shipping(server, tmp_path) as rig:
        await rig.append(10)
        await rig.shipped()
        files = rig.log.history()[-1]
        rig.shipper.stop(1)
        files.deliver(3)
        assert rig.shipper.status().lag == 8
        rig.shipper._send(files, create=False)
        assert rig.shipper.status().lag == 0
        assert len(rig.entries()) == 11


def make_oom(client: redis.Redis) -> None:
    client.config_set("maxmemory", "1")


def make_read_only(client: redis.Redis) -> None:
    client.execute_command("REPLICAOF", "127.0.0.1", "1")


def make_lonely(client: redis.Redis) -> None:
    client.config_set("min-replicas-to-write", "1")


def mend(client: redis.Redis) -> None:
    client.config_set("maxmemory", "0")
    client.config_set("min-replicas-to-write", "0")
    client.execute_command("REPLICAOF", "NO", "ONE")


@pytest.mark.parametrize(
    ("spoil", "word"), [(make_oom, "out_of_memory"), (make_read_only, "read_only"), (make_lonely, "no_replicas")]
)
async def test_scenario_54_what_redis_refuses_is_kept_named_and_shipped_later(
    server: Server, tmp_path: Path, spoil: Any, word: str
) -> None:
    with shipping(server, tmp_path) as rig:
        await rig.append(10)
        await rig.shipped()
        with server.client() as client:
            spoil(client)
            await rig.append(300)
            await until(lambda: rig.shipper.status().error == word)
            assert len(rig.entries()) == 11, "a batch refused in part would leave a gap for ever"
            assert ("ship_failed", {"cause": word}) in rig.alarms
            mend(client)
        await rig.shipped()
        assert set(rig.alarms.words) == {"ship_failed"}


async def test_scenario_54_a_key_of_another_type_is_left_alone(server: Server, tmp_path: Path) -> None:
    server.kill()
    with shipping(server, tmp_path) as rig:
        await rig.append(5)
        server.start()
        with server.client() as client:
            client.set(rig.key, "not a stream")
            await until(lambda: rig.shipper.status().error == "wrong_type")
            assert client.get(rig.key) == b"not a stream"
            client.delete(rig.key)
        await rig.shipped()


async def test_scenario_54_missing_permission_and_wrong_password_are_told_apart_and_mended_without_restart(
    server: Server, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_text("wrong")
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "audit", "on", ">secret", "~audit:*", "-@all")
        with shipping(server, tmp_path, redis_user="audit", redis_password_file=password) as rig:
            await rig.append(5)
            await until(lambda: rig.shipper.status().error == "authentication")
            password.write_text("secret")
            await until(lambda: rig.shipper.status().error == "no_permission")
            password.unlink()
            client.execute_command("CLIENT", "KILL", "USER", "audit")
            await until(lambda: rig.shipper.status().error == "password_file")
            password.write_text("secret")
            client.execute_command("ACL", "SETUSER", "audit", *ACL)
            await rig.shipped()
            told = json.dumps(rig.alarms)
            assert "secret" not in told
            assert "wrong" not in told


async def test_scenario_54_failures_are_retried_with_growing_jittered_pauses(server: Server, tmp_path: Path) -> None:
    log = open_log(tmp_path)
    settings = AuditSettings(directory=tmp_path, redis_url="unix:///nowhere/s")
    drawn = iter([0.0, 1.0, 0.5, *[0.0] * 20])
    shipper = Shipper(log, settings, deployment="default", pace=Pace(1.0, 60.0), jitter=lambda: next(drawn))
    waits: list[float] = []
    shipper._wait = waits.append  # type: ignore[method-assign]
    for _ in range(8):
        shipper._pause("unreachable")
    shipper._pause("no_permission")
    assert waits == [1.0, 4.0, 6.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0]
    log.shut()


async def test_scenario_55_a_deleted_stream_is_shipped_again_recorded_and_alarmed(
    server: Server, tmp_path: Path
) -> None:
    with shipping(server, tmp_path, pace=Pace(0.02, 0.1, 60.0, 0.5)) as rig:
        await rig.append(30)
        await rig.shipped()
        server.client().delete(rig.key)
        await rig.append(1)
        await rig.shipped()
        assert rig.alarms == [("stream_shortened", {"stream": rig.key, "entry": 0, "was": 31})]
        assert rig.recorded() == ["stream_shortened"]


async def test_scenario_55_a_deletion_is_noticed_while_nothing_is_appended(server: Server, tmp_path: Path) -> None:
    with shipping(server, tmp_path) as rig:
        await rig.append(5)
        await rig.shipped()
        server.client().flushall()
        await until(lambda: "stream_shortened" in rig.alarms.words)
        await rig.shipped()


async def test_scenario_55_a_deletion_while_no_gate_ran_is_noticed_at_the_next_start(
    server: Server, tmp_path: Path
) -> None:
    with shipping(server, tmp_path) as rig:
        await rig.append(5)
        await rig.shipped()
        rig.shipper.stop(1)
    server.client().flushall()
    with shipping(server, tmp_path) as rig:
        await until(lambda: "stream_shortened" in rig.alarms.words)
        await rig.shipped()


async def test_scenario_55_trimming_raises_an_alarm_and_changes_no_number(server: Server, tmp_path: Path) -> None:
    with shipping(server, tmp_path) as rig:
        await rig.append(30)
        await rig.shipped()
        server.client().xtrim(rig.key, maxlen=10, approximate=False)
        await until(lambda: "stream_trimmed" in rig.alarms.words)
        await rig.append(1)
        await until(lambda: rig.shipper.status().lag == 0)
        assert dict(rig.alarms)["stream_trimmed"] == {"stream": rig.key, "entries": 21}
        assert rig.alarms.words.count("stream_trimmed") == 1
        assert [StreamId.parse(entry_id).index for entry_id, _ in rig.entries()][:10] == list(range(21, 31))


@pytest.mark.parametrize("foreign", [f"{2**64 - 1}-{2**64 - 1}", "99999999999999-0", "99999999999999-3"])
async def test_scenario_55_a_foreign_entry_stops_the_shipper_with_an_alarm(
    server: Server, tmp_path: Path, foreign: str
) -> None:
    with shipping(server, tmp_path) as rig:
        await rig.append(5)
        await rig.shipped()
        server.client().xadd(rig.key, {"body": "{}"}, id=foreign)
        await rig.append(5)
        await until(lambda: rig.shipper.status().state is ShipperState.FORKED)
        assert rig.alarms.words[-1] == "stream_forked"
        assert rig.shipper.status().error == "forked"
        await rig.append(5)
        assert rig.shipper.status().lag > 5


async def test_scenario_55_another_body_under_our_id_is_a_fork(server: Server, tmp_path: Path) -> None:
    log = open_log(tmp_path)
    await log.append(small())
    frame, key = log.history()[-1].read(1, 1)[0], stream_key("default", log.name)
    await log.close()
    server.client().xadd(key, {"body": "{}"}, id=str(StreamId(frame.ms, 1)))
    with shipping(server, tmp_path) as rig:
        await until(lambda: rig.shipper.status().state is ShipperState.FORKED)
        assert len(rig.entries()) == 1
        await until(lambda: "stream_forked" in rig.recorded())


async def test_entries_no_longer_held_are_named_as_a_gap(server: Server, tmp_path: Path) -> None:
    with shipping(server, tmp_path) as rig:
        for _ in range(10):
            await rig.append(100)
            await until(lambda: rig.shipper.status().lag == 0)
        files = rig.log.history()[-1]
        assert files.first > 0
        server.client().flushall()
        await until(lambda: "stream_gap" in rig.alarms.words)
        await until(lambda: rig.shipper.status().lag == 0)
        assert dict(rig.alarms)["stream_gap"] == {"stream": rig.key, "entry": 0, "held_from": files.first}
        assert StreamId.parse(rig.entries()[0][0]).index == files.first


async def test_a_log_that_ended_is_shipped_before_its_successor(server: Server, tmp_path: Path) -> None:
    server.kill()
    with shipping(server, tmp_path) as rig:
        await rig.append(10)
        await rig.append(1)
        first = rig.key
        (segment,) = rig.log.history()[-1].folder.glob("*.seg")
    content = bytearray(segment.read_bytes())
    content[content.index(b'"index":5')] ^= 1
    segment.write_bytes(content)
    server.start()
    with shipping(server, tmp_path) as rig:
        await rig.shipped()
        assert rig.key != first
        assert server.client().xlen(first) == 5


@pytest.mark.redis_server
@NEEDS_REDIS
async def test_tls_is_checked_against_the_given_authority(tmp_path: Path, unused_tcp_port: int) -> None:
    ours, other = identity(tmp_path / "ours", "localhost"), identity(tmp_path / "other", "localhost")
    with running(redis_binary()) as server:
        server.kill()
        tls = {"port": unused_tcp_port, "cert-file": ours.certificate, "key-file": ours.key, "auth-clients": "no"}
        server.start(*(word for name, value in tls.items() for word in (f"--tls-{name}", str(value))))
        url = f"rediss://localhost:{unused_tcp_port}"
        with shipping(server, tmp_path, redis_url=url, redis_ca_file=other.certificate) as rig:
            await rig.append(5)
            await until(lambda: rig.shipper.status().error == "unreachable")
            assert rig.entries() == []
        with shipping(server, tmp_path, redis_url=url, redis_ca_file=ours.certificate) as rig:
            await rig.shipped()


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (redis.ResponseError("MISCONF Redis is configured to save"), "misconfigured"),
        (redis.ResponseError("WRONGTYPE Operation against"), "wrong_type"),
        (redis.exceptions.MovedError("1 127.0.0.1:1"), "moved"),
        (redis.exceptions.BusyLoadingError("loading"), "loading"),
        (redis.ResponseError("ERR anything: Command # 1 (XADD key body) of pipeline"), "refused"),
    ],
)
def test_every_failure_has_one_word_and_shows_no_command(error: Exception, word: str) -> None:
    assert fault_word(error) == word


def test_a_url_of_another_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match="rediss://"):
        connect("http://localhost")
