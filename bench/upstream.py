"""A reranker that answers at once: one constant answer for each number of documents.

The body's model says how many documents there are (`rerank-20`), so nothing is parsed. The requests of models whose
name begins with `held` are counted: `GET /held` says how many came, and how many different ones.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, cast

import uvloop

from bench.http1 import body_start, complete

__all__ = ["Responder", "main"]

_COUNT = re.compile(rb'-(\d{1,5})"')
# The model is the first member of a body.
_MODEL_BYTES = 64
_HELD = b'"held'
_ASKED = b"GET /held "


class Responder(asyncio.Protocol):
    """One connection."""

    # One of each for all connections.
    answers: dict[int, bytes] = {}  # noqa: RUF012
    held: Counter[bytes] = Counter()  # noqa: RUF012

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports have the methods and not the base class.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer a request once it is whole."""
        self._data += data
        if not complete(self._data) or self._transport is None:
            return
        self.asked(self._data)
        if self._data.startswith(_ASKED):
            self._transport.write(_json({"all": self.held.total(), "different": len(self.held)}))
            self._data = b""
            return
        start = body_start(self._data)
        found = _COUNT.search(self._data, start, start + _MODEL_BYTES)
        count = int(found[1]) if found else 0
        if _HELD in self._data[start : start + _MODEL_BYTES]:
            self.held[self._data[start:]] += 1
        self._data = b""
        if count not in self.answers:
            self.answers[count] = answer(count)
        self._transport.write(self.answers[count])

    def asked(self, request: bytes) -> None:
        """Look at a whole request; for those who want to."""


def answer(documents: int) -> bytes:
    """Return the whole HTTP answer that ranks `documents` documents."""
    results = [{"index": index, "relevance_score": round(1 / (index + 1), 6)} for index in range(documents)]
    return _json({"id": "0190c4a0-0000-7000-8000-000000000000", "results": results})


def _json(value: dict[str, Any]) -> bytes:
    body = json.dumps(value).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


async def serve(ready: Path) -> None:
    """Serve on a free port of loopback and write it to `ready`."""
    server = await asyncio.get_running_loop().create_server(Responder, "127.0.0.1", 0)
    draft = ready.with_suffix(".new")
    draft.write_text(str(server.sockets[0].getsockname()[1]))
    draft.replace(ready)
    await server.serve_forever()


def main() -> None:
    """Run until killed."""
    parser = argparse.ArgumentParser(prog="python -m bench.upstream", description=__doc__)
    parser.add_argument("--ready", type=Path, required=True, help="file that receives the port")
    uvloop.run(serve(parser.parse_args().ready))


if __name__ == "__main__":
    main()
