"""How an entry stands in a log file: a header, then the leaf.

    magic    4  F5 52 47 31; F5 occurs in no UTF-8 text, so a leaf can never look like a frame
    length   4  bytes of the leaf
    index    8  number of the entry in its log, from 0
    ms       8  first half of its stream id
    synced   8  entries of this log known to be on disk when this one was written
    crc      4  CRC-32 (ISO-HDLC, as in zlib) over the five fields above and the leaf

Numbers are unsigned and big-endian. Behind the last frame a file holds zeros. Growth rule: another shape gets another
magic; a reader that does not know a magic treats it as damage, never as an entry.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

__all__ = ["HEADER_BYTES", "MAX_LEAF_BYTES", "Damage", "Frame", "Scan", "encode", "frames", "scan"]

_MAGIC = b"\xf5RG1"
_FIELDS = struct.Struct(">4sIQQQ")
_CRC = struct.Struct(">I")
HEADER_BYTES = _FIELDS.size + _CRC.size
MAX_LEAF_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Frame:
    """One entry as stored."""

    index: int
    ms: int
    synced: int
    leaf: bytes

    @property
    def size(self) -> int:
        """Return the bytes it takes in the file."""
        return HEADER_BYTES + len(self.leaf)


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes at `offset` that are neither a frame nor the zeros behind the last one.

    `acknowledged` is True where a later frame proves that the damaged entry had been on disk: then it is no torn
    write but damage to an entry somebody may have relied on.
    """

    offset: int
    acknowledged: bool


@dataclass(frozen=True, slots=True)
class Scan:
    """The frames of a file up to `end` (bytes), and what stopped the reading, if not the end."""

    frames: tuple[Frame, ...]
    end: int
    damage: Damage | None


def encode(index: int, ms: int, synced: int, leaf: bytes) -> bytes:
    """Return the bytes of one frame; raises ValueError where the leaf is empty or larger than MAX_LEAF_BYTES."""
    if not 0 < len(leaf) <= MAX_LEAF_BYTES:
        raise ValueError("a leaf has 1 byte to 8 MiB")
    fields = _FIELDS.pack(_MAGIC, len(leaf), index, ms, synced)
    return b"".join((fields, _CRC.pack(zlib.crc32(leaf, zlib.crc32(fields))), leaf))


def frames(data: bytes, first: int, offset: int = 0) -> tuple[list[Frame], int]:
    """Return the whole frames numbered from `first` on, starting at `offset`, and the offset behind the last."""
    found: list[Frame] = []
    while (frame := _decode(data, offset)) is not None and frame.index == first + len(found):
        found.append(frame)
        offset += frame.size
    return found, offset


def scan(data: bytes, first: int, offset: int = 0) -> Scan:
    """Read a whole file of frames numbered from `first` on; never raises, whatever the bytes."""
    found, end = frames(data, first, offset)
    if data.count(0, end) == len(data) - end:
        return Scan(tuple(found), end, None)
    return Scan(tuple(found), end, Damage(end, _vouched(data, end, first + len(found))))


def _decode(data: bytes, offset: int) -> Frame | None:
    if len(data) - offset < HEADER_BYTES:
        return None
    magic, length, index, ms, synced = _FIELDS.unpack_from(data, offset)
    begin = offset + HEADER_BYTES
    if magic != _MAGIC or not 0 < length <= MAX_LEAF_BYTES or begin + length > len(data):
        return None
    leaf = data[begin : begin + length]
    (crc,) = _CRC.unpack_from(data, offset + _FIELDS.size)
    if zlib.crc32(leaf, zlib.crc32(data[offset : offset + _FIELDS.size])) != crc:
        return None
    return Frame(index, ms, synced, leaf)


def _vouched(data: bytes, offset: int, index: int) -> bool:
    """Tell whether a whole frame behind `offset` says that entry `index` had been on disk before it."""
    while (offset := data.find(_MAGIC, offset + 1)) >= 0:
        frame = _decode(data, offset)
        if frame is not None and frame.index >= index and frame.synced > index:
            return True
    return False
