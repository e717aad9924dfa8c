"""Checkpoints -> one place, in order, each once, in a thread of its own. A place that is away holds nobody up.

As with entries the place is asked, never assumed: after every failure its last checkpoint is read and compared with
ours. A place that falls behind is alarmed; one that holds another checkpoint under a number of ours is left alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import redis

from rankgate.audit.sealed import Sealed
from rankgate.clients.audit_redis import fault_word
from rankgate.clients.checkpoint_file import CheckpointFile
from rankgate.clients.places import ForkedError, Place
from rankgate.clients.segments import LogFiles

__all__ = ["Book", "Delivery", "DeliveryPace"]

BATCH = 64
Tell = Callable[[str, Mapping[str, str | int]], None]


@dataclass(frozen=True, slots=True)
class Book:
    """The checkpoints of one log of the slot."""

    log: str
    files: LogFiles
    checkpoints: CheckpointFile


@dataclass(frozen=True, slots=True)
class DeliveryPace:
    """Times in seconds: how often to look, first and longest wait after a failure, how far behind is an alarm."""

    look_s: float = 0.5
    first_s: float = 0.5
    longest_s: float = 10.0
    lag_s: float = 30.0


class Delivery:
    """Delivers the checkpoints of one slot to one place.

    With `behind_entries` a checkpoint waits until the stream holds every entry under it, so that whoever reads
    checkpoints first and entries then never finds fewer than were signed for.
    """

    def __init__(
        self,
        place: Place,
        books: Callable[[], Sequence[Book]],
        tell: Tell,
        *,
        behind_entries: bool = False,
        pace: DeliveryPace = DeliveryPace(),
    ) -> None:
        self._place = place
        self._books = books
        self._tell = tell
        self._behind_entries = behind_entries
        self._pace = pace
        self._offsets: dict[str, int] = {}
        self._forked: set[str] = set()
        self._late_since: float | None = None
        self._alarmed = False
        self._cause = ""
        self._news = threading.Event()
        self._stop = threading.Event()
        self._deadline = 0.0
        self._thread = threading.Thread(target=self._run, name=f"rankgate-{place.name}", daemon=True)

    def start(self) -> None:
        """Start delivering."""
        self._thread.start()

    def wake(self) -> None:
        """Say that there is something new."""
        self._news.set()

    def stop(self, timeout_s: float) -> None:
        """Deliver what is there, for at most `timeout_s` seconds, and end the thread."""
        self._deadline = time.monotonic() + timeout_s
        self._stop.set()
        self._news.set()
        self._thread.join(timeout_s + 1.0)

    def _run(self) -> None:
        failures = 0
        while True:
            stopping = self._stop.is_set()
            self._news.clear()
            try:
                rest = self._round()
                failures, self._cause = 0, ""
            except Exception as error:  # noqa: BLE001 - a fault of ours must be alarmed, not end deliveries unseen
                self._place.close()
                self._offsets.clear()
                rest, failures = True, failures + 1
                known = isinstance(error, OSError | redis.RedisError)
                self._cause = fault_word(error) if known else type(error).__name__
            self._watch(rest)
            if stopping and (not rest or time.monotonic() >= self._deadline):
                break
            delay = min(self._pace.longest_s, self._pace.first_s * 2 ** min(failures, 10))
            if self._stop.is_set():
                # What is left may be let through by the shipper's last words, which nobody here is told of.
                time.sleep(min(0.05, max(0.0, self._deadline - time.monotonic())))
            elif failures:
                self._stop.wait(delay)
            else:
                self._news.wait(self._pace.look_s)
        self._place.close()

    def _round(self) -> bool:
        """Deliver what can be delivered now; tell whether anything is left."""
        rest = False
        for book in self._books():
            if book.log in self._forked:
                continue
            try:
                rest |= self._deliver(book)
            except ForkedError:
                # Going on would make the place agree with whoever wrote there.
                self._forked.add(book.log)
                self._tell("checkpoints_forked", {"place": self._place.name, "log": book.log})
        return rest

    def _deliver(self, book: Book) -> bool:
        if book.log not in self._offsets:
            self._offsets[book.log] = self._resume(book)
        while found := book.checkpoints.read(self._offsets[book.log])[:BATCH]:
            ready = [one for one in found if self._may_go(book, one[1])]
            if ready:
                self._place.put(book.log, [sealed for _, sealed in ready])
                self._offsets[book.log] = ready[-1][0]
            if len(ready) < len(found):
                return True
        return False

    def _may_go(self, book: Book, sealed: Sealed) -> bool:
        return not self._behind_entries or sealed.checkpoint.size <= book.files.mark

    def _resume(self, book: Book) -> int:
        """Return the offset behind the last checkpoint that the place holds; raises ForkedError."""
        last = self._place.last(book.log)
        if last is None:
            return 0
        ours = book.checkpoints.find(last.checkpoint.number)
        if ours is None or ours[1].checkpoint != last.checkpoint:
            raise ForkedError
        return ours[0]

    def _watch(self, rest: bool) -> None:
        """Alarm once when the place has been behind for too long."""
        now = time.monotonic()
        if not rest:
            self._late_since, self._alarmed = None, False
        elif self._late_since is None:
            self._late_since = now
        elif now - self._late_since >= self._pace.lag_s and not self._alarmed:
            self._alarmed = True
            self._tell("checkpoints_late", {"place": self._place.name, "cause": self._cause or "entries_not_shipped"})
