"""The local log, on real files: what is acknowledged is there, and nothing else is acknowledged."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from fakes.events import decision
from fakes.logs import CAP, WAIT_S, Alarms, open_log, small, stored, until

from rankgate.audit.entry import read_body
from rankgate.clients import audit
from rankgate.clients.audit import FileLog
from rankgate.clients.disk import sync_file
from rankgate.errors import GateError, Reason, SettingsError


class Disk:
    """A sync that can be told to fail, or to wait."""

    def __init__(self) -> None:
        self.failing = False
        self.gate = threading.Event()
        self.gate.set()
        self.calls = 0

    def __call__(self, descriptor: int) -> None:
        self.calls += 1
        assert self.gate.wait(WAIT_S)
        if self.failing:
            raise OSError(errno.EIO, "Input/output error")
        sync_file(descriptor)


@asynccontextmanager
async def opened(directory: Path, alarms: Alarms | None = None, **options: object) -> AsyncIterator[FileLog]:
    log = open_log(directory, alarms, **options)  # type: ignore[arg-type]
    try:
        yield log
    finally:
        await log.close()


def words(log: FileLog) -> list[str]:
    return [row.word or row.what for row in map(read_body, stored(log))]


async def until_refused(log: FileLog) -> int:
    """Append until that is refused as it must be; return the last number acknowledged."""
    last = -1
    for number in range(10_000):
        (result,) = await asyncio.gather(log.append(small(number, 1000)), return_exceptions=True)
        if isinstance(result, BaseException):
            assert isinstance(result, GateError)
            assert result.reason is Reason.AUDIT_UNAVAILABLE
            return last
        last = result.index
    raise AssertionError("nothing was refused")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "RETRY_S", 0.02)


async def test_a_receipt_names_the_stored_entry(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        receipt = await log.append(decision())
        row = read_body(stored(log)[receipt.index])
        assert row.position == str(receipt)
        assert row.decision_id == "decision-1"
        assert receipt.log == log.name


async def test_many_appends_are_numbered_without_gaps_and_share_syncs(tmp_path: Path) -> None:
    disk = Disk()
    async with opened(tmp_path, sync=disk) as log:
        before = disk.calls
        receipts = await asyncio.gather(*(log.append(small(n)) for n in range(200)))
        assert sorted(receipt.index for receipt in receipts) == list(range(1, 201))
        assert disk.calls - before < 100
        assert [json.loads(leaf)["unmapped"]["rankgate"]["index"] for leaf in stored(log)] == list(range(201))


async def test_no_receipt_comes_before_the_sync(tmp_path: Path) -> None:
    disk = Disk()
    async with opened(tmp_path, sync=disk) as log:
        await log.append(small())
        disk.gate.clear()
        waiting = asyncio.ensure_future(log.append(small()))
        calls = disk.calls
        await until(lambda: disk.calls > calls)
        assert not waiting.done()
        assert log.history()[-1].next == 2
        disk.gate.set()
        assert (await waiting).index == 2


async def test_one_sync_is_in_flight_and_the_next_takes_all_that_came_meanwhile(tmp_path: Path) -> None:
    disk = Disk()
    async with opened(tmp_path, sync=disk) as log:
        await log.append(small())
        disk.gate.clear()
        calls = disk.calls
        first = asyncio.ensure_future(log.append(small()))
        await until(lambda: disk.calls == calls + 1)
        rest = [asyncio.ensure_future(log.append(small(n))) for n in range(50)]
        await asyncio.sleep(0)
        disk.gate.set()
        await asyncio.gather(first, *rest)
        assert disk.calls == calls + 2


async def test_a_restart_continues_the_same_log_without_gap(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        name = log.name
        await log.append(small())
    async with opened(tmp_path) as log:
        assert log.name == name
        assert (await log.append(small())).index == 2
    assert list((tmp_path / "local.authz-0").iterdir())


async def test_times_in_stream_ids_never_go_back(tmp_path: Path) -> None:
    clock = iter([2_000_000_000_000, 1_000_000_000_000])
    for _ in range(2):
        started = next(clock)
        async with opened(tmp_path, wall_ms=lambda started=started: started) as log:
            await log.append(small())
            frames = log.history()[-1].read(0, 10)
    assert [frame.ms for frame in frames] == sorted(frame.ms for frame in frames)
    assert frames[-1].ms >= 2_000_000_000_000


async def test_a_cancelled_append_is_written_all_the_same(tmp_path: Path) -> None:
    disk = Disk()
    async with opened(tmp_path, sync=disk) as log:
        await log.append(small())
        disk.gate.clear()
        waiting = asyncio.ensure_future(log.append(decision(7)))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        disk.gate.set()
        await log.append(small())
        assert [read_body(leaf).decision_id for leaf in stored(log)].count("decision-7") == 1


async def test_two_processes_cannot_share_a_slot(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(SettingsError, match="in use by another process"):
            open_log(tmp_path)
    await open_log(tmp_path).close()


def test_a_folder_that_cannot_be_used_is_refused_at_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"audit\.directory"):
        open_log(tmp_path / "file")


async def test_after_close_nothing_is_accepted(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        pass
    assert not log.ready
    with pytest.raises(GateError) as refused:
        await log.append(small())
    assert refused.value.reason is Reason.AUDIT_UNAVAILABLE


async def test_an_event_that_cannot_be_rendered_leaves_no_gap(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        with pytest.raises(GateError) as refused:
            await log.append(decision(risk=float("inf")))
        assert refused.value.reason is Reason.AUDIT_UNAVAILABLE
        assert (await log.append(small())).index == 1


async def test_scenario_56_a_failed_sync_refuses_and_a_new_log_names_the_old_one(tmp_path: Path) -> None:
    disk, alarms = Disk(), Alarms()
    async with opened(tmp_path, alarms, sync=disk) as log:
        old = log.name
        await log.append(small())
        disk.failing = True
        results = await asyncio.gather(*(log.append(decision(n)) for n in range(20)), return_exceptions=True)
        assert {type(result) for result in results} == {GateError}
        assert {result.reason for result in results} == {Reason.AUDIT_UNAVAILABLE}  # type: ignore[union-attr]
        assert not log.ready
        await until(lambda: disk.calls > 10)
        disk.failing = False
        await until(lambda: log.ready)
        # However often a new log could not be begun, nothing is left of the attempts.
        assert len(list(log.history()[0].folder.parent.iterdir())) == len(["lock", "ended log", "new log"])
        receipt = await log.append(small())
        assert receipt.log == log.name != old
        began = json.loads(stored(log)[0])["unmapped"]["rankgate"]
        assert began["what"] == "log_began"
        assert began["detail"] == {"previous": old, "entries": 2, "reason": "sync_failed"}
        assert len(stored(log, 0)) == 2
        assert alarms.words == ["sync_failed"]
    async with opened(tmp_path) as log:
        assert len(stored(log, 0)) == 2
        assert not any(read_body(leaf).kind == "decision" for leaf in stored(log, 0) + stored(log))


async def test_scenario_56_a_slow_disk_delays_but_loses_nothing_and_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "PENDING_BYTES", 20_000)
    disk = Disk()
    async with opened(tmp_path, sync=disk) as log:
        await log.append(small())
        disk.gate.clear()
        waiting = [asyncio.ensure_future(log.append(small(n, 500))) for n in range(100)]
        await until(lambda: any(task.done() for task in waiting))
        assert not log.ready
        disk.gate.set()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        refused = [result for result in results if isinstance(result, GateError)]
        assert 0 < len(refused) < 100
        assert len(stored(log)) == 2 + 100 - len(refused)


async def test_scenario_56_at_the_cap_appends_are_refused_until_entries_are_shipped(tmp_path: Path) -> None:
    alarms = Alarms()
    async with opened(tmp_path, alarms) as log:
        assert await until_refused(log) > 0
        assert CAP <= log.undelivered_bytes < CAP + 4096
        assert not log.ready
        await until(lambda: alarms.words == ["cap_near", "cap_reached"])
        files = log.history()[-1]
        shipped = files.next
        log.delivered(files, shipped)
        assert log.ready
        await log.append(small())
        assert words(log)[-2:] == ["log_resumed", "start"]
        assert files.held_bytes <= CAP // 2 + CAP // 8
        assert files.first > 0


@contextmanager
def small_disk(path: Path, size: int) -> Iterator[Path]:
    """Yield a file system of `size` bytes; skips where this user may not mount one."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
        pytest.skip("a small disk needs root")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


