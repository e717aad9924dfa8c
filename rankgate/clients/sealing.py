"""The tree over the log that is written, and its signed checkpoints: kept beside the log, never in its way.

The writing thread hands over leaves that are on disk; a thread of its own signs and stores. Nobody who appends waits
for a signature. What cannot be stored is tried again each second and alarmed; entries stay durable meanwhile.
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rankgate.audit.checkpoint import Checkpoint, Kind, sign_rotation, verify_checkpoint
from rankgate.audit.note import NoteError, Signer, Verifiers
from rankgate.audit.sealed import Sealed
from rankgate.audit.tree import RightEdge, leaf_hash
from rankgate.clients.audit_tools import log_alarm
from rankgate.clients.checkpoint_file import CheckpointFile
from rankgate.clients.delivery import Book, Delivery, DeliveryPace
from rankgate.clients.disk import sync_file
from rankgate.clients.edge_file import extend, grown, keep_edge
from rankgate.clients.places import Place
from rankgate.clients.segments import LogFiles

__all__ = ["Seal", "SealPace"]

Tell = Callable[[str, Mapping[str, str | int]], None]


@dataclass(frozen=True, slots=True)
class SealPace:
    """When a checkpoint is due: after so many entries, or seconds after the first new one, or seconds of silence."""

    entries: int = 256
    longest_s: float = 1.0
    heartbeat_s: float = 10.0
    retry_s: float = 1.0
    stop_s: float = 3.0
    delivery: DeliveryPace = field(default_factory=DeliveryPace)


class Seal:
    """Signs one slot's logs. `signers` are the deployment's key and those before it, newest first.

    `places` get every checkpoint; those with True only once the stream holds its entries.
    """

    def __init__(
        self,
        deployment: str,
        signers: Sequence[Signer],
        places: Iterable[tuple[Place, bool]] = (),
        *,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        pace: SealPace = SealPace(),
    ) -> None:
        self.rotations: list[str] = []
        """Notes that the current log has yet to record: a key hands over to the next."""
        self._deployment = deployment
        self._signer, *self._older = signers
        self._verifiers = Verifiers(signer.verifier for signer in signers)
        self._places = tuple(places)
        self._wall_ms = wall_ms
        self._pace = pace
        self._tell: Tell = log_alarm
        self._sync: Callable[[int], None] = sync_file
        self._books: list[Book] = []
        self._edge = RightEdge()
        self._leaves: list[bytes] = []
        self._new_since: float | None = None
        self._number = 0
        self._last_ms = 0
        self._ended_roots: dict[int, str] = {}
        self._last_at = time.monotonic()
        self._failing = False
        self._over = False
        self._work = threading.Condition()
        self._writing = threading.Lock()
        self._deliveries: list[Delivery] = []
        self._thread = threading.Thread(target=self._run, name="rankgate-seal", daemon=True)

    def begin(self, files: LogFiles, log: str) -> None:
        """Sign that a new log is empty, before its first entry is written; raises OSError and removes it then."""
        with self._writing, self._work:
            self._turn_to(Book(log, files, CheckpointFile(files.folder, self._sync)), RightEdge())
            self.rotations = [self._rotation(older) for older in reversed(self._older)]
            try:
                self._write(Kind.OPEN)
            except OSError:
                files.discard()
                raise

    def resume(self, files: LogFiles, log: str) -> str:
        """Compare a log that is to go on with its last checkpoint, and sign that it is open again.

        Returns why it must not go on, a word, empty where it may: `unsigned` entries without any checkpoint, a last
        checkpoint that is `unreadable` or `foreign`, entries `cut` or `changed` since. Raises OSError.
        """
        with self._writing, self._work:
            book = Book(log, files, CheckpointFile(files.folder, self._sync))
            try:
                sealed = book.checkpoints.load()
            except ValueError:
                return "unreadable"
            if sealed is None and files.next:
                return "unsigned"
            if sealed is None:
                self._turn_to(book, RightEdge())
            else:
                why = self._go_on(book, sealed.checkpoint)
                if why:
                    return why
            self._write(Kind.OPEN)
            return ""

    def known(self, files: LogFiles, log: str) -> None:
        """Take in a log that has ended, so that what no place has yet of its checkpoints is delivered."""
        checkpoints = CheckpointFile(files.folder, self._sync)
        try:
            checkpoints.load()
        except ValueError:
            return
        self._books.append(Book(log, files, checkpoints))

    def root(self, files: LogFiles) -> str | None:
        """Return the root over all entries of a log, in base64; None where they cannot be read. Raises OSError."""
        if files.birth not in self._ended_roots:
            with self._work:
                edge = self._edge if self._books and self._books[-1].files is files else None
            if edge is None or edge.size != files.next:
                edge = grown(files, files.next)
            if edge is None:
                return None
            self._ended_roots[files.birth] = base64.b64encode(edge.root()).decode()
        return self._ended_roots[files.birth]

    def bind(self, tell: Tell, sync: Callable[[int], None]) -> None:
        """Take what the log has: `tell` raises an alarm, `sync` brings a file to the disk. Comes before all else."""
        self._tell, self._sync = tell, sync

    def start(self) -> None:
        """Start signing and delivering."""
        self._deliveries = [
            Delivery(place, lambda: list(self._books), self._tell, behind_entries=behind, pace=self._pace.delivery)
            for place, behind in self._places
        ]
        for delivery in self._deliveries:
            delivery.start()
        self._thread.start()

    def add(self, leaves: Iterable[bytes]) -> None:
        """Take in entries that are on disk, in order."""
        with self._work:
            for leaf in leaves:
                hashed = leaf_hash(leaf)
                self._edge.append(hashed)
                self._leaves.append(hashed)
            if self._new_since is None:
                self._new_since = time.monotonic()
                self._work.notify()
            elif len(self._leaves) >= self._pace.entries:
                self._work.notify()

    def may_drop(self, files: LogFiles, first: int) -> bool:
        """Keep what the tree needs of the entries below `first`, which are about to be deleted.

        Returns False where they must stay: they are not signed yet, or what is needed cannot be kept.
        """
        with self._work:
            current = bool(self._books) and self._books[-1].files is files
            if current and self._edge.size - len(self._leaves) < first:
                return False
        try:
            return keep_edge(files, first)
        except OSError:
            return False

    def stop(self, *, orderly: bool) -> None:
        """Sign the end where the log ended as it should, deliver what is left, and end the threads."""
        with self._work:
            self._over = True
            self._work.notify()
        if self._thread.ident is not None:
            self._thread.join()
        if orderly:
            try:
                with self._writing, self._work:
                    self._write(Kind.CLOSE)
            except OSError:
                self._tell("checkpoint_failed", {"log": self._books[-1].log})
        for delivery in self._deliveries:
            delivery.stop(self._pace.stop_s)
        for book in self._books:
            book.checkpoints.close()

    def _turn_to(self, book: Book, edge: RightEdge) -> None:
        """Make `book` the current one; what was not signed of the one before is under the root its successor holds."""
        self._books = [one for one in self._books if one.files.folder.exists()]
        self._books.append(book)
        self._edge, self._leaves, self._number = edge, [], 0
        self.rotations = []

    def _go_on(self, book: Book, last: Checkpoint) -> str:
        files = book.files
        try:
            _, key = verify_checkpoint(last.note, self._verifiers)
        except NoteError:
            return "foreign"
        if (last.deployment, last.log) != (self._deployment, book.log):
            return "foreign"
        if last.size > files.next:
            return "cut"
        edge = grown(files, last.size)
        if edge is None or edge.root() != last.root:
            return "changed"
        self._turn_to(book, edge)
        if not extend(edge, files, files.next, self._leaves):
            return "changed"
        self._number, self._last_ms = last.number + 1, max(self._last_ms, last.time)
        self.rotations = [self._rotation(older) for older in self._older if older.verifier == key]
        return ""

    def _rotation(self, older: Signer) -> str:
        return sign_rotation(self._deployment, self._signer, older, self._wall_ms())

    def _run(self) -> None:
        while True:
            with self._work:
                while not self._over and (wait := self._due_in()) > 0:
                    self._work.wait(wait)
                if self._over:
                    return
            try:
                with self._writing, self._work:
                    self._write(Kind.REGULAR if self._leaves else Kind.HEARTBEAT)
                self._failing = False
            except Exception as error:  # noqa: BLE001 - a fault of ours must be alarmed, not end signing unseen
                if not self._failing:
                    self._failing = True
                    self._tell("checkpoint_failed", {"log": self._books[-1].log, "cause": type(error).__name__})
                with self._work:
                    self._work.wait(self._pace.retry_s)

    def _due_in(self) -> float:
        """Return the seconds until a checkpoint is due."""
        if len(self._leaves) >= self._pace.entries:
            return 0.0
        if self._new_since is not None:
            return self._new_since + self._pace.longest_s - time.monotonic()
        return self._last_at + self._pace.heartbeat_s - time.monotonic()

    def _write(self, kind: Kind) -> None:
        """Sign and store the head as it is now, while `_writing` and `_work` are held; raises OSError.

        `_work` is let go of while the disk is waited for.
        """
        book = self._books[-1]
        root, size, leaves = self._edge.root(), self._edge.size, tuple(self._leaves)
        self._last_ms = max(self._last_ms, self._wall_ms())
        head = Checkpoint(self._deployment, book.log, size, root, self._number, kind, self._last_ms)
        self._work.release()
        try:
            signed = Sealed(replace(head, note=head.sign(self._signer)), leaves)
            book.checkpoints.append(signed)
        finally:
            self._work.acquire()
        self._number += 1
        del self._leaves[: len(leaves)]
        self._last_at = time.monotonic()
        self._new_since = self._last_at if self._leaves else None
        for delivery in self._deliveries:
            delivery.wake()
