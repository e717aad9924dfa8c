"""`rankgate audit tail` as a process, against a real server and a real shipped log."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes.events import TIME, completion, decision, lifecycle
from fakes.logs import open_log, stored
from fakes.valkey import Server, running

from rankgate.audit import AuditEvent, Caller
from rankgate.audit.entry import to_fields
from rankgate.audit.names import StreamId, stream_key
from rankgate.audit.text import printable
from rankgate.clients.audit import FileLog
from rankgate.clients.shipper import Shipper
from rankgate.errors import Reason
from rankgate.settings import AuditSettings

WAIT_S = 20.0
NOTHING = "no events for what was asked\n"
ROOT = Path(__file__).parents[1]
DENIED = decision(2, allowed=False, reason=Reason.POLICY_DENIED, status=403, caller=Caller("i", "crawler", "umbrella"))


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as started:
        yield started


def ship(server: Server, directory: Path, *events: AuditEvent) -> FileLog:
    """Append events to a log, ship them, and return the closed log."""
    log = open_log(directory)
    shipper = Shipper(log, AuditSettings(directory=directory, redis_url=server.url), deployment="default")
    shipper.start()

    async def append() -> None:
        for event in events:
            await log.append(event)

    asyncio.run(append())
    shipper.stop(WAIT_S)
    log.shut()
    assert shipper.status().lag == 0
    return log


def command(server: Server, *options: str) -> list[str]:
    main = "from rankgate.cli import main; main()"
    return [sys.executable, "-c", main, "audit", "tail", "--redis", server.url, *options]


def run(server: Server, *options: str, code: int = 0) -> tuple[str, str]:
    """Run the command to its end; return what it wrote to stdout and stderr."""
    done = subprocess.run(command(server, *options), capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def lines(server: Server, *options: str, code: int = 0) -> list[dict[str, Any]]:
    out, _ = run(server, "-o", "json", *options, code=code)
    return [json.loads(line) for line in out.splitlines()]


@contextmanager
def following(server: Server, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Yield a follower; its stdout is a pipe that is read line by line."""
    process = subprocess.Popen(
        command(server, "-f", *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def next_line(process: subprocess.Popen[str]) -> str:
    """Return the next line a follower writes."""
    assert process.stdout is not None
    timer = threading.Timer(WAIT_S, process.kill)
    timer.start()
    try:
        line = process.stdout.readline()
    finally:
        timer.cancel()
    assert line, "the follower ended"
    return line


def test_json_lines_are_the_stored_bodies_byte_for_byte(server: Server, tmp_path: Path) -> None:
    log = ship(server, tmp_path, decision(), completion(), DENIED, lifecycle())
    out, err = run(server, "-o", "json")
    assert out.encode().splitlines() == stored(log)
    assert err == ""


def test_the_table_shows_who_what_and_the_receipt(server: Server, tmp_path: Path) -> None:
    ship(server, tmp_path, decision(), completion(), DENIED)
    out, _ = run(server)
    heading, began, allowed, completed, denied = out.splitlines()
    assert heading.split() == ["TIME", "EVENT", "REASON", "SUBJECT", "TENANT", "ROUTE", "DOCS", "FOUND", "RECEIPT"]
    assert "log_began" in began
    assert allowed.split()[1:] == [
        "allow", "allowed:", "within", "hours", "indexer", "acme", "cohere-v2", "3", "3", "decision-1",
    ]  # fmt: skip
    assert (completed.split()[1], completed.split()[-1]) == ("complete", "decision-1")
    assert denied.split()[1:6] == ["deny", "policy_denied:", "within", "hours", "crawler"]
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("terms", "wanted"),
    [
        (["decision=deny"], ["decision-2"]),
        (["reason=policy_denied"], ["decision-2"]),
        (["tenant=acme", "type=decision"], ["decision-1"]),
        (["subject=indexer", "subject=crawler", "type=decision"], ["decision-1", "decision-2"]),
        (["route=cohere-v2", "type=completion"], ["decision-1"]),
        (["subject=nobody"], []),
    ],
)
def test_filters_choose(server: Server, tmp_path: Path, terms: list[str], wanted: list[str]) -> None:
    ship(server, tmp_path, decision(), completion(), DENIED)
    shown = lines(server, *(word for term in terms for word in ("--filter", term)))
    assert [event["unmapped"]["rankgate"]["decision_id"] for event in shown] == wanted


def test_since_leaves_out_what_came_before(server: Server, tmp_path: Path) -> None:
    log = ship(server, tmp_path, *(lifecycle() for _ in range(5)))
    frame = log.history()[-1].read(4, 1)[0]
    assert len(lines(server, "--since", str(StreamId(frame.ms, 4)))) == 2
    assert len(lines(server, "--since", "1h")) == 6
    assert lines(server, "--since", "2199-01-01T00:00:00Z") == []


def test_every_log_of_the_deployment_is_read_in_order_of_time_and_no_other(server: Server, tmp_path: Path) -> None:
    first = ship(server, tmp_path / "a", decision(1), completion(1))
    second = ship(server, tmp_path / "b", decision(2), completion(2))
    stray = to_fields(stored(first)[0])
    client = server.client()
    client.xadd(stream_key("other", first.name), stray, id="1-0")
    client.xadd(stream_key("default", f"{first.name}:checkpoints"), {"note": "x"})
    assert [event["metadata"]["log_name"] for event in lines(server)] == [first.name] * 3 + [second.name] * 3
    for named in (second.name, second.name[:-1]):
        shown = {event["metadata"]["log_name"] for event in lines(server, "--log", named)}
        assert shown == ({second.name} if first.name[:-1] != named else {first.name, second.name})
    assert len(lines(server, "--deployment", "other", code=1)) == 1


def test_an_allow_without_completion_is_shown_as_unconfirmed(server: Server, tmp_path: Path) -> None:
    log = ship(server, tmp_path, decision(1), completion(1), decision(3), DENIED)
    last = lines(server, "--unconfirmed-after", "1")[-1]
    assert last == {
        "rankgate": "unconfirmed", "decision_id": "decision-3", "time": TIME + 3, "position": f"{log.name}#3",
        "subject": "indexer", "tenant": "acme", "route": "cohere-v2",
    }  # fmt: skip
    assert not any("rankgate" in event for event in lines(server, "--unconfirmed-after", "0"))
    out, _ = run(server, "--unconfirmed-after", "1", "--filter", "type=decision")
    assert out.splitlines()[-1].split()[1:4] == ["unconfirmed", "no", "completion"]
    assert "unconfirmed" not in run(server, "--unconfirmed-after", "1", "--filter", "tenant=umbrella")[0]


def test_an_allow_that_may_still_complete_is_not_unconfirmed(server: Server, tmp_path: Path) -> None:
    ship(server, tmp_path, decision(1, time=time.time_ns() // 1_000_000))
    assert not any("rankgate" in event for event in lines(server))


def tamper(server: Server, log: FileLog, **fields: str) -> str:
    """Put an altered copy of entry 1 behind the stream's last; return its id."""
    leaf = stored(log)[1]
    key = stream_key("default", log.name)
    altered = to_fields(leaf) | {name: value.encode() for name, value in fields.items()}
    return server.client().xadd(key, altered, id="9999999999999-1").decode()  # type: ignore[union-attr]


def test_a_field_that_differs_from_the_body_is_shown_whatever_the_filter(server: Server, tmp_path: Path) -> None:
    log = ship(server, tmp_path, decision())
    entry_id = tamper(server, log, subject="innocent")
    *_, last = lines(server, "--filter", "decision=deny", code=1)
    assert last["rankgate"] == "mismatch"
    assert (last["id"], last["differs"]) == (entry_id, ["subject"])
    assert last["fields"]["subject"] == "innocent"
    assert json.loads(last["body"])["actor"]["user"]["uid"] == "indexer"
    out, err = run(server, "--filter", "decision=deny", code=1)
    assert "mismatch" in out
    assert "1 entries do not agree" in err


@pytest.mark.parametrize("output", ["table", "json"])
def test_scenario_60_nothing_in_the_trail_can_command_the_terminal(server: Server, tmp_path: Path, output: str) -> None:
    evil = "\x1b[2J\x1b]0;owned\x07\r\n\u2028\x9b31m\u202e"
    log = ship(server, tmp_path, decision(caller=Caller(evil, evil, evil, (evil,)), policy_reasons=(evil,)))
    options = ["-o", output, "--unconfirmed-after", "0"]
    out, _ = run(server, *options)
    assert len(out.splitlines()) == (3 if output == "table" else 2)
    tamper(server, log, type=evil)
    server.client().xadd(stream_key("default", log.name), {evil: evil, "body": evil}, id="9999999999999-2")
    out, err = run(server, *options, code=1)
    for text in (*out.split("\n"), *err.split("\n")):
        assert printable(text) == text


def test_a_follower_sees_new_entries_and_new_logs(server: Server, tmp_path: Path) -> None:
    ship(server, tmp_path / "a", decision(1))
    with following(server, "-o", "json", "--since", "1h", "--unconfirmed-after", "0") as process:
        seen = [json.loads(next_line(process)) for _ in range(2)]
        ship(server, tmp_path / "b", DENIED)
        seen += [json.loads(next_line(process)) for _ in range(2)]
        assert [event["unmapped"]["rankgate"].get("decision_id") for event in seen] == [
            None, "decision-1", None, "decision-2",
        ]  # fmt: skip


def test_a_follower_without_since_starts_now_and_survives_an_outage(server: Server, tmp_path: Path) -> None:
    ship(server, tmp_path, decision(1))
    with following(server, "--unconfirmed-after", "0") as process:
        assert next_line(process).startswith("TIME")
        server.kill()
        assert process.stderr is not None
        told = process.stderr.readline()
        assert told.startswith(f"the trail at {server.url} cannot be read: ")
        assert told.endswith("trying again until it is back\n")
        server.start()
        ship(server, tmp_path, DENIED)
        assert "policy_denied" in next_line(process)
        assert process.stderr.readline() == f"the trail at {server.url} is back\n"


def test_ctrl_c_ends_quietly(server: Server, tmp_path: Path) -> None:
    ship(server, tmp_path, decision(1))
    with following(server, "--since", "1h") as process:
        next_line(process)
        next_line(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_S) == 130
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_reader_that_goes_away_ends_it_quietly(server: Server, tmp_path: Path) -> None:
    ship(server, tmp_path, decision(1))
    with following(server, "--since", "1h", "-o", "json", "--unconfirmed-after", "0") as process:
        next_line(process)
        assert process.stdout is not None
        process.stdout.close()
        ship(server, tmp_path, *(decision(n) for n in range(2, 40)))
        assert process.wait(WAIT_S) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_group_acknowledges_what_was_written_and_goes_on_there(server: Server, tmp_path: Path) -> None:
    log = ship(server, tmp_path, decision(1), completion(1))
    key = stream_key("default", log.name)
    assert len(lines(server, "--group", "siem", "--consumer", "a")) == 3
    assert lines(server, "--group", "siem", "--consumer", "a") == []
    ship(server, tmp_path, DENIED)
    assert len(lines(server, "--group", "siem", "--consumer", "b", "--filter", "decision=allow")) == 0
    pending: Any = server.client().xpending(key, "siem")
    assert pending["pending"] == 0


def test_a_consumer_that_comes_back_gets_what_it_never_acknowledged(server: Server, tmp_path: Path) -> None:
    log = ship(server, tmp_path, decision(1), completion(1))
    key = stream_key("default", log.name)
    client = server.client()
    client.xgroup_create(key, "siem", id="0")
    client.xreadgroup("siem", "a", {key: ">"})
    assert len(lines(server, "--group", "siem", "--consumer", "a")) == 3


def test_entries_another_consumer_left_are_taken_over(server: Server, tmp_path: Path) -> None:
    log = ship(server, tmp_path, decision(1), completion(1))
    key = stream_key("default", log.name)
    client = server.client()
    client.xgroup_create(key, "siem", id="0")
    ids = [entry_id for entry_id, _ in client.xreadgroup("siem", "gone", {key: ">"})[0][1]]  # type: ignore[index]
    assert lines(server, "--group", "siem", "--consumer", "b") == []
    client.xclaim(key, "siem", "gone", 0, ids, idle=120_000)
    assert len(lines(server, "--group", "siem", "--consumer", "b")) == 3


def test_a_following_group_acknowledges_as_it_goes(server: Server, tmp_path: Path) -> None:
    log = ship(server, tmp_path / "a", decision(1))
    with following(server, "-o", "json", "--group", "siem") as process:
        [next_line(process) for _ in range(2)]
        second = ship(server, tmp_path / "b", DENIED)
        [next_line(process) for _ in range(2)]
        deadline = time.monotonic() + WAIT_S
        for key in (stream_key("default", log.name), stream_key("default", second.name)):
            while server.client().xpending(key, "siem")["pending"]:  # type: ignore[index, call-overload]
                assert time.monotonic() < deadline
                time.sleep(0.02)


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colours_are_for_terminals_without_no_color(
    server: Server, tmp_path: Path, no_color: str, coloured: bool
) -> None:
    ship(server, tmp_path, DENIED)
    ours, theirs = pty.openpty()
    environment = os.environ | {"NO_COLOR": no_color, "TERM": "xterm"}
    done = subprocess.run(command(server), stdout=theirs, env=environment, timeout=WAIT_S, check=True)
    os.close(theirs)
    out = os.read(ours, 65536).decode()
    os.close(ours)
    assert done.returncode == 0
    assert ("\x1b[31mdeny" in out) is coloured


def test_a_trail_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    nowhere = Server(Path("none"), tmp_path)
    _, err = run(nowhere, code=1)
    assert err.startswith(f"Error: the trail at {nowhere.url} cannot be read: unreachable; ")
    assert len(err.splitlines()) == 1


def test_what_finds_nothing_says_so(server: Server, tmp_path: Path) -> None:
    assert run(server)[1] == "no events\n"
    ship(server, tmp_path, decision(1))
    assert run(server, "--filter", "decision=deny") == (run(server)[0].splitlines()[0] + "\n", NOTHING)
    assert run(server)[1] == ""


def test_an_unknown_log_or_deployment_is_told_with_those_there_are(server: Server, tmp_path: Path) -> None:
    log = ship(server, tmp_path, decision(1))
    _, err = run(server, "--log", "nobody/ext", code=1)
    assert err == f"Error: no log begins with nobody/ext; known are {log.name}\n"
    _, err = run(server, "--deployment", "prod", code=1)
    assert err == "Error: there is no trail of deployment prod; known are default\n"


@pytest.mark.parametrize(
    "options",
    [
        ["--filter", "colour=red"],
        ["--filter", "decision=denied"],
        ["--filter", "status=4xx"],
        ["--since", "yesterday"],
        ["--consumer", "a"],
        ["--redis", "http://localhost"],
    ],
)
def test_wrong_usage_exits_2(tmp_path: Path, options: list[str]) -> None:
    _, err = run(Server(Path("none"), tmp_path), *options, code=2)
    assert err.startswith("Usage:")


def test_a_password_comes_from_a_file(server: Server, tmp_path: Path) -> None:
    ship(server, tmp_path, decision(1))
    (tmp_path / "password").write_text("secret\n")
    server.client().execute_command("ACL", "SETUSER", "reader", "on", ">secret", "~audit:*", "+@read", "+scan")
    options = ["--redis-user", "reader", "--redis-password-file", str(tmp_path / "password")]
    assert len(lines(server, *options, "--unconfirmed-after", "0")) == 2
    (tmp_path / "password").write_text("wrong")
    _, err = run(server, *options, code=1)
    assert "authentication" in err


@pytest.mark.parametrize("flags", [[], ["--group", "siem"]])
def test_the_example_follows_the_trail(server: Server, tmp_path: Path, flags: list[str]) -> None:
    ship(server, tmp_path, decision(1), DENIED)
    script = [sys.executable, str(ROOT / "examples/tail_audit.py"), server.url, "default", *flags]
    with subprocess.Popen(script, stdout=subprocess.PIPE, text=True) as process:
        try:
            told = [next_line(process) for _ in range(3)]
            ship(server, tmp_path, decision(3))
            told.append(next_line(process))
        finally:
            process.kill()
    assert told == [
        "lifecycle - - -\n",
        "allow indexer allowed decision-1\n",
        "deny crawler policy_denied decision-2\n",
        "allow indexer allowed decision-3\n",
    ]


def test_the_example_waits_for_redis_and_ends_quietly(tmp_path: Path) -> None:
    nowhere = Server(Path("none"), tmp_path)
    example = [sys.executable, str(ROOT / "examples/tail_audit.py")]
    with subprocess.Popen([*example, nowhere.url, "default"], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == f"no connection to {nowhere.url}, trying again\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_S) == -signal.SIGINT
        assert process.stderr.read() == ""
    told = subprocess.run([*example, "--help"], capture_output=True, text=True, check=True, timeout=WAIT_S).stdout
    assert "--group" in told
    wrong = subprocess.run(
        [*example, "http://x", "default"], capture_output=True, text=True, check=False, timeout=WAIT_S
    )
    assert wrong.stderr.startswith("Redis URL must specify")
    assert wrong.stderr.count("\n") == 1