async def test_scenario_56_on_a_full_disk_appends_are_refused_and_go_on_when_there_is_room(tmp_path: Path) -> None:
    alarms = Alarms()
    with small_disk(tmp_path / "disk", 2 * CAP) as disk:
        ballast = disk / "ballast"
        async with opened(disk, alarms, cap=16 * CAP, segment_bytes=131_072) as log:
            ballast.write_bytes(bytes(CAP))
            last = await until_refused(log)
            assert last > 100
            assert not log.ready
            assert alarms[0][0] == "write_failed"
            assert alarms[0][1]["cause"] == "ENOSPC"
            ballast.unlink()
            await until(lambda: log.ready)
            receipt = await log.append(small())
            assert receipt.index == last + 2
            assert [json.loads(leaf)["unmapped"]["rankgate"]["index"] for leaf in stored(log)] == list(
                range(receipt.index + 1)
            )
            assert words(log)[-2:] == ["log_resumed", "start"]
            assert len(log.history()) == 1


async def test_scenario_56_a_file_limit_refuses_and_leaves_nothing_that_reads_as_an_entry(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with opened(tmp_path, cap=16 * CAP, segment_bytes=65_536) as log:
        resource.setrlimit(resource.RLIMIT_FSIZE, (32_768, before[1]))
        try:
            await until_refused(log)
            durable = log.history()[-1].next
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        await until(lambda: log.ready)
        assert words(log)[durable:] == ["log_resumed"]


async def test_scenario_56_damage_in_the_middle_ends_the_log_and_raises_an_alarm(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        old = log.name
        for number in range(5):
            await log.append(small(number))
        (segment,) = log.history()[-1].folder.glob("*.seg")
    content = segment.read_bytes()
    at = content.index(b'"index":2')
    segment.write_bytes(content[:at] + b'"index":9' + content[at + 9 :])
    alarms = Alarms()
    async with opened(tmp_path, alarms) as log:
        assert log.name != old
        assert alarms == [("log_damaged", {"log": old, "entry": 2})]
        await log.append(small())
        began = json.loads(stored(log)[0])["unmapped"]["rankgate"]
        assert began["detail"] == {"previous": old, "entries": 2, "reason": "damaged"}
        assert words(log) == ["log_began", "log_damaged", "start"]
        name = log.name
    alarms.clear()
    async with opened(tmp_path, alarms) as log:
        assert (log.name, alarms) == (name, [])


async def test_a_cut_tail_is_recorded(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        await log.append(small())
        files = log.history()[-1]
        (segment,) = files.folder.glob("*.seg")
        end = segment.read_bytes().rstrip(b"\0")
    segment.write_bytes(end[:-3])
    alarms = Alarms()
    async with opened(tmp_path, alarms) as log:
        await log.append(small())
        assert alarms.words == ["tail_cut"]
        assert words(log) == ["log_began", "tail_cut", "start"]


async def test_a_fault_of_our_own_refuses_everybody_instead_of_keeping_them_waiting(tmp_path: Path) -> None:
    alarms = Alarms()
    async with opened(tmp_path, alarms) as log:
        await log.append(small())
        log.history()[-1].write = None  # type: ignore[method-assign, assignment]
        with pytest.raises(GateError) as refused:
            await log.append(small())
        assert refused.value.reason is Reason.AUDIT_UNAVAILABLE
        assert not log.ready
        assert alarms.words == ["broken"]


@pytest.mark.parametrize("run", range(4))
def test_scenario_57_every_acknowledged_entry_survives_kill_9_without_gap(tmp_path: Path, run: int) -> None:
    acknowledged = -1
    for _ in range(2):
        acknowledged = max(acknowledged, _killed_after(tmp_path, 200 + 60 * run))
        log = open_log(tmp_path)
        try:
            log.wait_durable(0, WAIT_S)
            files = log.history()
            assert len(files) == 1
            indices = [json.loads(leaf)["unmapped"]["rankgate"]["index"] for leaf in stored(log)]
            assert indices == list(range(len(indices)))
            assert len(indices) > acknowledged
        finally:
            log.shut()


def _killed_after(directory: Path, count: int) -> int:
    """Run a writer, kill it after `count` acknowledgements, return the highest number it acknowledged."""
    command = [sys.executable, str(Path(__file__).with_name("audit_writer.py")), str(directory), "16384"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(count)]
        writer.send_signal(signal.SIGKILL)
        told += [int(line) for line in writer.stdout if line.endswith("\n")]
    return max(told)


async def test_of_events_appended_together_one_that_cannot_be_written_takes_no_other_with_it(tmp_path: Path) -> None:
    bad = decision(risk=float("nan"))
    async with opened(tmp_path) as log:
        refusals = await log.append_all([small(1), bad, small(2)])
        assert [refusal and refusal.reason for refusal in refusals] == [None, Reason.AUDIT_UNAVAILABLE, None]
        kept = [json.loads(leaf)["unmapped"]["rankgate"] for leaf in stored(log)]
        assert [one["detail"]["number"] for one in kept if one["what"] == "start"] == [1, 2]
        assert [one["index"] for one in kept] == [0, 1, 2]


async def test_events_appended_together_are_each_refused_where_the_disk_fails(tmp_path: Path) -> None:
    disk = Disk()
    async with opened(tmp_path, sync=disk) as log:
        disk.failing = True
        refusals = await log.append_all([small(1), small(2)])
        assert [refusal and refusal.reason for refusal in refusals] == [Reason.AUDIT_UNAVAILABLE] * 2
        disk.failing = False
