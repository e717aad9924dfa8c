"""What callers that wait for a person cost the others: many are held, and ordinary calls go on beside them.

In every round, one after another: ordinary calls with nobody waiting, then callers are held, then the same ordinary
calls; then one caller more; then all are let go: they leave at once, or people agree one by one, or to all at once.
`python -m bench.waiting` ends with 1 where an ordinary call failed, a held one was not answered or did not arrive
once, or the caller for whom there was no seat was not sent away.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field

from redis.asyncio import Redis

from bench.bodies import bodies, body, requests
from bench.ground import Contender, Ground, ground
from bench.http1 import body_start, complete
from bench.load import Connection, Job
from bench.meter import cpu_us, resident_mib
from bench.people import GROUP, People
from bench.rounds import Round, measure
from rankgate.approvals import State, Stored
from rankgate.clients.approvals import ApprovalStore
from rankgate.settings import ApprovalSettings

__all__ = ["MOST", "QUICK", "Pace", "Phase", "Waiting", "waiting"]

# The most that the p99 of ordinary calls may grow while callers wait.
MOST = 1.5
DOCUMENTS, POOL = 20, 16
POLICY = f"""package rankgate

import rego.v1

decision := {{"allowed": true, "rankgate": needs}}

default needs := {{}}

needs := {{"approval": {{"groups": ["{GROUP}"]}}}} if startswith(input.rerank.model, "held")
"""
LEAVE, ONE_BY_ONE, AT_ONCE = "leave", "one by one", "at once"
RELEASES = (LEAVE, ONE_BY_ONE, AT_ONCE)
SETTLED_S = 20.0
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
    measure_s: float = 5.0
    release_s: float = 6.0
    arrivals_s: float = 128.0
    votes_s: float = 50.0
    quiet_s: float = 2.0


QUICK = Pace(
    rounds=3, callers=6, more=1, rate=50.0, connections=2, warm_s=0.2, measure_s=0.4, release_s=0.8, quiet_s=0.2
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

    phases: dict[str, dict[int, Round]] = field(default_factory=dict)
    """By name and number of the round."""
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

    pace: Pace
    phases: Mapping[str, Phase]
    enabled_cpu_ratio: float
    enabled_p50_ratio: float
    more_ms: float
    more_most_ms: float
    ordinary_ms: float
    more_statuses: Mapping[str, int]
    memory_mib: Mapping[str, tuple[float, float]]
    waiter_kib: Mapping[str, float]
    quiet_us: float
    answers: Mapping[str, Mapping[str, int]]
    vote_ms: Mapping[str, tuple[float, float]]
    expected: int
    arrived: int
    different: int
    left_behind: int


class Held:
    """Callers on connections of their own, each with a request that nobody else makes."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._token = token
        self._connections: dict[Connection, int] = {}
        self.answered: dict[int, tuple[int, float]] = {}
        """By number: the status (0: broken off) and when it came, in time.perf_counter() seconds."""

    async def send(self, numbers: Sequence[int], rate: float) -> None:
        """Let a caller come for each of `numbers`, `rate` a second."""
        loop, began = asyncio.get_running_loop(), time.perf_counter()
        for place, number in enumerate(numbers):
            await asyncio.sleep(began + place / rate - time.perf_counter())
            _, connection = await loop.create_connection(lambda: Connection(self._answered), "127.0.0.1", self._port)
            self._connections[connection] = number
            connection.send(requests([held_body(number)], self._token)[0], time.perf_counter())

    def close(self) -> None:
        """Leave, all at once."""
        for connection in self._connections:
            connection.close()

    def _answered(self, connection: Connection, status: int, _begun: float) -> None:
        self.answered.setdefault(self._connections[connection], (status, time.perf_counter()))


