"""The files of one log: numbered segments, written by one thread, read by another.

    <birth>/<first index, 20 digits>.seg   16 bytes of preamble, frames, zeros up to the size made room for
    <birth>/ended                          where and why the log ended; absent while it goes on
    <birth>/shipped                        number of entries the stream was known to hold; a hint, not synced

A segment is finished, synced and renamed into place before its first entry is written, and is left only when every
entry in it is on disk. docs/audit.md describes the format.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rankgate.audit import frame
from rankgate.audit.frame import HEADER_BYTES, Frame
from rankgate.clients.disk import replace_file, reserve, sync_folder, write_at

__all__ = ["PREAMBLE", "SEGMENT_BYTES", "Entry", "LogFiles", "Opened", "SyncError", "births"]

PREAMBLE = b"RANKGATE-AUDIT1\n"
SEGMENT_BYTES = 16 * 1024 * 1024
READ_BYTES = 1024 * 1024


class SyncError(Exception):
    """The disk did not confirm a write. What is on it from then on is unknown: the log must end."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A leaf on its way to disk."""

    index: int
    ms: int
    leaf: bytes


@dataclass(slots=True)
class _Segment:
    path: Path
    first: int
    base: int  # bytes of frames in the segments before it
    size: int
    end: int = len(PREAMBLE)


@dataclass(frozen=True, slots=True)
class Opened:
    """What opening a log found: bytes cut off as a torn write, or the entry at which it is damaged."""

    files: LogFiles
    cut_bytes: int = 0
    damaged_at: int | None = None


