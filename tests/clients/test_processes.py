"""Children start, are waited for by condition, stop when told, and die with their parent."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from rankgate.clients.processes import Child, StartError

linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel binds a child to its parent on Linux only")


async def start(tmp_path: Path, program: str, *arguments: object) -> Child:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return await Child.start("part", command, log=tmp_path / "part.log", environment=dict(os.environ))


class Exists:
    """Tells whether a file has appeared."""

    def __init__(self, path: Path) -> None:
        self._look = path.exists

    async def __call__(self) -> bool:
        return self._look()


async def gone(pid: int) -> None:
    """Wait until the process has ended."""
    ended = asyncio.Event()
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    asyncio.get_running_loop().add_reader(descriptor, ended.set)
    try:
        async with asyncio.timeout(10):
            await ended.wait()
    finally:
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)


async def test_a_child_is_ready_when_its_condition_holds(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    child = await start(tmp_path, "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(60)", flag)
    await child.until(Exists(flag), within_s=10)
    assert child.running
    assert await child.stop(grace_s=5) == -signal.SIGTERM
    assert not child.running


async def test_a_child_that_ends_while_starting_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    child = await start(tmp_path, "print('no such setting'); raise SystemExit(3)")
    with pytest.raises(StartError, match=r"part ended while starting \(exit code 3\)\n  no such setting"):
        await child.until(Exists(tmp_path / "never"), within_s=10)


async def test_a_child_that_is_never_ready_is_named_when_its_time_is_over(tmp_path: Path) -> None:
    child = await start(tmp_path, "import time; time.sleep(60)")
    began = time.monotonic()
    with pytest.raises(StartError, match=r"part was not ready within 0\.2 s"):
        await child.until(Exists(tmp_path / "never"), within_s=0.2)
    assert time.monotonic() - began < 5
    await child.stop(grace_s=5)


async def test_the_end_of_a_log_shows_no_token(tmp_path: Path) -> None:
    token = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJlLWJ5dGVz"
    child = await start(tmp_path, "import sys; print('refused', sys.argv[1])", token)
    assert await child.wait() == 0
    assert child.tail() == "  refused ***"


async def test_the_end_of_a_log_is_of_this_run_alone(tmp_path: Path) -> None:
    (tmp_path / "part.log").write_text("what an earlier run complained of\n")
    child = await start(tmp_path, "raise SystemExit(3)")
    with pytest.raises(StartError, match=r"^part ended while starting \(exit code 3\)\n  \(it wrote nothing\)$"):
        await child.until(Exists(tmp_path / "never"), within_s=10)


async def test_a_child_that_was_killed_is_told_with_the_signal(tmp_path: Path) -> None:
    child = await start(tmp_path, "import time; time.sleep(60)")
    assert child.ending == "still running"
    child.kill()
    await child.wait()
    assert child.ending == "killed by SIGKILL"


async def test_what_a_child_writes_is_read_by_whole_lines(tmp_path: Path) -> None:
    (tmp_path / "part.log").write_text("old\n")
    program = "import sys, time; print('one'); print('tw', end='', flush=True); time.sleep(60)"
    child = await start(tmp_path, program)

    async def halfway() -> bool:
        return child.log.read_bytes().endswith(b"tw")

    await child.until(halfway, within_s=10)
    text, position = child.written()
    assert text == "one\n"
    assert child.written(position) == ("", position)
    await child.stop(grace_s=5)
    assert child.written(position)[0] == "tw"


async def test_a_child_deaf_to_sigterm_is_killed_when_its_grace_is_over(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    program = (
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "pathlib.Path(sys.argv[1]).touch()\n"
        "time.sleep(60)\n"
    )
    child = await start(tmp_path, program, flag)
    await child.until(Exists(flag), within_s=10)
    assert await child.stop(grace_s=0.1) == -signal.SIGKILL


async def test_stopping_a_child_that_has_ended_returns_its_exit_code(tmp_path: Path) -> None:
    child = await start(tmp_path, "raise SystemExit(7)")
    assert await child.wait() == 7
    assert await child.stop(grace_s=1) == 7


async def test_a_missing_program_is_a_start_error(tmp_path: Path) -> None:
    async def run() -> None:
        child = await Child.start("part", [tmp_path / "absent"], log=tmp_path / "part.log", environment={})
        await child.until(Exists(tmp_path / "never"), within_s=10)

    with pytest.raises(StartError, match="part"):
        await run()


async def test_a_child_is_the_leader_of_its_own_process_group(tmp_path: Path) -> None:
    child = await start(tmp_path, "import time; time.sleep(60)")
    assert os.getpgid(child.pid) == child.pid != os.getpgid(0)
    await child.stop(grace_s=5)


@linux
async def test_a_child_dies_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    parent_program = (
        "import asyncio, os, pathlib, sys\n"
        "from rankgate.clients.processes import Child\n"
        "async def main():\n"
        "    here = pathlib.Path(sys.argv[1])\n"
        "    child = await Child.start('grandchild', [sys.executable, '-c', 'import time; time.sleep(600)'],\n"
        "                              log=here / 'grandchild.log', environment=dict(os.environ))\n"
        "    (here / 'pid.part').write_text(str(child.pid))\n"
        "    (here / 'pid.part').rename(here / 'pid')\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    root = str(Path(__file__).parent.parent.parent)
    parent = await Child.start(
        "parent",
        [sys.executable, "-c", parent_program, tmp_path],
        log=tmp_path / "parent.log",
        environment={**os.environ, "PYTHONPATH": root},
    )
    await parent.until(Exists(told), within_s=20)
    grandchild = int(told.read_text())
    os.kill(grandchild, 0)
    parent.kill(signal.SIGKILL)
    await parent.wait()
    await gone(grandchild)