class Scene:
    """The gate, what it keeps approvals in, and everybody around it."""

    def __init__(self, shared: Ground, gate: Contender, people: People, store: ApprovalStore, redis: Redis) -> None:
        self.shared, self.gate, self.people, self.store, self.redis = shared, gate, people, store, redis

    async def waiters(self) -> int:
        """Return how many callers the store takes for waiting."""
        return len([key async for key in self.redis.scan_iter("*:approvals:waiters:*", count=10_000)])

    async def pending(self, callers: int) -> dict[int, Stored]:
        """Return the newest pending approvals by the number of their caller."""
        found: dict[int, Stored] = {}
        for stored in await self.store.listing({State.PENDING}, callers):
            found[int((stored.ask.model or "").removeprefix("held").partition("-")[0])] = stored
        return found

    async def agree(self, stored: Stored) -> float:
        """Put a vote that decides into the store; return when."""
        person, statement = self.people.consent(stored)
        when = time.perf_counter()
        await self.store.settle(stored, State.APPROVED, kind="approved", person=person, statement=statement)
        return when

    async def arrived(self) -> Mapping[str, int]:
        """Return how many held requests reached the reranker, and how many different ones."""
        answer = await _ask(self.shared.upstream_port, b"GET /held HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n")
        counted: dict[str, int] = json.loads(answer[body_start(answer) :])
        return counted


async def waiting(pace: Pace, tell: Callable[[str], None]) -> Waiting:
    """Measure at `pace`."""
    async with ground() as shared:
        tell("starting a gate with approvals and one without")
        without = await shared.gate("without", policy=POLICY)
        async with _scene(shared, pace) as scene:
            seen, expected = Seen(), 0
            for number in range(pace.rounds):
                tell(f"round {number + 1} of {pace.rounds}: {RELEASES[number % 3]}")
                expected += await _round(scene, without, pace, number, seen)
            await _until(lambda: _none(scene))
            seen.left_behind = await scene.waiters()
            counted = await scene.arrived()
            seen.arrived, seen.different = counted["all"], counted["different"]
    return _summary(pace, seen, expected)


@asynccontextmanager
async def _scene(shared: Ground, pace: Pace) -> AsyncIterator[Scene]:
    people, socket = People(shared.folder), shared.folder / "approvals" / "valkey.sock"
    section = people.settings(f"unix://{socket}")
    section |= {"waiters": pace.callers, "hold_s": 200.0, "pending_per_subject": 1000, "pending_per_tenant": 10_000}
    gate = await shared.gate("approvals", {"approvals": section}, policy=POLICY)
    store = ApprovalStore.connect(ApprovalSettings.model_validate(section), "default", 3600)
    try:
        async with Redis(unix_socket_path=str(socket)) as redis:
            yield Scene(shared, gate, people, store, redis)
    finally:
        await store.close()


async def _round(scene: Scene, without: Contender, pace: Pace, number: int, seen: Seen) -> int:
    """Measure one round; return how many held requests were agreed to."""
    job = Job(
        port=0, token=scene.shared.token("search-svc"), documents=DOCUMENTS, model="rerank", pool=POOL,
        connections=pace.connections, warm_s=pace.warm_s, measure_s=pace.measure_s, rate=pace.rate,
    )  # fmt: skip

    async def load(phase: str, at: Contender, seconds: float, meanwhile: Awaitable[None] | None = None) -> None:
        begun = asyncio.Event()
        planned = Job(**{**asdict(job), "port": at.port, "measure_s": seconds})
        measuring = asyncio.create_task(measure(at, planned, begun.set))
        if meanwhile is not None:
            await begun.wait()
            await meanwhile
        seen.phases.setdefault(phase, {})[number] = await measuring

    # Every round has a subject of its own, so that the cap on what is pending of one is none here.
    token = scene.shared.token(f"held-{number}")
    numbers = range(FIRST + number * 1000, FIRST + number * 1000 + pace.callers)
    await load("without", without, pace.measure_s)
    await load("idle", scene.gate, pace.measure_s)
    held = Held(scene.gate.port, token)
    before = _memory(scene.gate)
    await load("arriving", scene.gate, pace.callers / pace.arrivals_s + 1, held.send(numbers, pace.arrivals_s))
    await _until(lambda: _all_wait(scene, held, pace.callers))
    await asyncio.sleep(pace.quiet_s / 2)
    seen.memory.append((before, _memory(scene.gate)))
    worked, began = cpu_us(scene.gate.pids["ext_authz-0"]), time.perf_counter()
    await asyncio.sleep(pace.quiet_s)
    seen.quiet_us.append(
        (cpu_us(scene.gate.pids["ext_authz-0"]) - worked) / (time.perf_counter() - began) / pace.callers
    )
    await load("held", scene.gate, pace.measure_s)
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
            answer = await _ask(scene.gate.port, request)
            times.append((time.perf_counter() - began) * 1000)
        seen.more_statuses.append(int(answer[9:12]))


