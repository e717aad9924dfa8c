"""The local audit log: an entry is on disk before anybody is answered.

One thread writes. While one batch is being synced the next collects by itself, so that many appends share a sync and
none waits for company. What went wrong on the disk is never papered over: an entry that is not known to be on disk is
refused to its caller, and a disk that did not confirm a sync ends the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from pathlib import Path

from rankgate.audit.event import AuditEvent, LifecycleEvent, What
from rankgate.audit.frame import HEADER_BYTES, MAX_LEAF_BYTES
from rankgate.audit.log import Receipt
from rankgate.audit.names import LogName
from rankgate.audit.ocsf import Source, render
from rankgate.audit.text import Digest
from rankgate.clients.audit_tools import Alarm, Tools, log_alarm
from rankgate.clients.audit_waiting import Waiting, reject, resolve
from rankgate.clients.disk import lock_folder
from rankgate.clients.recall import recall
from rankgate.clients.sealing import Seal
from rankgate.clients.segments import Entry, LogFiles, SyncError
from rankgate.errors import GateError, Reason, SettingsError
from rankgate.settings import AuditSettings

__all__ = ["Alarm", "FileLog", "Tools", "log_alarm"]

RETRY_S = 1.0
PENDING_BYTES = 16 * 1024 * 1024
MARK_S = 1.0


class _State(Enum):
    OPEN = "open"
    WRITE_FAILED = "write_failed"
    SYNC_FAILED = "sync_failed"
    BROKEN = "broken"
    CLOSED = "closed"


class FileLog:
    """The log of one process slot: an AuditLog, and what the shipper reads."""

    def __init__(
        self, slot: Path, lock: int, name: LogName, source: Source, cap_bytes: int, tools: Tools, seal: Seal | None
    ) -> None:
        self._slot = slot
        self._lock_file = lock
        self._name = name
        self._source = source
        self._cap_bytes = cap_bytes
        self._tools = tools
        self._seal = seal
        self._born_ms = tools.wall_ms()
        self._born_at = tools.monotonic()
        self._history: list[LogFiles] = []
        self._state = _State.OPEN
        self._next = 0
        self._last_ms = 0
        self._pending: list[Waiting] = []
        self._pending_bytes = 0  # of entries not on disk yet, those being written included
        self._writing: list[Waiting] = []
        self._refused = 0
        self._level = 0
        self._mark_saved_at = self._born_at
        self._work = threading.Condition()
        self._durable = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="rankgate-audit", daemon=True)

    @classmethod
    def open(
        cls,
        settings: AuditSettings,
        role: str,
        number: int,
        *,
        deployment: str,
        digest: Digest,
        version: str,
        tools: Tools | None = None,
        seal: Seal | None = None,
    ) -> FileLog:
        """Take the slot `<pod-uid>.<role>-<number>`, read its logs to the end, and go on where the last one stopped.

        With a `seal` it is signed, and goes on only if it is what was signed. Blocks. Raises SettingsError where the
        slot is taken or the folder cannot be used.
        """
        tools = tools or Tools()
        name = LogName(settings.pod_uid, role, number, 0)
        slot = settings.directory / name.slot
        try:
            lock = lock_folder(slot)
            segment_bytes = min(tools.segment_bytes, settings.cap_bytes // 8)
            tools = replace(tools, segment_bytes=segment_bytes)
            log = cls(slot, lock, name, Source(deployment, "", version, digest), settings.cap_bytes, tools, seal)
            if seal is not None:
                seal.bind(log.tell, tools.sync)
            log._recall()
        except BlockingIOError:
            raise SettingsError(
                f"audit.directory {slot} is in use by another process; give each process its own number"
            ) from None
        except (OSError, SyncError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise SettingsError(f"audit.directory {slot} cannot be used: {why}") from None
        log._thread.start()
        if seal is not None:
            seal.start()
        return log

    @property
    def ready(self) -> bool:
        """Tell whether an event would be accepted now."""
        return self._state is _State.OPEN and not self._full()

    @property
    def name(self) -> str:
        """Return the name of the log that is written now."""
        return self._source.log

    @property
    def undelivered_bytes(self) -> int:
        """Return the bytes on disk that the stream is not known to hold."""
        return sum(files.undelivered_bytes for files in self.history())

    def history(self) -> list[LogFiles]:
        """Return the slot's logs, oldest first; the last is the one written now."""
        return list(self._history)

    def log_name(self, files: LogFiles) -> str:
        """Return the name of one of the slot's logs."""
        return str(LogName(self._name.pod_uid, self._name.role, self._name.number, files.birth))

    async def append(self, event: AuditEvent) -> Receipt:
        """Return once the event is on disk; raises GateError(AUDIT_UNAVAILABLE) where it is not."""
        future: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        with self._work:
            self._admit(event, future)
            self._work.notify()
        return await future

    async def append_all(self, events: Sequence[AuditEvent]) -> list[GateError | None]:
        """Append events with one wake-up; return what keeps each from being on disk, None where nothing does."""
        futures: list[asyncio.Future[Receipt]] = [asyncio.get_running_loop().create_future() for _ in events]
        with self._work:
            for event, future in zip(events, futures, strict=True):
                try:
                    self._admit(event, future)
                except GateError as refusal:
                    future.set_exception(refusal)
            self._work.notify()
        results = await asyncio.gather(*futures, return_exceptions=True)
        return [result if isinstance(result, GateError) else None for result in results]

    def record(self, event: AuditEvent) -> None:
        """Append from any thread without waiting; raises GateError(AUDIT_UNAVAILABLE) where it is refused at once."""
        with self._work:
            self._admit(event)
            self._work.notify()

    def tell(self, word: str, detail: Mapping[str, str | int]) -> None:
        """Raise an alarm, and record it where an entry can be recorded now."""
        self._tools.alarm(word, detail)
        with self._work:
            event = LifecycleEvent(What.ALARM, self._stamp(), self._name.role, word, detail)
        with contextlib.suppress(GateError):
            self.record(event)

    async def close(self) -> None:
        """Write what was appended, accept nothing more, and free the slot."""
        await asyncio.to_thread(self.shut)

    def shut(self) -> None:
        """Do what `close` does, from a thread that may wait."""
        with self._work:
            if self._state is _State.CLOSED:
                return
            refusing = self._state is not _State.OPEN
            self._state = _State.CLOSED
            self._work.notify()
        self._thread.join()
        if self._seal is not None:
            self._seal.stop(orderly=not refusing)
        for files in self._history:
            if not refusing:
                files.save_mark()
            files.close()
        os.close(self._lock_file)

    def wait_durable(self, behind: int, timeout_s: float, enough: threading.Event | None = None) -> None:
        """Return when the current log holds more than `behind` durable entries, or after `timeout_s` seconds.

        `wake` ends the waiting early; a set `enough` keeps it from beginning.
        """
        with self._durable:
            if self._history[-1].next <= behind and not (enough and enough.is_set()):
                self._durable.wait(timeout_s)

    def wake(self) -> None:
        """End every `wait_durable` now."""
        with self._durable:
            self._durable.notify_all()

    def delivered(self, files: LogFiles, index: int) -> None:
        """Note that the stream of `files` holds every entry below `index`; a smaller number takes back."""
        files.deliver(index)
        half = self._cap_bytes // 2
        may_drop = self._seal.may_drop if self._seal else None
        while sum(one.held_bytes for one in self._history) > half:
            if not any(one.drop_oldest(may_drop) for one in self._history):
                break
        now = self._tools.monotonic()
        if now - self._mark_saved_at >= MARK_S:
            self._mark_saved_at = now
            files.save_mark()
        self._watch_cap()

    def _admit(self, event: AuditEvent, future: asyncio.Future[Receipt] | None = None) -> None:
        """Take an event in while `_work` is held; `future` is told what came of it."""
        if self._state is not _State.OPEN or self._full():
            self._refused += 1
            full = "the audit log is at its cap or the disk does not keep up"
            why = full if self._state is _State.OPEN else f"the audit log is {self._state.value}"
            raise GateError(Reason.AUDIT_UNAVAILABLE, why)
        self._enqueue(event, future)

    def _enqueue(self, event: AuditEvent, future: asyncio.Future[Receipt] | None = None) -> None:
        try:
            leaf = render(event, self._source, self._next)
        except (ValueError, TypeError, RecursionError):
            raise GateError(Reason.AUDIT_UNAVAILABLE, "an event cannot be rendered") from None
        if len(leaf) > MAX_LEAF_BYTES:
            raise GateError(Reason.AUDIT_UNAVAILABLE, "an event is too large to be recorded")
        self._pending.append(Waiting(Entry(self._next, self._stamp(), leaf), self._source.log, future))
        self._pending_bytes += HEADER_BYTES + len(leaf)
        self._next += 1

    def _full(self) -> bool:
        return self._pending_bytes >= PENDING_BYTES or self.undelivered_bytes + self._pending_bytes >= self._cap_bytes

    def _stamp(self) -> int:
        """Return the entry's ms: the wall clock at the start plus monotonic time, never less than before."""
        ms = self._born_ms + int((self._tools.monotonic() - self._born_at) * 1000)
        self._last_ms = max(self._last_ms, ms)
        return self._last_ms

    def _recall(self) -> None:
        """Read the slot's logs, and begin one where there is none to continue."""
        found = recall(self._slot, self._tools, self._seal, self.log_name)
        self._history, self._last_ms = found.history, found.last_ms
        if not found.goes_on:
            self._begin(found.why)
        else:
            self._continue(self._history[-1])
            self._record_rotations()
            if found.cut_bytes:
                self.tell("tail_cut", {"log": self._source.log, "entry": self._next, "bytes": found.cut_bytes})
        if found.damaged:
            self.tell("log_damaged", {"log": self.log_name(found.damaged[0]), "entry": found.damaged[1]})
        if found.unlike:
            self.tell("log_unlike", {"log": self.log_name(self._history[-2]), "cause": found.unlike})

    def _record_rotations(self) -> None:
        for note in self._seal.rotations if self._seal else ():
            self._enqueue(LifecycleEvent(What.KEY_ROTATION, self._stamp(), self._name.role, detail={"note": note}))

    def _begin(self, why: str) -> None:
        """Begin a new log; its first entry names the one before it and where that ended. Raises OSError, SyncError."""
        previous = self._history[-1] if self._history else None
        birth = max(self._stamp(), previous.birth + 1 if previous else 0)
        detail: dict[str, str | int] = {}
        if previous is not None:
            detail = {"previous": self.log_name(previous), "entries": previous.next, "reason": why}
            if self._seal is not None and (root := self._seal.root(previous)) is not None:
                detail["root"] = root
        files = LogFiles.create(self._slot, birth, self._tools.segment_bytes, self._tools.sync)
        if self._seal is not None:
            self._seal.begin(files, self.log_name(files))
        self._history.append(files)
        self._continue(files)
        self._enqueue(LifecycleEvent(What.LOG_BEGAN, self._last_ms, self._name.role, detail=detail))
        self._record_rotations()

    def _continue(self, files: LogFiles) -> None:
        self._source = replace(self._source, log=self.log_name(files))
        self._next = files.next

    def _run(self) -> None:
        try:
            while self._step():
                pass
        except Exception as error:  # noqa: BLE001 - a fault of ours must refuse, not leave callers waiting for ever
            self._fail(_State.BROKEN, type(error).__name__, self._writing)

    def _step(self) -> bool:
        with self._work:
            if self._state is _State.OPEN and not self._pending:
                self._work.wait()
            elif self._state in {_State.WRITE_FAILED, _State.SYNC_FAILED}:
                self._work.wait(RETRY_S)
            batch, self._pending = self._pending, []
            state = self._state
        if batch:
            self._writing = batch
            self._commit(batch)
            self._writing = []
        elif state in {_State.WRITE_FAILED, _State.SYNC_FAILED}:
            self._recover(state)
        elif state is not _State.OPEN:
            return False
        return True

    def _commit(self, batch: list[Waiting]) -> None:
        files = self._history[-1]
        while batch:
            try:
                count = files.write([pending.entry for pending in batch])
            except OSError as error:
                self._fail(_State.WRITE_FAILED, errno.errorcode.get(error.errno or 0, "unknown"), batch)
                return
            except SyncError:
                self._fail(_State.SYNC_FAILED, "sync", batch)
                return
            done, batch = batch[:count], batch[count:]
            with self._work:
                self._pending_bytes -= sum(HEADER_BYTES + len(pending.entry.leaf) for pending in done)
            resolve(done)
            self.wake()
            self._sealed(pending.entry for pending in done)
        self._watch_cap()

    def _sealed(self, entries: Iterable[Entry]) -> None:  # on disk, and whoever waited for them was told
        if self._seal is not None:
            self._seal.add(entry.leaf for entry in entries)

    def _fail(self, state: _State, cause: str, lost: list[Waiting]) -> None:
        with self._work:
            lost = lost + self._pending
            self._pending, self._pending_bytes = [], 0
            if self._state is not _State.CLOSED:
                self._state = state
            self._refused += len(lost)
            self._next = self._history[-1].next
        self._tools.alarm(state.value, {"log": self._source.log, "entry": self._next, "cause": cause})
        reject(lost)

    def _recover(self, state: _State) -> None:
        """Probe the disk with a real entry that tells what happened; open again only when it is durable."""
        files = self._history[-1]
        with self._work:
            refused = self._refused
        try:
            if state is _State.SYNC_FAILED:
                files.end(state.value)
                self._begin(state.value)
                files = self._history[-1]
            else:
                files.repair()
            detail: dict[str, str | int] = {"cause": state.value, "refused": refused}
            self._enqueue(LifecycleEvent(What.ALARM, self._stamp(), self._name.role, "log_resumed", detail))
            probe, self._pending, self._pending_bytes = self._pending, [], 0
            entries = [pending.entry for pending in probe]
            while entries:
                count = files.write(entries)
                self._sealed(entries[:count])
                entries = entries[count:]
        except (OSError, SyncError) as error:
            with self._work:
                self._pending, self._pending_bytes = [], 0
                if len(self._history) > 1 and not self._history[-1].next:
                    self._history.pop().discard()
                self._continue(self._history[-1])
                if self._state is not _State.CLOSED and isinstance(error, SyncError):
                    self._state = _State.SYNC_FAILED
            return
        with self._work:
            if self._state is not _State.CLOSED:
                self._state = _State.OPEN
            self._refused -= refused
        self.wake()

    def _watch_cap(self) -> None:
        used = self.undelivered_bytes
        level = 100 if used >= self._cap_bytes else 80 if used * 10 >= self._cap_bytes * 8 else 0
        if level > self._level:
            self._tools.alarm("cap_reached" if level == 100 else "cap_near", {"log": self._source.log, "bytes": used})
        left_cap, self._level = self._level == 100 and level < 100, level
        if left_cap:
            with self._work:
                refused, self._refused = self._refused, 0
            self.tell("log_resumed", {"cause": "cap_reached", "refused": refused})
