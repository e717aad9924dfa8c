"""The demo tells the truth: it ends well only if every step came out as told, and leaves nothing behind."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import Running, alive, command, descendants, environment, started, wait_until

pytestmark = pytest.mark.demo

STORY_SECONDS = 10.0
# Well below what anything waits for on its way out; an idle machine takes a third of a second.
STOP_SECONDS = 5.0
TITLES = (
    "No token",
    "A token for another service",
    "Allowed and masked",
    "Denied by policy",
    "Too many documents",
    "A document the caller may not see",
    "A risky query waits for a person",
    "The trail, tailed live while the calls were made",
)


def run_demo(**more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("demo"), capture_output=True, text=True, check=False, timeout=60, env=environment(**more)
    )


@pytest.fixture(scope="module")
def told() -> subprocess.CompletedProcess[str]:
    return run_demo()


@pytest.fixture
def kept() -> Iterator[Running]:
    """Yield a demo that stays up."""
    with started(command("demo", "--keep")) as demo:
        demo.says("rankgate audit tail")
        yield demo


def test_every_step_comes_out_as_told(told: subprocess.CompletedProcess[str]) -> None:
    assert told.returncode == 0, told.stdout + told.stderr
    assert [line for title in TITLES for line in told.stdout.splitlines() if title in line and "\u2713" in line]
    assert f"All {len(TITLES)} steps came out as told" in told.stdout
    assert "not as told" not in told.stdout
    assert told.stderr == ""


def test_the_story_takes_ten_seconds_at_most(told: subprocess.CompletedProcess[str]) -> None:
    match = re.search(r"came out as told \(([0-9.]+) s\)", told.stdout)
    assert match is not None
    assert float(match[1]) <= STORY_SECONDS


def test_a_pipe_gets_plain_text(told: subprocess.CompletedProcess[str]) -> None:
    assert "\x1b" not in told.stdout


def test_a_terminal_gets_colours_unless_it_wants_none() -> None:
    assert "\x1b[" in run_demo(FORCE_COLOR="1").stdout
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]", run_demo(FORCE_COLOR="1", NO_COLOR="1").stdout)


def test_the_masked_step_shows_all_three_views(told: subprocess.CompletedProcess[str]) -> None:
    sent, rest = told.stdout.split("the caller sent", 1)[1].split("the engine received", 1)
    received, got = rest.split("the caller got", 1)
    got = got.split("receipt", 1)[0]
    assert "jonas.feld@example.com" in sent
    assert "jonas.feld@example.com" not in received + got
    assert "GB82" not in received + got


def test_the_memory_of_every_process_is_stated(told: subprocess.CompletedProcess[str]) -> None:
    for name in ("envoy", "valkey", "ext_authz-0", "ext_proc-0", "issuer and reranker", "together"):
        assert re.search(rf"[0-9]+ MiB\s+{name}\n", told.stdout), name
    assert re.search(r"Installed, with everything it needs: [0-9]+ MiB\n", told.stdout)


def test_settings_in_the_environment_do_not_reach_the_demo() -> None:
    assert run_demo(RANKGATE_LISTEN__PORT="1", RANKGATE_LIMITS__DOCUMENTS="1").returncode == 0


def test_kept_commands_can_be_copied_and_ctrl_c_ends_it_all(kept: Running) -> None:
    process, text = kept.process, kept.text
    exports = [line for line in text.splitlines() if line.startswith("export ")]
    curls = [line for line in text.splitlines() if line.startswith("curl ")]
    assert len(exports) == 4
    assert len(curls) == 4
    scripts = ["\n".join([*exports, f"{curl} -o /dev/null -w '%{{http_code}}'"]) for curl in curls]
    *answers, risky = (subprocess.Popen(["sh", "-ec", script], stdout=subprocess.PIPE, text=True) for script in scripts)
    assert [answer.communicate(timeout=20)[0] for answer in answers] == ["200", "200", "403"]
    # The last one waits for a person.
    (console,) = (shlex.split(line)[1:] for line in exports if "RANKGATE_CONSOLE" in line)
    person = environment(**dict(pair.split("=", 1) for pair in console))

    def approvals(*words: str) -> str:
        asked = command("approvals", *words)
        return subprocess.run(asked, capture_output=True, text=True, check=True, env=person).stdout

    def waiting() -> list[str]:
        listed = [json.loads(line) for line in approvals("list", "-o", "json").splitlines()]
        return [one["id"] for one in listed if one["document_count"] == 1]

    wait_until(lambda: bool(waiting()), 10, "nothing waits for a person")
    approvals("approve", *waiting(), "--reason", "known case", "--yes")
    assert risky.communicate(timeout=20)[0] == "200"
    tail = shlex.split(next(line for line in text.splitlines() if line.startswith("rankgate audit tail")))
    rows = subprocess.run(
        command(*[word for word in tail[1:] if word != "--follow"]), capture_output=True, text=True, check=True
    ).stdout
    assert rows.count(" allow ") == 6
    children = descendants(process.pid)
    assert len(children) >= 4
    process.send_signal(signal.SIGINT)
    assert wait_until(lambda: process.poll() is not None, 10, "it did not end") <= STOP_SECONDS
    assert process.returncode == 0
    assert not {pid for pid in children if alive(pid)}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties children to a killed parent")
def test_children_do_not_outlive_a_killed_demo(kept: Running) -> None:
    process = kept.process
    children = descendants(process.pid)
    assert len(children) >= 4
    process.kill()
    process.wait()
    wait_until(lambda: not {pid for pid in children if alive(pid)}, 5, "children outlived the demo")


def test_its_folder_is_removed(kept: Running) -> None:
    process, text = kept.process, kept.text
    tail = shlex.split(next(line for line in text.splitlines() if line.startswith("rankgate audit tail")))
    folder = Path(tail[-1]).parent
    assert folder.is_dir()
    process.terminate()
    process.wait(10)
    assert not folder.exists()
