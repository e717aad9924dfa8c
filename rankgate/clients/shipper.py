"""Durable entries -> Redis Streams: in order, each once, in a thread of its own.

The stream is asked, never assumed: after every connection the shipper reads the stream's last id and goes on behind it.
Whatever fails, the file keeps the entries and appends go on; docs/audit.md tells what each failure does.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import redis

from rankgate.audit.entry import BodyError, to_fields
from rankgate.audit.frame import Frame
from rankgate.audit.names import StreamId, stream_key
from rankgate.clients.audit import FileLog
from rankgate.clients.audit_redis import ANSWER_S, connect, fault_word, server_text
from rankgate.clients.segments import LogFiles
from rankgate.settings import AuditSettings

__all__ = ["Pace", "Shipper", "ShipperState", "ShipperStatus"]

BATCH = 256
IDLE_S = 0.5
# Only a person can change what these say; asking often would not help.
_FOR_A_PERSON = frozenset({"authentication", "no_permission", "wrong_type", "password_file", "moved"})


class ShipperState(StrEnum):
    """What the shipper is doing."""

    CONNECTING = "connecting"
    SHIPPING = "shipping"
    WAITING = "waiting"
    FORKED = "forked"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ShipperStatus:
    """Where shipping stands: entries below `shipped` of `log` are in its stream; lag counts all logs of the slot.

    `error` is the word of the last failure, empty once shipping goes on.
    """

    state: ShipperState
    log: str
    shipped: int
    lag: int
    lag_bytes: int
    error: str


@dataclass(frozen=True, slots=True)
class Pace:
    """Times in seconds: first and longest wait after a failure, how often a stream's end is asked for while all goes
    well, and how long an answer may take.
    """

    first_s: float = 0.1
    longest_s: float = 10.0
    recheck_s: float = 30.0
    gather_s: float = 0.05
    answer_s: float = ANSWER_S


class _ForkedError(Exception):
    """The stream holds something else under an id of ours."""


class _VanishedError(Exception):
    """The stream is no longer there."""


class Shipper:
    """Ships the logs of one slot. Never blocks an append; stops for good only at a fork."""

    def __init__(
        self,
        log: FileLog,
        settings: AuditSettings,
        *,
        deployment: str,
        pace: Pace = Pace(),
        jitter: Callable[[], float] = random.random,
    ) -> None:
        if settings.redis_url is None:
            raise ValueError("audit.redis_url is not set: there is nowhere to ship to")
        self._log = log
        self._deployment = deployment
        self._pace = pace
        self._jitter = jitter
        self._client = connect(
            settings.redis_url,
            user=settings.redis_user,
            password_file=settings.redis_password_file,
            ca_file=settings.redis_ca_file,
            answer_s=pace.answer_s,
        )
        self._state = ShipperState.CONNECTING
        self._error = ""
        self._failures = 0
        self._removed: dict[int, int] = {}
        self._deadline: float | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rankgate-shipper", daemon=True)

    def start(self) -> None:
        """Start shipping."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Ship what is durable, for at most `timeout_s` seconds, and end the thread."""
        self._deadline = time.monotonic() + timeout_s
        self._stop.set()
        self._log.wake()
        self._thread.join(timeout_s + 1.0)

    def status(self) -> ShipperStatus:
        """Tell where shipping stands."""
        history = self._log.history()
        return ShipperStatus(
            state=self._state,
            log=self._log.name,
            shipped=history[-1].mark,
            lag=sum(files.next - files.mark for files in history),
            lag_bytes=self._log.undelivered_bytes,
            error=self._error,
        )

    def _run(self) -> None:
        while not self._over():
            try:
                self._session()
                break  # everything is shipped, and it is time to stop
            except _ForkedError:
                self._client.close()
                return
            except _VanishedError:
                self._wait(self._pace.first_s)
            except (redis.RedisError, OSError, BodyError) as error:
                self._client.close()
                self._pause(fault_word(error) if not isinstance(error, BodyError) else "log_unreadable")
        self._client.close()
        self._state = ShipperState.STOPPED

    def _session(self) -> None:
        """Ship over one connection until something fails or it is time to stop."""
        known: set[int] = set()
        missing: set[int] = set()
        recheck_at = time.monotonic() + self._pace.recheck_s
        while True:
            history = self._log.history()
            for files in history:
                if files.birth not in known:
                    if not self._resume(files):
                        missing.add(files.birth)
                    known.add(files.birth)
                while files.mark < files.next and not self._over():
                    self._send(files, create=files.birth in missing)
                    missing.discard(files.birth)
            self._went_well()
            if self._stop.is_set():
                return
            self._log.wait_durable(history[-1].next, min(IDLE_S, self._pace.recheck_s), self._stop)
            # A round trip for every single entry would cost more than the rest of its way.
            self._stop.wait(self._pace.gather_s)
            if time.monotonic() >= recheck_at:
                known.clear()
                recheck_at = time.monotonic() + self._pace.recheck_s

    def _resume(self, files: LogFiles) -> bool:
        """Ask where the stream of a log ends, and go on behind that; return False where there is no stream."""
        key = self._key(files)
        try:
            info = self._client.xinfo_stream(key)
        except redis.ResponseError as error:
            if "no such key" not in server_text(error):
                raise
            self._go_on(files, 0)
            return False
        last = StreamId.parse(info["last-generated-id"].decode())
        if last == StreamId(0, 0):  # a reader made the stream before its first entry
            self._go_on(files, 0)
            return True
        self._compare(files, key, last)
        if "entries-added" in info:
            self._watch_removed(files, info["entries-added"] - info["length"])
        self._go_on(files, last.index + 1)
        return True

    def _go_on(self, files: LogFiles, index: int) -> None:
        if index < files.mark:
            self._tell("stream_shortened", files, entry=index, was=files.mark)
        if index < files.first:
            self._tell("stream_gap", files, entry=index, held_from=files.first)
        self._log.delivered(files, max(index, files.first))

    def _compare(self, files: LogFiles, key: str, last: StreamId) -> None:
        """Make sure that the stream's last entry is ours; raises _ForkedError."""
        if last.index >= files.next:
            raise self._fork(files, last.index)
        if last.index >= files.first:
            self._same(files, key, last.index, deleted=True, ms=last.ms)

    def _same(self, files: LogFiles, key: str, index: int, *, deleted: bool, ms: int | None = None) -> None:
        """Compare entry `index` of the stream with the log; raises _ForkedError."""
        held = files.read(index, 1)
        if not held:
            raise BodyError("an entry can no longer be read from the log")
        if ms is not None and held[0].ms != ms:
            raise self._fork(files, index)
        entry_id = str(StreamId(held[0].ms, index))
        found = self._client.xrange(key, entry_id, entry_id)
        body = (found[0][1] or {}).get(b"body") if found else None
        if (found and body != held[0].leaf) or (not found and not deleted):
            raise self._fork(files, index)

    def _send(self, files: LogFiles, *, create: bool) -> None:
        """Ship one batch, all or nothing: a batch refused in part could leave a gap that no later id can fill."""
        frames = files.read(files.mark, BATCH)
        if not frames:
            raise BodyError("an entry can no longer be read from the log")
        self._state = ShipperState.SHIPPING
        key = self._key(files)
        pipeline = self._client.pipeline(transaction=True)
        for position, frame in enumerate(frames):
            # Without NOMKSTREAM a stream that was deleted would come back with a hole nobody asked about.
            pipeline.xadd(
                key,
                to_fields(frame.leaf),  # type: ignore[arg-type]  # redis-py's mapping type is invariant
                id=str(StreamId(frame.ms, frame.index)),
                nomkstream=not (create and position == 0),
            )
        results = pipeline.execute(raise_on_error=False)
        for frame, result in zip(frames, results, strict=True):
            self._judge(files, key, frame, result)
        self._log.delivered(files, frames[-1].index + 1)
        self._failures = 0

    def _judge(self, files: LogFiles, key: str, frame: Frame, result: object) -> None:
        if result is None:
            raise _VanishedError
        if isinstance(result, redis.ResponseError) and "equal or smaller" in server_text(result):
            # Sent before and its answer lost, or somebody wrote here: the entry itself tells which.
            self._same(files, key, frame.index, deleted=False)
        elif isinstance(result, Exception):
            raise result

    def _watch_removed(self, files: LogFiles, removed: int) -> None:
        if removed > self._removed.get(files.birth, 0):
            self._tell("stream_trimmed", files, entries=removed)
        self._removed[files.birth] = removed

    def _fork(self, files: LogFiles, index: int) -> _ForkedError:
        self._state, self._error = ShipperState.FORKED, "forked"
        self._tell("stream_forked", files, entry=index)
        return _ForkedError()

    def _tell(self, word: str, files: LogFiles, **detail: int) -> None:
        self._log.tell(word, {"stream": self._key(files), **detail})

    def _pause(self, word: str) -> None:
        """Wait after a failure: longer each time, never in step with other gates, never a busy loop."""
        self._state = ShipperState.WAITING
        if word != self._error:
            self._error = word
            self._log.tell("ship_failed", {"cause": word})
        self._failures += 1
        longest = self._pace.longest_s
        delay = longest if word in _FOR_A_PERSON else min(longest, self._pace.first_s * 2 ** min(self._failures, 16))
        self._wait(delay * (0.5 + self._jitter() / 2))

    def _wait(self, delay: float) -> None:
        if not self._stop.wait(delay) or self._deadline is None:
            return
        time.sleep(max(0.0, min(delay, self._deadline - time.monotonic())))

    def _went_well(self) -> None:
        self._failures = 0
        self._error = ""
        self._state = ShipperState.SHIPPING

    def _over(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _key(self, files: LogFiles) -> str:
        return stream_key(self._deployment, self._log.log_name(files))
