"""Just enough HTTP/2 to send what no client library would (RFC 9113, RFC 7541)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import NamedTuple, Self

__all__ = ["Connection", "Frame", "block"]

DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY, CONTINUATION = 0, 1, 3, 4, 7, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# RFC 7541 appendix A, entries 8 to 14.
_STATUS = {
    0x80 | index: status for index, status in zip(range(8, 15), (200, 204, 206, 304, 400, 404, 500), strict=True)
}


class Frame(NamedTuple):
    """One frame."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def block(headers: Sequence[tuple[str, str]]) -> bytes:
    """Return a header block of literals without indexing and without Huffman coding."""
    encoded = b""
    for name, value in headers:
        encoded += b"\x00"
        for text in (name.encode(), value.encode()):
            encoded += (bytes([len(text)]) if len(text) < 127 else b"\x7f" + _integer(len(text) - 127)) + text
    return encoded


def _integer(value: int) -> bytes:
    encoded = b""
    while value >= 128:
        encoded += bytes([value % 128 + 128])
        value //= 128
    return encoded + bytes([value])


class Connection:
    """A connection over plain TCP, prior knowledge."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect to a port of loopback and exchange settings."""
        connection = cls(*await asyncio.open_connection("127.0.0.1", port))
        connection._writer.write(_PREFACE)
        connection.send(SETTINGS, 0, 0, b"")
        return connection

    def send(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """Send one frame."""
        head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
        self._writer.write(head + payload)

    async def flush(self) -> None:
        """Wait until what was sent is on its way."""
        await self._writer.drain()

    async def frame(self, *, within_s: float = 10.0) -> Frame | None:
        """Return the next frame but settings; None at the end of the connection."""
        async with asyncio.timeout(within_s):
            while True:
                try:
                    head = await self._reader.readexactly(9)
                    payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
                except (asyncio.IncompleteReadError, ConnectionError):
                    return None
                frame = Frame(head[3], head[4], int.from_bytes(head[5:9], "big"), payload)
                if frame.kind == SETTINGS and not frame.flags & ACK:
                    self.send(SETTINGS, ACK, 0, b"")
                elif frame.kind != SETTINGS:
                    return frame

    async def status(self, stream: int) -> int | None:
        """Return the status of a stream's answer where it is one of the seven common ones; None without an answer."""
        while (frame := await self.frame()) is not None:
            if frame.stream == stream and frame.kind == HEADERS:
                return next((_STATUS[byte] for byte in frame.payload[:4] if byte in _STATUS), 0)
            if frame.kind == GOAWAY or (frame.stream == stream and frame.kind == RST_STREAM):
                return None
        return None

    def close(self) -> None:
        """Drop the connection."""
        with contextlib.suppress(ConnectionError):
            self._writer.transport.abort()
