"""Checkpoints beside a log on real files: what is signed is on disk, and a log that was changed does not go on."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import copies as made
from fakes.events import decision
from fakes.logs import CAP, Alarms, open_log, small, stored, until
from fakes.seals import KEY, NEXT, QUICK, TRUSTED, checkpoints, seal
from fakes.valkey import Server, running

from rankgate.audit import frame
from rankgate.audit.checkpoint import Kind, read_rotation, verify_checkpoint
from rankgate.audit.names import stream_key
from rankgate.audit.note import Signer, Verifiers
from rankgate.audit.proving import prove
from rankgate.audit.sealed import Sealed, checkpoints_key
from rankgate.audit.tree import leaf_hash, root_of
from rankgate.clients import audit
from rankgate.clients.audit import FileLog
from rankgate.clients.audit_redis import connect
from rankgate.clients.checkpoint_file import CheckpointFile
from rankgate.clients.copying import from_disk
from rankgate.clients.disk import sync_file
from rankgate.clients.places import FilePlace, RedisPlace, place_file
from rankgate.clients.sealing import SealPace
from rankgate.clients.segments import PREAMBLE
from rankgate.clients.shipper import Shipper
from rankgate.settings import AuditSettings

SLOW = SealPace(longest_s=3600.0, heartbeat_s=3600.0)


async def write(directory: Path, count: int, *keys: Signer, alarms: Alarms | None = None) -> FileLog:
    """Open the slot with a seal, append, close, and return the closed log."""
    log = open_log(directory, alarms, seal=seal(*keys))
    await asyncio.gather(*(log.append(small(number)) for number in range(count)))
    await log.close()
    return log


def folder(log: FileLog, position: int = -1) -> Path:
    return log.history()[position].folder


def kinds(found: list[Sealed]) -> list[Kind]:
    return [one.checkpoint.kind for one in found]


def lifecycle(log: FileLog, what: str, position: int = -1) -> list[dict[str, object]]:
    ours = [json.loads(leaf)["unmapped"]["rankgate"] for leaf in stored(log, position)]
    return [one["detail"] for one in ours if what in {one["what"], one.get("word")}]


async def test_every_checkpoint_is_signed_numbered_and_of_what_the_log_holds(tmp_path: Path) -> None:
    log = await write(tmp_path, 700)
    leaves, found = stored(log), checkpoints(folder(log))
    assert kinds(found)[0] == Kind.OPEN
    assert kinds(found)[-1] == Kind.CLOSE
    hashes = [leaf_hash(leaf) for leaf in leaves]
    size = 0
    for number, sealed in enumerate(found):
        head, key = verify_checkpoint(sealed.checkpoint.note, TRUSTED)
        assert (head.deployment, head.log, head.number, key) == ("default", log.name, number, KEY.verifier)
        assert head.root == root_of(hashes[: head.size])
        assert sealed.first == size
        assert list(sealed.leaves) == hashes[size : head.size]
        size = head.size
    assert size == len(leaves) == 701
    assert found[0].checkpoint.size == 0


async def test_entries_are_signed_by_number_by_time_and_silence_by_heartbeats(tmp_path: Path) -> None:
    def sizes(directory: Path) -> list[int]:
        return [one.checkpoint.size for one in checkpoints(next(directory.rglob("checkpoints")))]

    log = open_log(tmp_path / "a", seal=seal(pace=SealPace(longest_s=3600.0, heartbeat_s=3600.0, entries=10)))
    await asyncio.gather(*(log.append(small()) for _ in range(20)))
    await until(lambda: sizes(tmp_path / "a")[-1] >= 10)
    await log.close()
    log = open_log(tmp_path / "b", seal=seal())
    await log.append(small())
    await until(lambda: sizes(tmp_path / "b")[-1] == 2)
    await log.close()
    log = open_log(tmp_path / "c", seal=seal(pace=SealPace(longest_s=3600.0, heartbeat_s=0.01)))
    await log.append(small())
    await log.close()
    log = open_log(tmp_path / "c", seal=seal(pace=SealPace(longest_s=0.01, heartbeat_s=0.01)))
    await until(lambda: Kind.HEARTBEAT in kinds(checkpoints(folder(log))))
    await log.close()


async def test_a_restart_goes_on_with_the_same_tree(tmp_path: Path) -> None:
    alarms = Alarms()
    first = await write(tmp_path, 30, alarms=alarms)
    second = await write(tmp_path, 30, alarms=alarms)
    assert first.name == second.name
    assert alarms == []
    found = checkpoints(folder(second))
    assert [kind for kind in kinds(found) if kind in {Kind.OPEN, Kind.CLOSE}] == [Kind.OPEN, Kind.CLOSE] * 2
    assert found[-1].checkpoint.root == root_of(map(leaf_hash, stored(second)))
    assert [one.checkpoint.number for one in found] == list(range(len(found)))


async def test_what_a_crash_left_unsigned_is_signed_at_the_next_start(tmp_path: Path) -> None:
    log = open_log(tmp_path, seal=seal(pace=SLOW))
    await log.append(small())
    path, mark = folder(log) / "checkpoints", checkpoints(folder(log))
    kept = path.read_bytes()
    await log.close()
    path.write_bytes(kept + b'{"checkpoint": "torn')
    again = await write(tmp_path, 1)
    assert again.name == log.name
    assert kinds(mark) == [Kind.OPEN]
    found = checkpoints(folder(again))
    assert found[1].checkpoint.size == 2
    assert len(found[1].leaves) == 2


def rewrite(path: Path, change: Callable[[list[frame.Frame]], list[bytes]]) -> None:
    """Write a segment again with other leaves, each frame sound."""
    size = path.stat().st_size
    frames, _ = frame.frames(path.read_bytes(), 0, len(PREAMBLE))
    data = PREAMBLE + b"".join(
        frame.encode(index, frames[0].ms, index, leaf) for index, leaf in enumerate(change(frames))
    )
    path.write_bytes(data + bytes(size - len(data)))


def altered(frames: list[frame.Frame]) -> list[bytes]:
    leaves = [one.leaf for one in frames]
    leaves[3] = leaves[3].replace(b'"number":', b'"numbeR":')
    return leaves


def shortened(frames: list[frame.Frame]) -> list[bytes]:
    return [one.leaf for one in frames[:-1]]


@pytest.mark.parametrize(("change", "why"), [(altered, "changed"), (shortened, "cut")])
async def test_a_log_that_is_not_what_was_signed_ends_and_another_begins(
    tmp_path: Path, change: Callable[[list[frame.Frame]], list[bytes]], why: str
) -> None:
    alarms = Alarms()
    first = await write(tmp_path, 9)
    (segment,) = folder(first).glob("*.seg")
    (folder(first) / "shipped").unlink(missing_ok=True)
    rewrite(segment, change)
    second = await write(tmp_path, 1, alarms=alarms)
    assert second.name != first.name
    assert alarms.words == ["log_unlike"]
    assert alarms[0][1] == {"log": first.name, "cause": why}
    (began,) = lifecycle(second, "log_began")
    assert (began["previous"], began["reason"]) == (first.name, why)
    assert lifecycle(second, "log_unlike")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda path: path.unlink(), "unsigned"),
        (lambda path: path.write_bytes(b"not a checkpoint\n"), "unreadable"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"time 1", b"time 2")), "foreign"),
    ],
)
async def test_a_log_whose_checkpoints_were_tampered_with_ends(
    tmp_path: Path, spoil: Callable[[Path], object], why: str
) -> None:
    alarms = Alarms()
    first = await write(tmp_path, 3)
    spoil(folder(first) / "checkpoints")
    second = await write(tmp_path, 1, alarms=alarms)
    assert second.name != first.name
    assert alarms[0] == ("log_unlike", {"log": first.name, "cause": why})


async def test_a_log_begins_anew_when_signing_begins_and_its_first_entry_holds_the_root_of_the_old(
    tmp_path: Path,
) -> None:
    plain = open_log(tmp_path)
    await plain.append(small())
    await plain.close()
    signed = await write(tmp_path, 1)
    (began,) = lifecycle(signed, "log_began")
    assert began["reason"] == "unsigned"
    assert began["root"] == base64.b64encode(root_of(map(leaf_hash, stored(plain)))).decode()


async def test_a_new_key_takes_over_with_a_note_that_both_signed(tmp_path: Path) -> None:
    first = await write(tmp_path, 2, KEY)
    second = await write(tmp_path, 2, NEXT, KEY)
    assert second.name == first.name
    ((note,),) = [tuple(one.values()) for one in lifecycle(second, "key_rotation")]
    assert read_rotation(str(note), TRUSTED).key == NEXT.verifier
    assert verify_checkpoint(checkpoints(folder(second))[-1].checkpoint.note, Verifiers([NEXT.verifier]))
    third = await write(tmp_path, 1, NEXT)
    assert third.name == first.name
    assert len(lifecycle(third, "key_rotation")) == 1


async def test_an_unknown_key_does_not_go_on_with_a_log(tmp_path: Path) -> None:
    alarms = Alarms()
    first = await write(tmp_path, 2, KEY)
    second = await write(tmp_path, 1, NEXT, alarms=alarms)
    assert second.name != first.name
    assert alarms[0][1]["cause"] == "foreign"


async def test_a_log_whose_first_segments_were_deleted_still_goes_on(tmp_path: Path) -> None:
    alarms = Alarms()
    log = open_log(tmp_path, alarms, seal=seal())
    for _ in range(12):
        await asyncio.gather(*(log.append(small(size=1000)) for _ in range(50)))
        last = log.history()[-1].next

        def all_signed(last: int = last) -> bool:
            return checkpoints(folder(log))[-1].checkpoint.size == last

        await until(all_signed)
        log.delivered(log.history()[-1], last)
    assert log.history()[-1].first > 0
    assert log.history()[-1].held_bytes <= CAP // 2
    await log.close()
    again = await write(tmp_path, 1, alarms=alarms)
    assert again.name == log.name
    assert alarms == []
    copies = from_disk(tmp_path)
    assert copies[log.name].first == again.history()[-1].first
    report = prove(copies, None, [KEY.verifier])
    assert report.verified
    assert report.logs[0].covered == again.history()[-1].next
    first = copies[log.name].entries[0]
    copies[log.name].entries[0] = replace(first, body=first.body.replace(b"xx", b"xy", 1))
    assert prove(copies, None, [KEY.verifier]).logs[0].first_bad == first.index


def test_a_checkpoint_is_found_by_its_number_wherever_it_is(tmp_path: Path) -> None:
    rows = made.entries("local/a-0/1", [decision(number) for number in range(40)])
    found = made.sealed("local/a-0/1", rows, [(size, Kind.REGULAR) for size in (0, 1, 1, 30, 31, 31, 40)], first=3)
    file = CheckpointFile(tmp_path, sync_file)
    assert file.find(0) is None
    for one in found:
        file.append(one)
    file.close()
    again = CheckpointFile(tmp_path, sync_file)
    assert again.load() == found[-1]
    end = 0
    for one in found:
        end += len(one.line)
        assert again.find(one.checkpoint.number) == (end, one)
    assert again.size == end
    assert again.find(2) is None
    assert again.find(10) is None


async def test_entries_that_are_not_signed_yet_are_not_deleted(tmp_path: Path) -> None:
    log = open_log(tmp_path, seal=seal(pace=SealPace(entries=10**6, longest_s=3600.0)))
    for _ in range(12):
        await asyncio.gather(*(log.append(small(size=1000)) for _ in range(50)))
        log.delivered(log.history()[-1], log.history()[-1].next)
    assert log.history()[-1].first == 0
    await log.close()


async def test_a_disk_that_does_not_take_a_checkpoint_is_alarmed_and_the_next_one_holds_all(tmp_path: Path) -> None:
    alarms = Alarms()
    log = open_log(tmp_path, alarms, seal=seal())
    path = folder(log) / "checkpoints"
    await until(lambda: len(checkpoints(path)) >= 2)
    before = audit_file(log)
    await log.append(small())
    await until(lambda: "checkpoint_failed" in alarms.words)
    before()
    await until(lambda: checkpoints(path)[-1].checkpoint.size >= 3)
    await log.close()
    found = checkpoints(path)
    assert [one.checkpoint.number for one in found] == list(range(len(found)))
    assert sum(len(one.leaves) for one in found) == found[-1].checkpoint.size


def audit_file(log: FileLog) -> Callable[[], None]:
    """Let the disk refuse checkpoints until what is returned is called."""
    book = log._seal._books[-1]  # type: ignore[union-attr]

    def refuse(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    sync, book.checkpoints._sync = book.checkpoints._sync, refuse

    def mend() -> None:
        book.checkpoints._sync = sync

    return mend


async def test_a_failed_sync_ends_the_log_and_the_new_one_holds_its_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "RETRY_S", 0.02)
    failing = False

    def sync(descriptor: int) -> None:
        if failing:
            raise OSError(5, "Input/output error")

    log = open_log(tmp_path, seal=seal(), sync=sync)
    await log.append(small())
    failing = True
    results = await asyncio.gather(log.append(small()), return_exceptions=True)
    assert isinstance(results[0], BaseException)
    failing = False
    await until(lambda: log.ready)
    await log.append(small())
    await log.close()
    (began,) = lifecycle(log, "log_began")
    assert began["root"] == base64.b64encode(root_of(map(leaf_hash, stored(log, 0)))).decode()
    assert checkpoints(folder(log))[-1].checkpoint.root == root_of(map(leaf_hash, stored(log)))


# -- a second place ---------------------------------------------------------------------------------------------------


async def test_a_second_place_holds_every_checkpoint_also_those_from_before_it_was_named(tmp_path: Path) -> None:
    await write(tmp_path / "own", 5)
    log = open_log(tmp_path / "own", seal=seal(places=[(FilePlace(tmp_path / "second"), False)]))
    await log.append(small())
    await log.close()
    assert checkpoints(tmp_path / "second" / place_file(log.name)) == checkpoints(folder(log))


async def test_a_second_place_that_is_away_is_alarmed_and_gets_all_of_it_later(tmp_path: Path) -> None:
    alarms = Alarms()
    (tmp_path / "second").write_text("no folder")
    log = open_log(tmp_path / "own", alarms, seal=seal(places=[(FilePlace(tmp_path / "second"), False)]))
    await log.append(small())
    await until(lambda: "checkpoints_late" in alarms.words)
    (tmp_path / "second").unlink()
    await log.append(small())
    await log.close()
    assert checkpoints(tmp_path / "second" / place_file(log.name)) == checkpoints(folder(log))
    assert alarms.words.count("checkpoints_late") == 1


async def test_a_line_torn_at_the_second_place_is_followed_by_whole_ones(tmp_path: Path) -> None:
    log = await write(tmp_path / "own", 5)
    own = (folder(log) / "checkpoints").read_bytes()
    path = tmp_path / "second" / place_file(log.name)
    path.parent.mkdir()
    path.write_bytes(own[: own.index(b"\n") + 30])
    log = open_log(tmp_path / "own", seal=seal(places=[(FilePlace(tmp_path / "second"), False)]))
    await log.close()
    lines = path.read_bytes().splitlines(keepends=True)
    del lines[1]
    assert b"".join(lines) == (folder(log) / "checkpoints").read_bytes()


async def test_a_file_that_vanished_from_the_second_place_is_written_again_from_its_beginning(tmp_path: Path) -> None:
    log = open_log(tmp_path / "own", seal=seal(places=[(FilePlace(tmp_path / "second"), False)]))
    path = tmp_path / "second" / place_file(log.name)
    await until(path.exists)
    path.unlink()
    await log.append(small())
    await log.close()
    assert checkpoints(path) == checkpoints(folder(log))


async def test_a_log_that_was_rolled_back_forks_from_the_second_place_and_is_alarmed(tmp_path: Path) -> None:
    alarms = Alarms()

    def places() -> list[tuple[FilePlace, bool]]:
        return [(FilePlace(tmp_path / "second"), False)]

    log = open_log(tmp_path / "own", seal=seal(places=places()))
    await log.close()
    state = {path: path.read_bytes() for path in (tmp_path / "own").rglob("*") if path.is_file()}
    log = open_log(tmp_path / "own", seal=seal(places=places()))
    await log.append(small())
    await log.close()
    for path, data in state.items():
        path.write_bytes(data)
    log = open_log(tmp_path / "own", alarms, seal=seal(places=places()))
    await until(lambda: "checkpoints_forked" in alarms.words)
    await log.close()


@pytest.fixture
def server() -> object:
    with running() as started:
        yield started


def in_redis(server: Server, log: FileLog) -> list[Sealed]:
    with server.client() as client:
        found = client.xrange(checkpoints_key(stream_key("default", log.name)))
    return [Sealed.read(fields[b"checkpoint"].decode(), fields[b"leaves"].decode()) for _, fields in found]


async def test_redis_holds_a_checkpoint_once_it_holds_its_entries(server: Server, tmp_path: Path) -> None:
    place = RedisPlace(connect(server.url), "default", "redis")
    log = open_log(tmp_path, seal=seal(places=[(place, True)]))
    await asyncio.gather(*(log.append(small()) for _ in range(20)))
    await until(lambda: checkpoints(folder(log))[-1].checkpoint.size >= 21)
    await until(lambda: bool(in_redis(server, log)))
    assert [one.checkpoint.size for one in in_redis(server, log)] == [0]
    shipper = Shipper(log, AuditSettings(directory=tmp_path, redis_url=server.url), deployment="default")
    shipper.start()
    await until(lambda: in_redis(server, log)[-1].checkpoint.size >= 21)
    shipper.stop(10.0)
    await log.close()
    assert in_redis(server, log) == checkpoints(folder(log))


async def test_the_user_for_shipping_may_send_checkpoints_too(server: Server, tmp_path: Path) -> None:
    may = ["-@all", "+xadd", "+xrange", "+xinfo|stream", "+multi", "+exec"]  # as docs/audit.md says
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "audit", "on", ">secret", "~audit:*", *may)
    (tmp_path / "password").write_text("secret")
    client = connect(server.url, user="audit", password_file=tmp_path / "password")
    for _ in range(2):
        log = open_log(tmp_path / "own", seal=seal(places=[(RedisPlace(client, "default", "second_redis"), False)]))
        await log.append(small())
        await log.close()
    assert in_redis(server, log) == checkpoints(folder(log))


async def test_a_stream_of_checkpoints_that_was_deleted_is_filled_again(server: Server, tmp_path: Path) -> None:
    log = open_log(tmp_path, seal=seal(places=[(RedisPlace(connect(server.url), "default", "second_redis"), False)]))
    await until(lambda: bool(in_redis(server, log)))
    server.kill()
    await log.append(small())
    await asyncio.to_thread(server.start)
    with server.client() as client:
        client.flushall()
    await log.append(small())
    await log.close()
    assert in_redis(server, log) == checkpoints(folder(log))


async def test_somebody_elses_entry_among_the_checkpoints_is_a_fork(server: Server, tmp_path: Path) -> None:
    alarms = Alarms()
    place = RedisPlace(connect(server.url), "default", "second_redis")
    log = open_log(tmp_path, alarms, seal=seal(places=[(place, False)]))
    await until(lambda: bool(in_redis(server, log)))
    with server.client() as client:
        client.xadd(checkpoints_key(stream_key("default", log.name)), {"a": "b"}, id="99999999999999-0")
    await log.append(small())
    await until(lambda: "checkpoints_forked" in alarms.words)
    await log.close()
    assert QUICK.entries == 256
