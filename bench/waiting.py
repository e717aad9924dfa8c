"""What callers that wait for a person cost the others: many are held, and ordinary calls go on beside them.

Two gates that are alike take turns in holding callers, so that the idle one is measured beside the other, slice by
slice; a third has no approvals. Every round ends with one caller more than there are seats, and then lets all go: they
leave at once, or people agree one by one, or to all at once, while ordinary calls go on.
`python -m bench.waiting` ends with 1 where an ordinary call failed, a held one was not answered or did not arrive
once, or the caller for whom there was no seat was not sent away.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from bench.bodies import bodies, requests
from bench.ground import Contender, ground
from bench.held import DOCUMENTS, POLICY, Held, Scene, ask, held_body, scene_at, until
from bench.load import Job
from bench.meter import cpu_us, resident_mib
from bench.page import machine, publish
from bench.rounds import Round, measure
from rankgate.approvals import Stored

__all__ = ["MOST", "NAME", "QUICK", "Pace", "Phase", "Waiting", "faults", "main", "to_markdown", "waiting"]

NAME = "callers waiting"
# The most that the p99 of ordinary calls may grow while callers wait.
MOST = 1.5
POOL = 16
LEAVE, ONE_BY_ONE, AT_ONCE = "leave", "one by one", "at once"
ROOT = Path(__file__).parent.parent
RELEASES = (LEAVE, ONE_BY_ONE, AT_ONCE)
# Bodies of callers that are held begin here, so that each is another one.
FIRST = 1000


@dataclass(frozen=True, slots=True)
class Pace:
    """How much is measured. Every third round ends alike."""

    rounds: int = 6
    callers: int = 256
    more: int = 5
    rate: float = 100.0
    connections: int = 8
    warm_s: float = 0.5
    slices: int = 3
    measure_s: float = 2.0
    release_s: float = 6.0
    arrivals_s: float = 128.0
    votes_s: float = 50.0
    quiet_s: float = 2.0


QUICK = Pace(
    rounds=3,
    callers=6,
    more=1,
    rate=50.0,
    connections=2,
    warm_s=0.2,
    slices=1,
    measure_s=0.4,
    release_s=0.8,
    quiet_s=0.2,
)


@dataclass(frozen=True, slots=True)
class Phase:
    """Ordinary calls of one kind of moment, all rounds together. Times in microseconds; CPU a call by process."""

    calls: int
    failed: int
    p50_us: float
    p99_us: float
    p99_ratio: float
    """The median over the rounds of the p99 over that with nobody waiting, in the same round."""
    cpu_us: Mapping[str, float]


@dataclass(slots=True)
class Seen:
    """What all rounds saw."""

    phases: dict[str, dict[int, list[Round]]] = field(default_factory=dict)
    """Slices by name and number of the round."""
    quiet_us: list[float] = field(default_factory=list)
    memory: list[tuple[Mapping[str, float], Mapping[str, float]]] = field(default_factory=list)
    more_ms: list[float] = field(default_factory=list)
    ordinary_ms: list[float] = field(default_factory=list)
    more_statuses: list[int] = field(default_factory=list)
    answers: dict[str, list[int]] = field(default_factory=dict)
    vote_ms: dict[str, list[float]] = field(default_factory=dict)
    arrived: int = 0
    different: int = 0
    left_behind: int = 0


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a run found. Times in milliseconds, memory in MiB, CPU in microseconds.

    `without` is the gate that has no approvals, with nobody waiting. `arrived` counts the held requests that reached
    the reranker, `different` their bodies; `left_behind` those the store still took for waiting after all had left.
    """

    machine: Mapping[str, str | int | float]
    pace: Pace
    phases: Mapping[str, Phase]
    enabled_cpu_ratio: float
    enabled_p50_ratio: float
    more_ms: float
    more_most_ms: float
    ordinary_ms: float
    more_statuses: Mapping[str, int]
    memory_mib: Mapping[str, tuple[float, float, float]]
    """Before the first callers came, while they waited, and the most while any waited in later rounds."""
    quiet_us: float
    answers: Mapping[str, Mapping[str, int]]
    vote_ms: Mapping[str, tuple[float, float]]
    expected: int
    arrived: int
    different: int
    left_behind: int


