"""Who opens connections to the console and says nothing keeps them from nobody."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from fakes.waiting import until

from rankgate.console import connection, guard
from rankgate.console.guard import _whole
from rankgate.console.refusals import Refusal, RefusedError

HEAD = b"POST / HTTP/1.1\r\nhost: console\r\ncontent-length: 2\r\n\r\n"


async def answering(_: Any, receive: Any, send: Any) -> None:
    """Answer once the whole body is there, after longer than a connection may be silent."""
    while (await receive())["more_body"]:
        pass
    await asyncio.sleep(0.5)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(connection, "SPEAK_S", 0.3)
    config = uvicorn.Config(
        answering, port=0, http=connection.Punctual, lifespan="off", log_config=None, timeout_keep_alive=1
    )
    server = uvicorn.Server(config)
    with contextlib.suppress(asyncio.CancelledError):
        serving = asyncio.create_task(server._serve())
        await until(lambda: server.started)
        yield server.servers[0].sockets[0].getsockname()[1]
        server.should_exit = True
        await serving


async def said(port: int, *pieces: bytes) -> bytes:
    """Send `pieces`, a moment apart; return all that comes until the console ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(0.05)
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize(
    "begun", [b"", b"GET / HTTP/1.1\r\nhost: ", HEAD + b"abGET / HTT"], ids=["none", "half", "second"]
)
async def test_a_connection_of_which_no_request_comes_ends(port: int, begun: bytes) -> None:
    assert (await said(port, begun)).count(b"200 OK") == begun.count(b"ab")


async def test_who_waits_for_an_answer_is_not_cut_off(port: int) -> None:
    assert b"200 OK" in await said(
        port, HEAD, b"a", b"b", b"", HEAD.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"), b"ab"
    )


async def test_a_body_that_does_not_come_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_S", 0.05)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(3600)
        return {}

    request = guard.Request({"type": "http", "headers": [], "method": "POST", "path": "/"}, receive)
    with pytest.raises(RefusedError) as refusal:
        await _whole(request)
    assert refusal.value.refusal is Refusal.TOO_SLOW
