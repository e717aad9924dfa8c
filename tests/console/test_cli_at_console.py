"""`rankgate approvals` at the real console: its routes, guard and desk behind a real port."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rankgate.console.api", reason="the console's API is not there")

import uvicorn
from fakes.console import Running, running
from fakes.desk_store import make_ask

from rankgate.approvals import State


@contextlib.asynccontextmanager
async def listening(**changes: Any) -> AsyncIterator[Running]:
    """Yield a console that listens on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with running(origin=origin, **changes) as console:
            config = uvicorn.Config(console.app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
            server = uvicorn.Server(config)
            task = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                yield console
            finally:
                server.should_exit = True
                await task


@dataclass
class Told:
    """What a command printed."""

    stdout: str
    stderr: str


async def rankgate(console: Running, *arguments: str, code: int = 0, **claims: Any) -> Told:
    """Run a command as ada, or as whom `claims` name: a process of its own, because the console prints here."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rankgate.cli", "approvals", *arguments,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {
            "RANKGATE_CONSOLE": console.settings.origin,
            "RANKGATE_CONSOLE_TOKEN": console.issuer.access_token(**claims),
        },
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    told = Told(out.decode(), err.decode())
    assert process.returncode == code, told
    return told


@pytest.fixture
async def console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    async with listening() as found:
        yield found


def put(console: Running, number: int = 1, **members: Any) -> str:
    """Leave an approval as a gate would; return its id."""
    ask = make_ask(number, time.time_ns() // 1_000_000, preview=console.table.sealed("who is <PERSON>?"), **members)
    console.table.store.put(ask)
    return ask.id


async def test_what_waits_is_listed_shown_and_approved(console: Running) -> None:
    approval = put(console)
    (listed,) = map(json.loads, (await rankgate(console, "list", "-o", "json")).stdout.splitlines())
    assert listed["id"] == approval and listed["state"] == "pending"
    assert "who is <PERSON>?" in (await rankgate(console, "show", approval)).stdout
    told = await rankgate(console, "approve", approval, "--reason", "known", "--yes", "--use-within", "10m")
    assert told.stdout.split()[0] == approval
    assert [
        vote["reason"] for vote in json.loads((await rankgate(console, "show", approval, "-o", "json")).stdout)["votes"]
    ] == ["known"]


async def test_waiting_ends_when_somebody_decides(console: Running) -> None:
    approval = put(console)
    waiting = asyncio.create_task(rankgate(console, "wait", approval, "--timeout", "20s", code=3))
    while not console.table.journal.kinds:  # noqa: ASYNC110 - the one who waits has looked at it
        await asyncio.sleep(0.01)
    await rankgate(
        console, "deny", approval, "--reason", "no", sub="bob", email="bob@acme.example", preferred_username="bob"
    )
    assert (await waiting).stdout.split()[:2] == [approval, "denied"]


async def test_withdrawing_cancelling_and_revoking_reach_the_desk(console: Running) -> None:
    first, second = put(console, 1), put(console, 2)
    operator = {"groups": ["approvers", "operators"]}
    await rankgate(console, "approve", first, second, "--reason", "x", "--yes")
    await rankgate(console, "withdraw", first)
    await rankgate(console, "cancel", first, "--reason", "old", code=1)
    await rankgate(console, "cancel", first, "--reason", "old", **operator)
    assert console.table.store.approvals[first].state is State.CANCELLED
    told = await rankgate(console, "revoke", "ada@acme.example", "--reason", "left", **operator)
    assert told.stdout.startswith("revoked the votes of ada@acme.example")


async def test_reviews_are_listed_and_closed(console: Running) -> None:
    ask = make_ask(3, time.time_ns() // 1_000_000, break_glass="outage 4711")
    console.table.store.put_review(ask)
    operator = {"groups": ["operators"]}
    assert "outage 4711" in (await rankgate(console, "reviews", "list", **operator)).stdout
    await rankgate(console, "reviews", "close", ask.id, "--reason", "seen", **operator)
    assert (await rankgate(console, "reviews", "list", "--state", "closed", "-o", "json", **operator)).stdout


async def test_refusals_have_their_exit_codes(console: Running) -> None:
    approval = put(console)
    assert "not yours to see" in (await rankgate(console, "show", "apr-none", code=4)).stderr
    await rankgate(console, "list", code=5, aud="https://other.example")
    told = await rankgate(console, "approve", approval, "--reason", "x", "--yes", code=5, auth_time=1)
    assert "too old" in told.stderr


async def test_how_to_log_in_is_told_to_the_command_line(console: Running) -> None:
    from rankgate.clients.console import ConsoleClient

    def ask() -> tuple[str, str, str]:
        with ConsoleClient(console.settings.origin) as client:
            return client.openid()[:3]

    assert await asyncio.to_thread(ask) == (console.issuer.url, "cli", console.settings.login.audience)