async def waiting(pace: Pace, tell: Callable[[str], None]) -> Waiting:
    """Measure at `pace`."""
    told = machine()
    async with ground() as shared:
        tell("starting two gates with approvals and one without")
        without = await shared.gate("without", policy=POLICY)
        async with scene_at(shared, "one", pace.callers) as one, scene_at(shared, "two", pace.callers) as two:
            seen, expected = Seen(), 0
            for number in range(pace.rounds):
                tell(f"round {number + 1} of {pace.rounds}: {RELEASES[number % 3]}")
                holds, idle = (one, two) if number % 2 == 0 else (two, one)
                expected += await _round(holds, {"idle": idle.gate, "without": without}, pace, number, seen)
            for scene in (one, two):
                await until(scene.empty)
                seen.left_behind += await scene.waiters()
            counted = await one.arrived()
            seen.arrived, seen.different = counted["all"], counted["different"]
    return _summary(told, pace, seen, expected)


async def _round(scene: Scene, beside: Mapping[str, Contender], pace: Pace, number: int, seen: Seen) -> int:
    """Measure one round; return how many held requests were agreed to."""
    job = Job(
        port=0, token=scene.shared.token("search-svc"), documents=DOCUMENTS, model="rerank", pool=POOL,
        connections=pace.connections, warm_s=pace.warm_s, measure_s=pace.measure_s, rate=pace.rate,
    )  # fmt: skip

    async def load(phase: str, at: Contender, seconds: float, meanwhile: Awaitable[None] | None = None) -> None:
        begun = asyncio.Event()
        planned = replace(job, port=at.port, measure_s=seconds)
        measuring = asyncio.create_task(measure(at, planned, begun.set))
        if meanwhile is not None:
            await begun.wait()
            await meanwhile
        seen.phases.setdefault(phase, {}).setdefault(number, []).append(await measuring)

    # Every round has a subject of its own, so that the cap on what is pending of one is none here.
    token = scene.shared.token(f"held-{number}")
    numbers = range(FIRST + number * 1000, FIRST + number * 1000 + pace.callers)
    # What it takes to serve ordinary calls at all is no part of what callers take.
    await load("before", scene.gate, pace.measure_s)
    held = Held(scene.gate.port, token)
    before = _memory(scene.gate)
    await load("arriving", scene.gate, pace.callers / pace.arrivals_s + 1, held.send(numbers, pace.arrivals_s))

    async def all_there() -> bool:
        return await scene.waiters() + len(held.answered) >= pace.callers

    await until(all_there)
    await asyncio.sleep(pace.quiet_s / 2)
    seen.memory.append((before, _memory(scene.gate)))
    worked, began = cpu_us(scene.gate.pids["ext_authz-0"]), time.perf_counter()
    await asyncio.sleep(pace.quiet_s)
    seen.quiet_us.append(
        (cpu_us(scene.gate.pids["ext_authz-0"]) - worked) / (time.perf_counter() - began) / pace.callers
    )
    turns = [*beside.items(), ("held", scene.gate)]
    for place in range(pace.slices):
        for name, gate in (*turns[place % 3 :], *turns[: place % 3]):
            await load(name, gate, pace.measure_s)
    await _one_more(scene, job.token, token, [numbers[-1] + 1 + place for place in range(pace.more)], seen)
    release = RELEASES[number % 3]
    stored = await scene.pending(pace.callers + pace.more)
    votes: dict[int, float] = {}
    await load(release, scene.gate, pace.release_s, _let_go(scene, held, release, pace, stored, numbers, votes))
    if release == LEAVE:
        return 0
    statuses = seen.answers.setdefault(release, [])
    for one in numbers:
        status, when = held.answered.get(one, (0, 0.0))
        statuses.append(status)
        if one in votes and status:
            seen.vote_ms.setdefault(release, []).append((when - votes[one]) * 1000)
    held.close()
    return pace.callers


async def _one_more(scene: Scene, ordinary: str, token: str, numbers: Sequence[int], seen: Seen) -> None:
    """Time calls that need a person and find no seat, each beside an ordinary one."""
    plain = requests(bodies(DOCUMENTS, POOL), ordinary)
    for place, number in enumerate(numbers):
        for times, request in (
            (seen.ordinary_ms, plain[place % POOL]),
            (seen.more_ms, requests([held_body(number)], token)[0]),
        ):
            began = time.perf_counter()
            answer = await ask(scene.gate.port, request)
            times.append((time.perf_counter() - began) * 1000)
        seen.more_statuses.append(int(answer[9:12]))


