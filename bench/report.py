"""What a run found, as JSON and as Markdown tables; and how both get into docs/performance.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.detection import Detection
from bench.plan import BUDGETS, Effort, Outcome
from bench.rounds import Cost, Summary
from bench.waiting import Waiting

__all__ = ["Report"]

SCHEMA = 3
# A budget's figure is one of a noisy machine: shown with its spread, judged by the reader.
KEPT, OVER = "kept", "over"
# What the docs call each contender.
TITLES = {
    "plain": "plain Envoy",
    "floor": "Envoy, empty filters (the floor)",
    "constant": "rankgate, constant policy",
    "embedded": "rankgate, shipped policy embedded",
    "opa": "rankgate, shipped policy in OPA",
    "floor-authz": "Envoy, empty ext_authz (the floor)",
    "gate-authz": "rankgate's ext_authz",
    "opa-envoy-plugin": "opa-envoy-plugin",
}


@dataclass(frozen=True, slots=True)
class Report:
    """Everything one run found. `missing` says why a contender did not take part, by name.

    `waiting` is what callers that wait cost; None where that was not measured.
    """

    effort: Effort
    outcomes: Mapping[str, Outcome]
    detection: Sequence[Detection]
    missing: Mapping[str, str]
    machine: Mapping[str, str | int | float]
    waiting: Waiting | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {
            "schema": SCHEMA,
            "machine": dict(self.machine),
            "effort": asdict(self.effort),
            "workloads": {
                name: {
                    "documents": outcome.workload.documents,
                    "body_bytes": outcome.body_bytes,
                    "open_loop_rate": outcome.workload.rate,
                    "contenders": {who: asdict(summary) for who, summary in outcome.contenders.items()},
                }
                for name, outcome in self.outcomes.items()
            },
            "budgets": self.budgets(),
            "detection": [asdict(one) for one in self.detection],
            "missing": dict(self.missing),
            "waiting": None if self.waiting is None else asdict(self.waiting),
        }

    def budgets(self) -> list[dict[str, Any]]:
        """Return each budget with what was measured."""
        found = []
        for budget in BUDGETS:
            outcome = self.outcomes.get(budget.workload)
            if outcome is not None and budget.contender in outcome.contenders:
                summary = outcome.contenders[budget.contender]
                own = summary.steady.own if summary.steady else summary.own
                found.append({**asdict(budget), "own": own, "own_at_most": summary.own, "kept": own <= budget.most})
        return found

    def to_markdown(self) -> str:
        """Return every table."""
        told = ", ".join(f"{key} {value}" for key, value in self.machine.items())
        parts = [f"Machine: {told}.", ""]
        for outcome in self.outcomes.values():
            parts += _outcome(outcome)
        parts += [
            "Our own work as a share of the floor (CPU per call of every process but OPA, above the floor's):",
            "",
        ]
        parts += _table(
            ("workload", "contender", "budget", "at the same calls/s", "", "each at its most calls/s"),
            (
                (one["workload"], TITLES[one["contender"]], f"{one['most']:.1f}", f"{one['own']:.2f}",
                 KEPT if one["kept"] else OVER, f"{one['own_at_most']:.2f}")
                for one in self.budgets()
            ),
        )  # fmt: skip
        if self.detection:
            parts += ["Detection alone, CPU time for all texts of a body:", ""]
            parts += _table(
                ("detector", "documents", "body", "microseconds", "findings"),
                (
                    (one.what, str(one.documents), f"{one.body_bytes:,}", f"{one.cpu_us:,.0f}", f"{one.findings:g}")
                    for one in self.detection
                ),
            )
        for name, why in self.missing.items():
            parts.append(f"Not measured: {name} ({why}).")
        return "\n".join(parts).strip() + "\n"


def _outcome(outcome: Outcome) -> list[str]:
    how = "closed loop" if outcome.workload.rate is None else f"p50 and p99 at {outcome.workload.rate:g} calls a second"
    head = f"{outcome.workload.name.capitalize()} ({outcome.body_bytes:,} bytes; {how}):"
    columns = (
        "contender",
        "calls/s",
        "p50 ms",
        "p99 ms",
        "CPU us",
        "x floor",
        "x plain",
        "spread",
        "MiB",
        "CPU us by process",
    )
    rows = [_row(name, summary) for name, summary in outcome.contenders.items()]
    failed = {TITLES[name]: one.failed for name, one in outcome.contenders.items() if one.failed}
    note = [f"Not answered 200: {', '.join(f'{who} {count}' for who, count in failed.items())}.", ""] if failed else []
    steady = [_steady_row(name, one.steady) for name, one in outcome.contenders.items() if one.steady]
    at_rate = f"The same calls for all, {outcome.workload.rate or 0:g} a second:"
    also = [at_rate, "", *_table(("contender", "CPU us", "x floor", "spread", "CPU us by process"), steady)]
    return [head, "", *_table(columns, rows), *(also if steady else []), *note]


def _steady_row(name: str, cost: Cost) -> tuple[str, ...]:
    return (
        TITLES.get(name, name),
        f"{cost.total_cpu_us:,.0f}",
        f"{cost.to_floor:.2f}",
        f"{cost.spread:.0%}",
        _by_process(cost.cpu_us),
    )


def _by_process(cpu_us: Mapping[str, float]) -> str:
    return ", ".join(f"{who.removesuffix('-0')} {cpu:,.0f}" for who, cpu in sorted(cpu_us.items()))


def _row(name: str, one: Summary) -> tuple[str, ...]:
    return (
        TITLES.get(name, name),
        f"{one.rate:,.0f}",
        f"{one.p50_us / 1000:.2f}",
        f"{one.p99_us / 1000:.2f}",
        f"{one.total_cpu_us:,.0f}",
        f"{one.to_floor:.2f}",
        f"{one.to_plain:.1f}",
        f"{one.spread:.0%}",
        f"{one.total_mib:,.0f}",
        _by_process(one.cpu_us),
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(columns)} |", f"|{'|'.join(['---'] * len(columns))}|"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]
