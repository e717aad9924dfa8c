"""A candidate policy beside the live one: asked the same questions afterwards, compared, without effect.

Nothing here may delay or change a call. What was decided is offered and the call goes on; a bounded queue holds it, and
what does not fit is dropped and counted. A process of its own decides and compares (rankgate.clients.shadow_worker);
one that is late, dies or says what nobody understands is killed and started again, at most once a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec
import structlog

from rankgate.clients.processes import bound
from rankgate.errors import Reason
from rankgate.policy.verdict import Verdict
from rankgate.settings import Settings

__all__ = ["Shadow"]

log = structlog.get_logger(__name__)

MOST_WAITING = 256
MOST_BYTES = 16_777_216
RESTART_S = 1.0
# Beyond policy.timeout_s, at which the worker itself calls an answer late.
GRACE_S = 1.0
# A new process imports and loads first.
START_S = 20.0
FAULT_CHARS = 300
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "LD_LIBRARY_PATH")


class _Offer(NamedTuple):
    decision_id: str
    question: str
    live: Verdict
    live_revision: str
    document_count: int

    def line(self) -> bytes:
        # The question is JSON already, on one line.
        live = json.dumps(self.live)
        return f'{{"live":{live},"documents":{self.document_count},"question":{self.question}}}\n'.encode()


class _Answer(NamedTuple):
    changes: list[str]
    fault: str


class _Line(msgspec.Struct):
    """What the process says: an answer, or with `loaded` news of the folder."""

    changes: list[str] = []
    fault: str = ""
    loaded: str | None = None
    why: str = ""


_LINE = msgspec.json.Decoder(_Line)


class _WorkerError(Exception):
    """The process did not answer as it must."""


class Shadow:
    """Compares what a candidate would decide. `counted` hears an outcome, `told` a word and what belongs to it."""

    def __init__(
        self,
        settings: Settings,
        *,
        counted: Callable[[str], None],
        told: Callable[[str, Mapping[str, str | int]], None],
    ) -> None:
        policy = settings.policy
        self._command = (
            sys.executable, "-P", "-m", "rankgate.clients.shadow_worker",
            str(policy.shadow_directory), policy.path, str(policy.timeout_s), settings.credentials.header,
        )  # fmt: skip
        self._answer_s = policy.timeout_s + GRACE_S
        self._counted = counted
        self._told = told
        self._pace = _Pace(policy.shadow_events_per_s)
        self._waiting: deque[_Offer] = deque()
        self._bytes = 0
        self._more = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._revision = ""

    def start(self) -> None:
        """Begin; the candidate is loaded beside, and may come later."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End the process and forget what waits; safe to call twice."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._end()

    def offer(self, decision_id: str, question: str, live: Verdict, live_revision: str, document_count: int) -> None:
        """Take what was asked and ruled, or drop it; never waits, never fails."""
        if len(self._waiting) >= MOST_WAITING or self._bytes + len(question) > MOST_BYTES:
            self._counted("dropped")
            return
        self._bytes += len(question)
        self._waiting.append(_Offer(decision_id, question, live, live_revision, document_count))
        self._more.set()

    async def _run(self) -> None:
        while True:
            try:
                await self._serve()
            except Exception as error:  # noqa: BLE001 - a fault here is the candidate's loss alone
                faults = error.exceptions if isinstance(error, ExceptionGroup) else (error,)
                log.warning("shadow_restarts", error=type(faults[0]).__name__)
            finally:
                await self._end()
            await asyncio.sleep(RESTART_S)

    async def _serve(self) -> None:
        """Start a process and ask it until one of them fails."""
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        self._process = process = await asyncio.create_subprocess_exec(
            *bound(self._command),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment,
            # uvloop knows no process_group; either keeps Ctrl-C to the parent, which ends this in order.
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        answers: asyncio.Queue[_Answer] = asyncio.Queue()
        ready = asyncio.Event()
        async with asyncio.TaskGroup() as both:
            both.create_task(self._listen(process.stdout, answers, ready))
            both.create_task(self._ask(process.stdin, answers, ready))

    async def _listen(self, said: asyncio.StreamReader, answers: asyncio.Queue[_Answer], ready: asyncio.Event) -> None:
        while line := await said.readline():
            heard = _LINE.decode(line)
            if heard.loaded is None:
                answers.put_nowait(_Answer(heard.changes, heard.fault))
            else:
                self._loaded(heard.loaded, heard.why)
                ready.set()
        raise _WorkerError

    async def _ask(self, asked: asyncio.StreamWriter, answers: asyncio.Queue[_Answer], ready: asyncio.Event) -> None:
        async with asyncio.timeout(START_S):
            await ready.wait()
        while True:
            while not self._waiting:
                self._more.clear()
                await self._more.wait()
            one = self._waiting.popleft()
            self._bytes -= len(one.question)
            outcome = "failed"
            try:
                asked.write(one.line())
                async with asyncio.timeout(self._answer_s):
                    await asked.drain()
                    answer = await answers.get()
                outcome = "failed" if answer.fault and answer.changes else "different" if answer.changes else "same"
            finally:
                self._counted(outcome)
            self._tell(one, answer)

    def _loaded(self, revision: str, why: str) -> None:
        self._revision = revision
        detail = {"shadow_revision": revision} | ({"fault": why[:FAULT_CHARS]} if why else {})
        if why:
            log.error("shadow_not_loaded", **detail)
        else:
            log.info("shadow_loaded", **detail)
        self._told("not_loaded" if why else "loaded", detail)

    def _tell(self, one: _Offer, answer: _Answer) -> None:
        # That no policy is loaded was told once.
        if not answer.changes or answer.fault == Reason.POLICY_UNAVAILABLE or not self._pace.may(time.monotonic()):
            return
        detail = {"decision_id": one.decision_id, "differs": ",".join(answer.changes)}
        revisions = {"policy_revision": one.live_revision, "shadow_revision": self._revision}
        self._told(answer.fault or answer.changes[0], detail | revisions)

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


class _Pace:
    """At most so many a second."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._second = 0
        self._count = 0

    def may(self, now: float) -> bool:
        second = int(now)
        if second != self._second:
            self._second, self._count = second, 0
        self._count += 1
        return self._count <= self._most
