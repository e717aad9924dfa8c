"""Where our own time goes: both filters in this process, fed with Envoy's messages, without Envoy and gRPC.

`python -m bench.stages` prints a table of stages and, from cProfile, the functions with the most time of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import cProfile
import io
import pstats
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import grpc

import ext_authz.server
import ext_proc.server
from bench.bodies import bodies
from bench.ground import Ground, ground
from bench.http1 import body_start
from bench.laps import Laps, Stage
from bench.messages import check_request, handoff_of, process_requests
from bench.upstream import answer
from rankgate.clients import offload
from rankgate.clients.processor import ProcessorProbe
from rankgate.clients.slot import Slot
from rankgate.clients.telemetry import Telemetry
from rankgate.resources import policies
from rankgate.settings import Settings, load

__all__ = ["Table", "main", "tables"]

Run = Callable[[], Awaitable[Any]]
ROUTE = "cohere-v2"
POOL = 16
TOP = 25

AUTHZ_STAGES: tuple[Stage, ...] = (
    ("message in", "ext_authz.wire:parse"),
    ("message in", "ext_authz.wire:request_of"),
    ("identity", "ext_authz.check:bearer"),
    ("identity", "rankgate.clients.identity:Verifier.verify"),
    ("surface", "ext_authz.check:admit"),
    ("parse", "rankgate.jsontext:parse"),
    ("dialect", "rankgate.dialects:choose"),
    ("dialect", "rankgate.dialects.dialect:Dialect.read"),
    ("detect", "ext_authz.check:detect_request"),
    ("question", "ext_authz.check:build_question"),
    ("question digest", "ext_authz.check:encode_question"),
    ("policy", "rankgate.clients.rego:EmbeddedEngine.decide"),
    ("ruling", "ext_authz.check:_ruling"),
    ("ruling", "ext_authz.check:_masks"),
    ("bounds", "ext_authz.check:_keep_bounds"),
    ("lease", "rankgate.clients.credentials:FileBroker.lease"),
    ("handoff", "ext_authz.check:allow"),
    ("handoff", "ext_authz.wire:to_metadata"),
    ("render", "ext_authz.wire:rendered"),
    ("record", "ext_authz.check:decision_event"),
    ("record text", "rankgate.clients.audit:render"),
    ("append", "rankgate.clients.audit:FileLog.append"),
)
PROC_STAGES: tuple[Stage, ...] = (
    ("messages in", "ext_proc.wire:parse"),
    ("messages in", "ext_proc.wire:event_of"),
    ("handoff", "ext_proc.exchange:from_metadata"),
    ("digest", "ext_proc.exchange:keyed_digest"),
    ("parse", "rankgate.jsontext:parse"),
    ("splice", "ext_proc.exchange:splice_request"),
    ("answer", "ext_proc.exchange:mask_answer"),
    ("messages out", "ext_proc.wire:response_of"),
    ("record", "ext_proc.server:completion_event"),
    ("record text", "rankgate.clients.audit:render"),
    ("append", "rankgate.clients.audit:FileLog.append_all"),
)
REST = "everything else"


@dataclass(frozen=True, slots=True)
class Table:
    """The stages of one filter at one size: CPU microseconds a call, in order, and of the whole process.

    `wall_us` is what a call took from its first message to its last, the disk's part included.
    """

    filter: str
    documents: int
    body_bytes: int
    stages_us: dict[str, float]
    cpu_us: float
    wall_us: float


class Stream:
    """A gRPC context whose other side is a list."""

    def __init__(self, messages: list[bytes]) -> None:
        self._left = iter(messages)
        self.answers: list[bytes] = []

    async def read(self) -> Any:
        """Return the next message."""
        return next(self._left, grpc.aio.EOF)  # type: ignore[attr-defined]  # missing in the stubs

    async def write(self, message: bytes) -> None:
        """Keep an answer."""
        self.answers.append(message)

    async def abort(self, _code: grpc.StatusCode, details: str) -> None:
        """Fail: no call that is measured is refused."""
        raise RuntimeError(details)


@dataclass(frozen=True, slots=True)
class Filters:
    """Both filters: `check` a CheckRequest; `process` the messages of a call; `settle` records what became of it."""

    check: Callable[[bytes], Awaitable[bytes]]
    process: Callable[[list[bytes]], Awaitable[list[bytes]]]
    settle: Callable[[], Awaitable[None]]


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Filters]:
    """Hold both filters of `settings`, as their processes build them."""
    async with contextlib.AsyncExitStack() as scope:
        authz_slot, proc_slot = Slot("ext_authz", 0), Slot("ext_proc", 0)
        authorization = await scope.enter_async_context(
            ext_authz.server.build(settings, authz_slot, Telemetry.local(authz_slot))
        )
        processing = await scope.enter_async_context(
            ext_proc.server.build(settings, proc_slot, Telemetry.local(proc_slot))
        )
        check_method = _method(authorization.handler(), "/envoy.service.auth.v3.Authorization/Check").unary_unary
        process_method = _method(
            processing.handler(), "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
        ).stream_stream

        async def check(message: bytes) -> bytes:
            answered: bytes = await check_method(message, Stream([]))
            return answered

        async def process(messages: list[bytes]) -> list[bytes]:
            stream = Stream(messages)
            await process_method(None, stream)
            # Nothing of a call waits here; what records completions needs its turn.
            await asyncio.sleep(0)
            return stream.answers

        yield Filters(check, process, processing.completions.flush)


async def tables(shared: Ground, documents: int, calls: int) -> list[Table]:
    """Return a table for each filter: the shipped policy, texts seen before."""
    async with _prepared(shared, documents) as (filters, checks, streams, body_bytes):
        found = []
        runs: tuple[tuple[str, tuple[Stage, ...], list[Run]], ...] = (
            ("ext_authz", AUTHZ_STAGES, [partial(filters.check, message) for message in checks]),
            ("ext_proc", PROC_STAGES, [partial(filters.process, messages) for messages in streams]),
        )
        for name, stages, run in runs:
            found.append(await _table(name, documents, body_bytes, stages, run, calls, filters.settle))
        return found


async def hottest(shared: Ground, documents: int, calls: int) -> str:
    """Return what cProfile says of `calls` calls through both filters: the functions with the most own time."""
    async with _prepared(shared, documents) as (filters, checks, streams, _):
        profile = cProfile.Profile()
        with _in_one_thread():
            profile.enable()
            for number in range(calls):
                await filters.check(checks[number % POOL])
                await filters.process(streams[number % POOL])
            profile.disable()
    text = io.StringIO()
    pstats.Stats(profile, stream=text).sort_stats("tottime").print_stats(TOP)
    root = f"{Path(__file__).parent.parent}/"
    lines = [line.replace(root, "") for line in text.getvalue().splitlines() if line.strip()]
    return "\n".join(lines)


@contextlib.asynccontextmanager
async def _prepared(
    shared: Ground, documents: int
) -> AsyncIterator[tuple[Filters, list[bytes], list[list[bytes]], int]]:
    folder = shared.folder / f"stages-{documents}-{time.monotonic_ns()}"
    folder.mkdir()
    # The subject whose limits allow this many; no stream: shipping is done by a thread beside the calls.
    subject, model = ("search-svc", "rerank") if documents <= 50 else ("batch-svc", "batch")
    settings = load(shared.write_settings(folder, {"policy": {"directory": policies()}}))
    contents, token = bodies(documents, POOL, model=model), shared.token(subject)
    ranked = answer(documents)
    async with running(settings) as filters, _processor_ready():
        checks = [check_request(content, token, ROUTE) for content in contents]
        streams = [
            process_requests(content, ranked[body_start(ranked) :], handoff_of(await filters.check(check)))
            for content, check in zip(contents, checks, strict=True)
        ]
        for stream in streams:
            await filters.process(stream)
        yield filters, checks, streams, len(contents[0])


async def _table(
    name: str, documents: int, body_bytes: int, stages: tuple[Stage, ...],
    run: list[Run], calls: int, settle: Run,
) -> Table:  # fmt: skip
    rounds: list[dict[str, float]] = []
    walls, cpus = [], []
    for _ in range(5):
        laps = Laps()
        # Unwrapped: what the whole takes.
        begun, cpu = time.perf_counter_ns(), time.process_time_ns()
        for number in range(calls):
            await run[number % POOL]()
        await settle()
        walls.append((time.perf_counter_ns() - begun) / calls / 1000)
        cpus.append((time.process_time_ns() - cpu) / calls / 1000)
        with laps.watching(stages):
            for number in range(calls):
                await run[number % POOL]()
            await settle()
        rounds.append({stage: laps.ns[stage] / calls / 1000 for stage, _ in stages})
    medians = {stage: statistics.median(one[stage] for one in rounds) for stage in rounds[0]}
    together = statistics.median(cpus)
    medians[REST] = max(0.0, together - sum(medians.values()))
    return Table(name, documents, body_bytes, medians, together, statistics.median(walls))


@contextlib.asynccontextmanager
async def _processor_ready() -> AsyncIterator[None]:
    """Let the probe say yes, as it does from its cache in all calls of a second but one."""

    async def ready(self: ProcessorProbe) -> bool:  # noqa: ARG001
        return True

    with patch.object(ProcessorProbe, "ready", ready):
        yield


@contextlib.contextmanager
def _in_one_thread() -> Iterator[None]:
    """Work on bodies of every size where cProfile looks."""
    with patch.object(offload, "INLINE", 2**30):
        yield


def _method(handler: grpc.GenericRpcHandler[bytes, bytes], path: str) -> Any:
    class Details:
        method = path
        invocation_metadata = ()

    return handler.service(Details())  # type: ignore[arg-type]  # any object with these two


def show(table: Table) -> None:
    """Print one table."""
    print(f"\n{table.filter}, {table.documents} documents, {table.body_bytes} bytes: CPU microseconds a call")
    for stage, taken in table.stages_us.items():
        print(f"  {stage:18}{taken:9.1f}")
    print(f"  {'together':18}{table.cpu_us:9.1f}\n  {'(elapsed)':18}{table.wall_us:9.1f}")


async def _run(sizes: list[int], calls: int) -> None:
    async with ground() as shared:
        for documents in sizes:
            for table in await tables(shared, documents, calls if documents <= 50 else max(1, calls // 5)):
                show(table)
        for documents in sizes:
            print(f"\nMost own time under cProfile, {documents} documents (its own cost included)")
            print(await hottest(shared, documents, calls if documents <= 50 else max(1, calls // 5)))


def main() -> None:
    """Print where the time goes."""
    parser = argparse.ArgumentParser(prog="python -m bench.stages", description=__doc__)
    parser.add_argument("--documents", type=int, nargs="+", default=[20, 200])
    parser.add_argument("--calls", type=int, default=500)
    chosen = parser.parse_args()
    sys.setswitchinterval(0.0005)
    asyncio.run(_run(chosen.documents, chosen.calls))


if __name__ == "__main__":
    main()
