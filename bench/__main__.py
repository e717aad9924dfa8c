"""Measure, print the tables, write JSON and a picture: `python -m bench`."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

from bench import picture
from bench.detection import detection, presidio_python
from bench.page import machine, publish
from bench.plan import GROUPS, Effort, run
from bench.report import Report
from bench.waiting import NAME, Pace, faults, waiting
from bench.waiting import QUICK as QUICK_WAITING
from bench.waiting import to_markdown as waiting_tables

__all__ = ["main"]

ROOT = Path(__file__).parent.parent
QUICK = Effort(rounds=1, sweep_rounds=1, warm_s=0.2, closed_s=0.3, open_s=0.3, connections=2)


def main() -> int:
    """Measure; return 0 where everything was answered well."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench", help="folder of bench.json and bench.svg")
    parser.add_argument("--quick", action="store_true", help="one short round: shows that it runs, measures nothing")
    parser.add_argument("--group", choices=[*(group.name for group in GROUPS), NAME], help="this group alone")
    parser.add_argument("--publish", action="store_true", help="write the figures into docs/performance.md as well")
    chosen = parser.parse_args()
    told = machine()
    effort = QUICK if chosen.quick else Effort()
    groups = [group for group in GROUPS if chosen.group in {None, group.name}]
    outcomes, missing = asyncio.run(run(groups, effort, tell))
    held = None
    if chosen.group in {None, NAME}:
        held = asyncio.run(waiting(QUICK_WAITING if chosen.quick else Pace(), tell))
    if presidio_python() is None:
        missing["Presidio"] = "not installed in .cache/presidio"
    report = Report(effort, outcomes, detection(0.05 if chosen.quick else 1.0), missing, told, held)
    text = report.to_markdown()
    print(text)
    if held is not None:
        print(waiting_tables(held))
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "bench.json").write_text(json.dumps(report.to_json(), indent=1) + "\n", encoding="utf-8")
    if "20 documents" in outcomes:
        (chosen.out / "bench.svg").write_text(picture.draw(outcomes), encoding="utf-8")
    print(f"Written: {chosen.out}/bench.json")
    if chosen.publish:
        publish(text, ROOT / "docs" / "performance.md", "bench")
        (ROOT / "docs" / "img" / "bench.svg").write_text(picture.draw(outcomes), encoding="utf-8")
        if held is not None:
            publish(waiting_tables(held), ROOT / "docs" / "performance.md", "waiting")
    wrong = faults(held) if held is not None else []
    for fault in wrong:
        print(f"NOT AS IT SHOULD BE: {fault}")
    failed = any(one.failed for outcome in outcomes.values() for one in outcome.contenders.values())
    return 1 if failed or wrong else 0


def tell(text: str) -> None:
    """Say what is being done."""
    print(f"... {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
