"""What one run measures: groups of contenders that run side by side, and the workloads sent to them in turn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from bench import contenders
from bench.bodies import bodies
from bench.ground import Contender, Ground, ground
from bench.load import Job
from bench.rounds import Summary, measure_all

__all__ = ["BUDGETS", "GROUPS", "Budget", "Effort", "Group", "Outcome", "Workload", "run"]

# Different bodies a workload repeats: their texts are seen before once each was sent once.
POOL = 16
Start = Callable[[Ground], Awaitable[Contender]]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: rounds, seconds of each part of one, and connections of the client."""

    rounds: int = 5
    sweep_rounds: int = 3
    warm_s: float = 0.5
    closed_s: float = 2.0
    open_s: float = 2.0
    connections: int = 8


@dataclass(frozen=True, slots=True)
class Workload:
    """What is sent. `rate` is that of the open loop, in calls a second; without one, times are the closed loop's."""

    name: str
    documents: int
    rate: float | None


@dataclass(frozen=True, slots=True)
class Group:
    """Contenders that run side by side, and their workloads."""

    name: str
    starts: tuple[Start, ...]
    workloads: tuple[Workload, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One workload's summaries by contender."""

    workload: Workload
    body_bytes: int
    contenders: dict[str, Summary]


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that our own work may cost at a workload, as a share of the floor at the same calls a second."""

    workload: str
    contender: str
    most: float


GROUPS = (
    Group(
        "whole gate",
        (contenders.plain, contenders.floor, contenders.constant, contenders.embedded, contenders.opa),
        (
            Workload("20 documents", 20, 100),
            Workload("200 documents", 200, 40),
            Workload("1 document", 1, None),
            Workload("1000 documents", 1000, None),
        ),
    ),
    Group(
        "authorization alone",
        (contenders.plain, contenders.floor_authz, contenders.gate_authz, contenders.opa_envoy_plugin),
        (Workload("authorization alone", 20, 100),),
    ),
)
BUDGETS = (
    Budget("20 documents", "constant", 1.0),
    Budget("20 documents", "embedded", 1.2),
    Budget("20 documents", "opa", 1.3),
    Budget("200 documents", "constant", 2.0),
)


async def run(
    groups: Sequence[Group], effort: Effort, tell: Callable[[str], None]
) -> tuple[dict[str, Outcome], dict[str, str]]:
    """Measure every workload of `groups`; return the outcomes by workload, and why contenders are missing, by name."""
    outcomes: dict[str, Outcome] = {}
    missing: dict[str, str] = {}
    for group in groups:
        async with ground() as shared:
            running = []
            for start in group.starts:
                tell(f"starting {start.__name__}")
                try:
                    running.append(await start(shared))
                except LookupError as error:
                    missing[start.__name__] = str(error.args[0])
            for workload in group.workloads:
                tell(f"measuring {workload.name}")
                outcomes[workload.name] = await _measure(shared, running, workload, effort)
    return outcomes, missing


async def _measure(shared: Ground, running: Sequence[Contender], workload: Workload, effort: Effort) -> Outcome:
    # The shipped policy lets the search client send 50 documents, the batch client 1,000.
    subject, model = ("search-svc", "rerank") if workload.documents <= 50 else ("batch-svc", "batch")
    job = Job(
        port=0, token=shared.token(subject), documents=workload.documents, model=model, pool=POOL,
        connections=effort.connections, warm_s=effort.warm_s, measure_s=effort.closed_s,
    )  # fmt: skip
    latency = None if workload.rate is None else replace(job, rate=workload.rate, measure_s=effort.open_s)
    rounds = effort.sweep_rounds if latency is None else effort.rounds
    size = len(bodies(workload.documents, 1, model=model)[0])
    return Outcome(workload, size, await measure_all(running, job, rounds=rounds, latency=latency))
