"""Short measurements of every contender in turn, so that what disturbs one disturbs all; medians and their spread."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.contenders import Contender
from bench.load import Job, Result
from bench.meter import cpu_us, resident_mib

__all__ = ["Round", "Summary", "measure", "summarise"]


@dataclass(frozen=True, slots=True)
class Round:
    """One measurement: what the client saw, and each process's CPU time per call (us) and memory (MiB)."""

    result: Result
    cpu_us: Mapping[str, float]
    memory_mib: Mapping[str, float]

    @property
    def calls(self) -> int:
        """Return the answers that came, of any status."""
        return sum(self.result.statuses.values())


@dataclass(frozen=True, slots=True)
class Summary:
    """The medians over the rounds of one contender; `spread` is (highest - lowest) / median of the CPU total."""

    rate: float
    p50_us: float
    p99_us: float
    cpu_us: Mapping[str, float]
    total_cpu_us: float
    spread: float
    memory_mib: Mapping[str, float]
    statuses: Mapping[str, int]


async def measure(contender: Contender, job: Job) -> Round:
    """Do `job` at `contender` in a client process of its own."""
    root = str(Path(__file__).parent.parent)
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "bench.load",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=2**26,
        env={**os.environ, "PYTHONPATH": root},
    )  # fmt: skip
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
    await client.stdin.drain()
    before: dict[str, int] = {}
    after: dict[str, int] = {}
    result = None
    while line := (await client.stdout.readline()).strip():
        if line == b"begin":
            before = {name: cpu_us(pid) for name, pid in contender.pids.items()}
        elif line == b"end":
            after = {name: cpu_us(pid) for name, pid in contender.pids.items()}
        else:
            result = Result(**json.loads(line))
    if await client.wait() or result is None or not result.times_us:
        raise RuntimeError(f"the client of {contender.name} failed")
    calls = len(result.times_us)
    return Round(
        result,
        {name: (after[name] - before[name]) / calls for name in contender.pids},
        {name: resident_mib(pid) for name, pid in contender.pids.items()},
    )


def summarise(closed: Sequence[Round], opened: Sequence[Round] = ()) -> Summary:
    """Return the medians: rate and CPU from the closed loop, times from the open one where there is one."""
    names = closed[0].cpu_us
    totals = [sum(one.cpu_us.values()) for one in closed]
    times = sorted(time for one in (opened or closed) for time in one.result.times_us)
    statuses: dict[str, int] = {}
    for one in (*closed, *opened):
        for status, count in one.result.statuses.items():
            statuses[status] = statuses.get(status, 0) + count
    return Summary(
        rate=statistics.median(len(one.result.times_us) / one.result.seconds for one in closed),
        p50_us=times[len(times) // 2],
        p99_us=times[min(len(times) - 1, len(times) * 99 // 100)],
        cpu_us={name: statistics.median(one.cpu_us[name] for one in closed) for name in names},
        total_cpu_us=statistics.median(totals),
        spread=(max(totals) - min(totals)) / statistics.median(totals),
        memory_mib={name: max(one.memory_mib[name] for one in closed) for name in names},
        statuses=statuses,
    )