async def _let_go(
    scene: Scene, held: Held, release: str, pace: Pace, stored: Mapping[int, Stored], numbers: Sequence[int],
    votes: dict[int, float],
) -> None:  # fmt: skip
    if release == LEAVE:
        held.close()
        await until(scene.empty)
        return
    began = time.perf_counter()
    for place, number in enumerate(numbers):
        if release == ONE_BY_ONE:
            await asyncio.sleep(began + place / pace.votes_s - time.perf_counter())
        if number in stored:
            votes[number] = await scene.agree(stored[number])
    await until(held.all_answered)


def _memory(gate: Contender) -> dict[str, float]:
    return {name: resident_mib(pid) for name, pid in gate.pids.items()}


def _summary(told: Mapping[str, str | int | float], pace: Pace, seen: Seen, expected: int) -> Waiting:
    # Freed memory is used again and not given back, so that only the first round shows what callers take.
    before, after = seen.memory[0]
    return Waiting(
        machine=told,
        pace=pace,
        phases={name: _phase(rounds, seen.phases["idle"]) for name, rounds in seen.phases.items()},
        enabled_cpu_ratio=_enabled(seen, lambda slices: statistics.median(one.total_us for one in slices)),
        enabled_p50_ratio=_enabled(seen, lambda slices: _percentile(_times(slices), 50)),
        more_ms=statistics.median(seen.more_ms),
        more_most_ms=max(seen.more_ms),
        ordinary_ms=statistics.median(seen.ordinary_ms),
        more_statuses=_counted(seen.more_statuses),
        memory_mib={name: (before[name], after[name], max(later[name] for _, later in seen.memory)) for name in before},
        quiet_us=statistics.median(seen.quiet_us),
        answers={release: _counted(statuses) for release, statuses in seen.answers.items()},
        vote_ms={release: (_percentile(times, 50), _percentile(times, 99)) for release, times in seen.vote_ms.items()},
        expected=expected,
        arrived=seen.arrived,
        different=seen.different,
        left_behind=seen.left_behind,
    )


def _phase(by_number: Mapping[int, Sequence[Round]], idle: Mapping[int, Sequence[Round]]) -> Phase:
    slices = [one for found in by_number.values() for one in found]
    times = _times(slices)
    return Phase(
        calls=sum(sum(one.result.statuses.values()) for one in slices),
        failed=sum(count for one in slices for status, count in one.result.statuses.items() if status != "200"),
        p50_us=_percentile(times, 50),
        p99_us=_percentile(times, 99),
        p99_ratio=statistics.median(
            _percentile(_times(found), 99) / _percentile(_times(idle[number]), 99)
            for number, found in by_number.items()
        ),
        cpu_us={name: statistics.median(one.cpu_us[name] for one in slices) for name in slices[0].cpu_us},
    )


def _enabled(seen: Seen, value: Callable[[Sequence[Round]], float]) -> float:
    without = seen.phases["without"]
    return statistics.median(value(idle) / value(without[number]) for number, idle in seen.phases["idle"].items())


def _times(slices: Sequence[Round]) -> list[int]:
    return [taken for one in slices for taken in one.result.times_us]


