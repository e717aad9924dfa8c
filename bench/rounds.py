"""Short measurements of every contender in turn, so that what disturbs one disturbs all; medians and their spread."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bench.ground import Contender
from bench.load import Job, Result
from bench.meter import cpu_us, resident_mib

__all__ = ["Cost", "Round", "Summary", "measure", "measure_all"]


@dataclass(frozen=True, slots=True)
class Round:
    """One measurement: what the client saw, and each process's CPU time per call (us) and memory (MiB)."""

    result: Result
    cpu_us: Mapping[str, float]
    memory_mib: Mapping[str, float]

    @property
    def total_us(self) -> float:
        """Return the CPU time per call of all processes together."""
        return sum(self.cpu_us.values())

    @property
    def own_us(self) -> float:
        """Return that without OPA's, whose evaluation is no work of ours."""
        return self.total_us - self.cpu_us.get("opa", 0.0)

    @property
    def rate(self) -> float:
        """Return the calls answered in a second."""
        return len(self.result.times_us) / self.result.seconds


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU time per call (us) in one kind of rounds; the rest as in Summary."""

    cpu_us: Mapping[str, float]
    total_cpu_us: float
    to_floor: float
    own: float
    spread: float


@dataclass(frozen=True, slots=True)
class Summary:
    """The rounds of one contender as medians.

    `to_floor` and `to_plain` are its CPU time per call over theirs in the same round; `own` is the part above the
    floor's that is not OPA's, as a share of the floor's. `spread` is (highest - lowest) / median of the CPU time.
    `steady` is what the open loop cost, in which every contender gets the same calls; None where there was none.
    `failed` counts the calls that were not answered 200.
    """

    rate: float
    rate_to_floor: float
    p50_us: float
    p99_us: float
    cpu_us: Mapping[str, float]
    total_cpu_us: float
    to_floor: float
    to_plain: float
    own: float
    spread: float
    memory_mib: Mapping[str, float]
    total_mib: float
    calls: int
    failed: int
    steady: Cost | None = None


async def measure_all(
    contenders: Sequence[Contender], job: Job, *, rounds: int, latency: Job | None
) -> dict[str, Summary]:
    """Measure every contender `rounds` times in turn; `latency` is the open loop that times come from.

    One contender's name begins with `floor`, one is `plain`. Their ports are filled in.
    """
    closed: dict[str, list[Round]] = {one.name: [] for one in contenders}
    opened: dict[str, list[Round]] = {one.name: [] for one in contenders}
    for _ in range(rounds):
        for one in contenders:
            closed[one.name].append(await measure(one, replace(job, port=one.port)))
            if latency is not None:
                opened[one.name].append(await measure(one, replace(latency, port=one.port)))
    floor = next(name for name in closed if name.startswith("floor"))
    return {
        name: _summary(closed[name], opened[name], closed[floor], opened[floor], closed["plain"]) for name in closed
    }


async def measure(contender: Contender, job: Job, begun: Callable[[], object] | None = None) -> Round:
    """Do `job` at `contender` in a client process of its own; `begun` is called where the measured time begins.

    Raises RuntimeError where no call was answered.
    """
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "bench.load",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=2**26,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
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
            if begun is not None:
                begun()
        elif line == b"end":
            after = {name: cpu_us(pid) for name, pid in contender.pids.items()}
        else:
            result = Result(**json.loads(line))
    if await client.wait() or result is None or not result.times_us:
        raise RuntimeError(f"{contender.name} answered nothing")
    calls = len(result.times_us)
    return Round(
        result,
        {name: (after[name] - before[name]) / calls for name in contender.pids},
        {name: resident_mib(pid) for name, pid in contender.pids.items()},
    )


def _summary(
    closed: Sequence[Round],
    opened: Sequence[Round],
    floor_closed: Sequence[Round],
    floor_opened: Sequence[Round],
    plain: Sequence[Round],
) -> Summary:
    cost = _cost(closed, floor_closed)
    times = sorted(time for one in opened or closed for time in one.result.times_us)
    statuses: Counter[str] = Counter()
    for one in (*closed, *opened):
        statuses.update(one.result.statuses)
    memory = {name: max(one.memory_mib[name] for one in (*closed, *opened)) for name in closed[0].memory_mib}
    return Summary(
        rate=statistics.median(one.rate for one in closed),
        rate_to_floor=statistics.median(one.rate / base.rate for one, base in zip(closed, floor_closed, strict=True)),
        p50_us=times[len(times) // 2],
        p99_us=times[min(len(times) - 1, len(times) * 99 // 100)],
        cpu_us=cost.cpu_us,
        total_cpu_us=cost.total_cpu_us,
        to_floor=cost.to_floor,
        to_plain=statistics.median(
            one.total_us / max(base.total_us, 1.0) for one, base in zip(closed, plain, strict=True)
        ),
        own=cost.own,
        spread=cost.spread,
        memory_mib=memory,
        total_mib=sum(memory.values()),
        calls=statuses.total(),
        failed=statuses.total() - statuses["200"],
        steady=_cost(opened, floor_opened) if opened else None,
    )


def _cost(rounds: Sequence[Round], floor: Sequence[Round]) -> Cost:
    totals = [one.total_us for one in rounds]
    middle = statistics.median(totals)
    return Cost(
        cpu_us={name: statistics.median(one.cpu_us[name] for one in rounds) for name in rounds[0].cpu_us},
        total_cpu_us=middle,
        to_floor=statistics.median(one.total_us / base.total_us for one, base in zip(rounds, floor, strict=True)),
        own=statistics.median(one.own_us / base.total_us for one, base in zip(rounds, floor, strict=True)) - 1.0,
        spread=(max(totals) - min(totals)) / middle,
    )