async def _let_go(
    scene: Scene, held: Held, release: str, pace: Pace, stored: Mapping[int, Stored], numbers: Sequence[int],
    votes: dict[int, float],
) -> None:  # fmt: skip
    if release == LEAVE:
        held.close()
        await _until(lambda: _none(scene))
        return
    began = time.perf_counter()
    for place, number in enumerate(numbers):
        if release == ONE_BY_ONE:
            await asyncio.sleep(began + place / pace.votes_s - time.perf_counter())
        if number in stored:
            votes[number] = await scene.agree(stored[number])
    await _until(lambda: _all_answered(held, len(numbers)))


async def _all_wait(scene: Scene, held: Held, callers: int) -> bool:
    return await scene.waiters() + len(held.answered) >= callers


async def _all_answered(held: Held, callers: int) -> bool:
    return len(held.answered) >= callers


async def _none(scene: Scene) -> bool:
    return await scene.waiters() == 0


async def _until(truth: Callable[[], Awaitable[bool]]) -> None:
    """Wait until `truth()` holds, for so long as that may take; what does not come true shows in what is counted."""
    deadline = time.monotonic() + SETTLED_S
    while not await truth() and time.monotonic() < deadline:
        await asyncio.sleep(0.02)


async def _ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = b""
    while not complete(answer) and (part := await reader.read(65_536)):
        answer += part
    writer.close()
    return answer


def held_body(number: int) -> bytes:
    """Return the body of the caller `number`, which needs a person."""
    return body(DOCUMENTS, number, model=f"held{number}")


def _memory(gate: Contender) -> dict[str, float]:
    return {name: resident_mib(pid) for name, pid in gate.pids.items()}


def _summary(pace: Pace, seen: Seen, expected: int) -> Waiting:
    idle = seen.phases["idle"]
    pairs = [(one, seen.phases["without"][number]) for number, one in idle.items()]
    first, _ = seen.memory[0]
    # Freed memory is used again and not given back, so that only the first round shows what callers take.
    taken = {name: (first[name], max(after[name] for _, after in seen.memory)) for name in first}
    return Waiting(
        pace=pace,
        phases={name: _phase(rounds, idle) for name, rounds in seen.phases.items()},
        enabled_cpu_ratio=_ratio((one.total_us, other.total_us) for one, other in pairs),
        enabled_p50_ratio=_ratio((_share(one, 50), _share(other, 50)) for one, other in pairs),
        more_ms=statistics.median(seen.more_ms),
        more_most_ms=max(seen.more_ms),
        ordinary_ms=statistics.median(seen.ordinary_ms),
        more_statuses=_counted(seen.more_statuses),
        memory_mib=taken,
        waiter_kib={name: (seen.memory[0][1][name] - first[name]) * 1024 / pace.callers for name in first},
        quiet_us=statistics.median(seen.quiet_us),
        answers={release: _counted(statuses) for release, statuses in seen.answers.items()},
        vote_ms={release: (_percentile(times, 50), _percentile(times, 99)) for release, times in seen.vote_ms.items()},
        expected=expected,
        arrived=seen.arrived,
        different=seen.different,
        left_behind=seen.left_behind,
    )


def _phase(by_number: Mapping[int, Round], idle: Mapping[int, Round]) -> Phase:
    rounds = list(by_number.values())
    times = [taken for one in rounds for taken in one.result.times_us]
    return Phase(
        calls=sum(sum(one.result.statuses.values()) for one in rounds),
        failed=sum(count for one in rounds for status, count in one.result.statuses.items() if status != "200"),
        p50_us=_percentile(times, 50),
        p99_us=_percentile(times, 99),
        p99_ratio=_ratio((_share(one, 99), _share(idle[number], 99)) for number, one in by_number.items()),
        cpu_us={name: statistics.median(one.cpu_us[name] for one in rounds) for name in rounds[0].cpu_us},
    )


def _share(one: Round, percent: int) -> float:
    return _percentile(one.result.times_us, percent)


def _percentile(times: Sequence[float], percent: int) -> float:
    return sorted(times)[min(len(times) - 1, len(times) * percent // 100)]


def _ratio(pairs: Iterable[tuple[float, float]]) -> float:
    return statistics.median(one / max(other, 0.001) for one, other in pairs)


def _counted(statuses: Sequence[int]) -> dict[str, int]:
    return {str(status): statuses.count(status) for status in sorted(set(statuses))}