def _percentile(times: Sequence[float], percent: int) -> float:
    return sorted(times)[min(len(times) - 1, len(times) * percent // 100)]


def _counted(statuses: Sequence[int]) -> dict[str, int]:
    return {str(status): statuses.count(status) for status in sorted(set(statuses))}


def faults(found: Waiting) -> list[str]:
    """Return what should not have been, in words. How long things took is for the reader to judge."""
    wrong = [f"{one.failed} ordinary calls failed, {name}" for name, one in found.phases.items() if one.failed]
    if set(found.more_statuses) != {"429"}:
        wrong.append(f"callers without a seat were answered {', '.join(found.more_statuses)}")
    for release, statuses in found.answers.items():
        if set(statuses) != {"200"}:
            others = (f"{count} x {status}" for status, count in statuses.items() if status != "200")
            wrong.append(f"callers that people agreed to ({release}) were answered {', '.join(others)}")
    if not found.arrived == found.different == found.expected:
        wrong.append(f"{found.arrived} held requests arrived, {found.different} different ones, of {found.expected}")
    if found.left_behind:
        wrong.append(f"{found.left_behind} callers that left were still taken for waiting")
    return wrong


TITLES = {
    "without": "no approvals configured",
    "idle": "nobody waits",
    "held": "{callers} wait",
    "arriving": "{callers} come, {arrivals:g} a second",
    LEAVE: "{callers} leave at once",
    ONE_BY_ONE: "people agree to {votes:g} a second",
    AT_ONCE: "people agree to all at once",
}


def to_markdown(found: Waiting) -> str:
    """Return the tables and the sentences."""
    pace = found.pace
    lines = [f"Machine: {', '.join(f'{key} {value}' for key, value in found.machine.items())}.", ""]
    lines += [f"Ordinary calls, {DOCUMENTS} documents, {pace.rate:g} a second, {pace.rounds} rounds:", ""]
    lines += ["| meanwhile | calls | failed | p50 ms | p99 ms | p99 x idle | CPU us by process |", "|---" * 7 + "|"]
    for name, title in TITLES.items():
        one = found.phases[name]
        shown = (
            title.format(callers=pace.callers, arrivals=pace.arrivals_s, votes=pace.votes_s),
            f"{one.calls:,}", str(one.failed), f"{one.p50_us / 1000:.2f}", f"{one.p99_us / 1000:.2f}",
            f"{one.p99_ratio:.2f}",
            ", ".join(f"{who.removesuffix('-0')} {cpu:,.0f}" for who, cpu in sorted(one.cpu_us.items())),
        )  # fmt: skip
        lines.append(f"| {' | '.join(shown)} |")
    lines += [
        "",
        f"| memory | before MiB | while {pace.callers} wait MiB | most of all rounds MiB | a caller KiB |",
        "|---" * 5 + "|",
    ]
    for name, (before, after, most) in sorted(found.memory_mib.items()):
        kib = (after - before) * 1024 / pace.callers
        lines.append(f"| {name.removesuffix('-0')} | {before:,.0f} | {after:,.0f} | {most:,.0f} | {kib:,.0f} |")
    lines += ["", "| people agree | callers | answered 200 | vote to answer p50 ms | p99 ms |", "|---" * 5 + "|"]
    for release, answered in found.answers.items():
        p50, p99 = found.vote_ms[release]
        lines.append(f"| {release} | {sum(answered.values())} | {answered.get('200', 0)} | {p50:.0f} | {p99:.0f} |")
    ratio, statuses = found.phases["held"].p99_ratio, ", ".join(found.more_statuses)
    verdict = "kept" if ratio <= MOST else "over"
    lines += [
        "",
        f"- p99 while {pace.callers} wait, over an idle gate's: {ratio:.2f}; at most {MOST:g} is wanted: {verdict}.",
        f"- One caller more than there are seats: {statuses} after {found.more_ms:.1f} ms,",
        f"  {found.more_most_ms:.1f} at most; an ordinary call at the same moment: {found.ordinary_ms:.1f} ms.",
        f"- Requests that people agreed to: {found.expected}. At the reranker: {found.arrived},",
        f"  {found.different} of them different.",
        f"- A caller that waits takes {found.quiet_us:.0f} microseconds of ext_authz's CPU time a second.",
        f"- Approvals that are configured and not asked for: {found.enabled_cpu_ratio:.2f} times the CPU time a call",
        f"  and {found.enabled_p50_ratio:.2f} times the p50 of a gate that has none.",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure; return 1 where anything went wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.waiting", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench", help="folder of waiting.json")
    parser.add_argument("--quick", action="store_true", help="few callers, short: shows that it runs, measures nothing")
    parser.add_argument("--publish", action="store_true", help="write the figures into docs/performance.md as well")
    chosen = parser.parse_args()
    found = asyncio.run(waiting(QUICK if chosen.quick else Pace(), lambda text: print(f"... {text}", file=sys.stderr)))
    text = to_markdown(found)
    print(text)
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "waiting.json").write_text(json.dumps(asdict(found), indent=1) + "\n", encoding="utf-8")
    if chosen.publish:
        publish(text, ROOT / "docs" / "performance.md", "waiting")
    wrong = faults(found)
    for fault in wrong:
        print(f"NOT AS IT SHOULD BE: {fault}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