class LogFiles:
    """One log on disk. Only `write`, `repair` and `end` belong to the writing thread."""

    def __init__(self, folder: Path, segment_bytes: int, sync: Callable[[int], None]) -> None:
        self.folder = folder
        self.birth = int(folder.name.removesuffix(".new"))
        self.next = 0
        """Number of the next entry; every entry below it is on disk."""
        self.last_ms = 0
        self.ended = False
        self.mark = 0
        """Entries below it are known to be in the stream."""
        self.marked_position = 0
        self._segment_bytes = segment_bytes
        self._sync = sync
        self._segments: list[_Segment] = []
        self._active: int | None = None
        self._dirty_end = 0
        self._cursor: tuple[int, _Segment, int] | None = None
        self._lock = threading.Lock()

    @classmethod
    def create(cls, slot: Path, birth: int, segment_bytes: int, sync: Callable[[int], None]) -> LogFiles:
        """Begin a log in the folder `slot`; raises OSError or SyncError."""
        folder = slot / f"{birth}.new"
        folder.mkdir(mode=0o700)
        files = cls(folder, segment_bytes, sync)
        try:
            files._rotate(0)
            files._close_active()
            folder = folder.rename(slot / str(birth))
            sync_folder(slot)
        except BaseException:
            files._close_active()
            shutil.rmtree(folder, ignore_errors=True)
            raise
        files.folder = folder
        for segment in files._segments:
            segment.path = folder / segment.path.name
        return files

    @classmethod
    def open(cls, folder: Path, segment_bytes: int, sync: Callable[[int], None]) -> Opened:
        """Read a log to its end and make it ready to go on, unless it ended or is damaged.

        Raises OSError or SyncError; whatever the bytes in its files, nothing else.
        """
        files = cls(folder, segment_bytes, sync)
        for leftover in folder.glob("*.new"):
            leftover.unlink()
        limit = files._read_ended()
        floor = files._read_mark()
        paths = sorted(path for path in folder.glob("*.seg") if path.stem.isdecimal())
        found = _Found(damaged_at=None if paths else 0)
        for position, path in enumerate(paths):
            found = files._load(path, last=position == len(paths) - 1)
            if found.damaged_at is not None:
                break
        if limit is not None:
            files.ended = True
            files._forget_from(limit)
            files.deliver(min(floor, files.next))
            return Opened(files)
        if found.damaged_at is None and files.next < floor:
            # The stream was told of entries that are gone here: not a torn write.
            found = _Found(damaged_at=files.next)
        if found.damaged_at is not None:
            return Opened(files, damaged_at=found.damaged_at)
        files._renew(found.data)
        files.deliver(floor)
        return Opened(files, cut_bytes=found.cut_bytes)

    @property
    def first(self) -> int:
        """Return the number of the oldest entry held."""
        return self._segments[0].first if self._segments else self.next

    @property
    def written(self) -> int:
        """Return the bytes of all entries written, those of dropped segments included."""
        return self._segments[-1].base + self._segments[-1].end - len(PREAMBLE) if self._segments else 0

    @property
    def held_bytes(self) -> int:
        """Return the bytes of the entries held."""
        return self.written - self._segments[0].base if self._segments else 0

    @property
    def undelivered_bytes(self) -> int:
        """Return the bytes of the entries the stream is not known to hold."""
        return max(0, self.written - self.marked_position)

    def write(self, entries: Sequence[Entry]) -> int:
        """Write and sync as many entries as the segment takes, at least one; return how many are now on disk.

        Raises OSError where nothing was acknowledged and `repair` may help, SyncError where the log must end.
        """
        if not self._fits(HEADER_BYTES + len(entries[0].leaf)):
            self._rotate(len(entries[0].leaf))
        segment, descriptor = self._segments[-1], self._descriptor()
        chunk = bytearray()
        count = 0
        for entry in entries:
            data = frame.encode(entry.index, entry.ms, self.next, entry.leaf)
            if count and segment.end + len(chunk) + len(data) > segment.size:
                break
            chunk += data
            count += 1
        self._dirty_end = segment.end + len(chunk)
        write_at(descriptor, chunk, segment.end)
        self._synced(descriptor)
        self._dirty_end = 0
        with self._lock:
            segment.end += len(chunk)
            self.next += count
            self.last_ms = entries[count - 1].ms
        return count

    def repair(self) -> None:
        """Wipe what a failed write may have left behind the last entry; raises OSError or SyncError."""
        if self._dirty_end:
            segment, descriptor = self._segments[-1], self._descriptor()
            write_at(descriptor, bytes(self._dirty_end - segment.end), segment.end)
            self._synced(descriptor)
            self._dirty_end = 0

    def end(self, reason: str) -> None:
        """Say for good that the log ended behind its last entry, and why; raises OSError."""
        replace_file(self.folder / "ended", json.dumps({"entries": self.next, "reason": reason}), durable=True)
        self.ended = True
        self._close_active()

    def close(self) -> None:
        """Let go of the open file."""
        self._close_active()

    def discard(self) -> None:
        """Remove a log that never held an entry."""
        self._close_active()
        shutil.rmtree(self.folder, ignore_errors=True)

    def read(self, index: int, count: int, max_bytes: int = READ_BYTES) -> list[Frame]:
        """Return up to `count` entries from number `index` on, at least one where there is one; raises OSError.

        Stops early at a frame that can no longer be read: an entry that is missing here is damaged on disk.
        """
        with self._lock:
            place = self._place(index)
            if place is None or index >= self.next:
                return []
            segment, end, limit = place, place.end, self.next
        offset = self._offset(segment, index, end)
        with segment.path.open("rb") as file:
            data = os.pread(file.fileno(), min(max_bytes, end - offset), offset)
            found, length = frame.frames(data, index)
            if not found and len(data) < end - offset:
                data = os.pread(file.fileno(), min(HEADER_BYTES + frame.MAX_LEAF_BYTES, end - offset), offset)
                found, length = frame.frames(data, index)
        found = [one for one in found if one.index < limit]
        if len(found) > count:
            found = found[:count]
            length = sum(one.size for one in found)
        self._cursor = (index + len(found), segment, offset + length)
        return found

    def deliver(self, index: int) -> None:
        """Note that the stream holds every entry below `index`; a smaller number than before takes back."""
        with self._lock:
            segment = self._place(min(index, self.next))
            end = segment.end if segment else 0
        if segment is None:
            self.mark, self.marked_position = index, 0
            return
        offset = self._offset(segment, index, end)
        self.mark, self.marked_position = index, segment.base + offset - len(PREAMBLE)

    def save_mark(self) -> None:
        """Keep the mark for the next start. It is a hint: losing it costs a question to the stream."""
        with contextlib.suppress(OSError):
            replace_file(self.folder / "shipped", str(self.mark), durable=False)

    def drop_oldest(self, allowed: Callable[[LogFiles, int], bool] | None = None) -> bool:
        """Delete the oldest segment if the stream holds all of it and it is not the last; tell whether it was.

        `allowed` is asked before, with the number of the first entry that would be left.
        """
        if len(self._segments) < 2 or self._segments[1].first > self.mark:
            return False
        if allowed is not None and not allowed(self, self._segments[1].first):
            return False
        with self._lock:
            segment = self._segments.pop(0)
        segment.path.unlink(missing_ok=True)
        return True

    def _place(self, index: int) -> _Segment | None:
        return next((segment for segment in reversed(self._segments) if segment.first <= index), None)

    def _offset(self, segment: _Segment, index: int, end: int) -> int:
        cursor = self._cursor
        if cursor is not None and cursor[0] == index and cursor[1] is segment:
            return cursor[2]
        if index == segment.first:
            return len(PREAMBLE)
        data = segment.path.read_bytes()[:end]
        found, offset = frame.frames(data, segment.first, len(PREAMBLE))
        return offset - sum(one.size for one in found if one.index >= index)

    def _fits(self, size: int) -> bool:
        return bool(self._segments) and self._segments[-1].end + size <= self._segments[-1].size

    def _rotate(self, leaf_bytes: int) -> None:
        """Make room in a new segment; the entry that needs it decides its size."""
        size = max(self._segment_bytes, len(PREAMBLE) + HEADER_BYTES + leaf_bytes)
        path = self.folder / f"{self.next:020d}.seg"
        fresh = path.with_suffix(".new")
        descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            reserve(descriptor, size)
            write_at(descriptor, PREAMBLE, 0)
            self._synced(descriptor)
            fresh.rename(path)
            sync_folder(self.folder)
        except BaseException:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise
        self._close_active()
        self._active = descriptor
        with self._lock:
            self._segments.append(_Segment(path, self.next, self.written, size))

    def _descriptor(self) -> int:
        if self._active is None:
            self._active = os.open(self._segments[-1].path, os.O_RDWR)
        return self._active

    def _close_active(self) -> None:
        if self._active is not None:
            descriptor, self._active = self._active, None
            os.close(descriptor)

    def _synced(self, descriptor: int) -> None:
        try:
            self._sync(descriptor)
        except OSError as error:
            raise SyncError(error.strerror or "sync failed") from error

    def _load(self, path: Path, *, last: bool) -> _Found:
        data = path.read_bytes()
        first = int(path.stem)
        if (self._segments and first != self.next) or not data.startswith(PREAMBLE):
            return _Found(damaged_at=self.next if self._segments else first)
        body = frame.scan(data, first, len(PREAMBLE))
        self._segments.append(_Segment(path, first, self.written, max(len(data), self._segment_bytes), body.end))
        self.next = first + len(body.frames)
        if body.frames:
            self.last_ms = body.frames[-1].ms
        if body.damage is None:
            return _Found(data=data[: body.end])
        if body.damage.acknowledged or not last:
            return _Found(damaged_at=self.next)
        return _Found(data=data[: body.end], cut_bytes=len(data.rstrip(b"\0")) - body.end)

    def _forget_from(self, limit: int) -> None:
        """Leave out what stands behind the end of an ended log: it was never acknowledged."""
        if limit < self.next:
            self._segments = [one for one in self._segments if one.first <= limit]
            if self._segments:
                self._segments[-1].end = self._offset(self._segments[-1], limit, self._segments[-1].end)
            self.next = limit

    def _renew(self, data: bytes) -> None:
        """Write the last segment again, with zeros behind the last entry.

        After a failed sync the kernel may show bytes that never reached the disk and will not write them again by
        itself. What was read here is about to be relied on, so it is brought to the disk for certain.
        """
        segment, descriptor = self._segments[-1], self._descriptor()
        os.ftruncate(descriptor, len(data))
        reserve(descriptor, segment.size)
        write_at(descriptor, data, 0)
        self._synced(descriptor)

    def _read_ended(self) -> int | None:
        try:
            return int(json.loads((self.folder / "ended").read_bytes())["entries"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            return 2**63  # it says that the log ended, no longer where: at what can be read

    def _read_mark(self) -> int:
        try:
            return int((self.folder / "shipped").read_bytes()[:20])
        except (OSError, ValueError):
            return 0


@dataclass(frozen=True, slots=True)
class _Found:
    data: bytes = b""
    cut_bytes: int = 0
    damaged_at: int | None = None


def births(slot: Path) -> Iterator[Path]:
    """Yield the folders of a slot's logs, oldest first, and clear away a birth that was not finished."""
    for leftover in slot.glob("*.new"):
        shutil.rmtree(leftover, ignore_errors=True)
    folders = [path for path in slot.iterdir() if path.name.isdecimal() and path.is_dir()]
    yield from sorted(folders, key=lambda path: int(path.name))
