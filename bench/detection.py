"""Detection alone: our detector, with and without its memory of texts, beside Presidio's pattern recognisers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.bodies import texts
from rankgate.detect import Detector
from rankgate.settings import STRUCTURED_TYPES

__all__ = ["Detection", "detection", "presidio_python"]

SIZES = (20, 200)
POOL = 8
CACHE = Path(__file__).parent.parent / ".cache"
REGIONS = ("US", "GB", "DE")
TENANT = "bench"


@dataclass(frozen=True, slots=True)
class Detection:
    """CPU microseconds a body, and findings a body."""

    what: str
    documents: int
    body_bytes: int
    cpu_us: float
    findings: float


def detection(seconds: float) -> list[Detection]:
    """Measure every detector for `seconds` at each size. Raises LookupError after ours where Presidio is missing."""
    found = []
    detector = Detector(STRUCTURED_TYPES, phone_regions=REGIONS, cache_bytes=16_777_216)
    for documents in SIZES:
        pool = [texts(documents, seed) for seed in range(POOL)]
        size = sum(len(text) for text in pool[0])
        for name, tenant in (("rankgate, new texts", ""), ("rankgate, texts seen before", TENANT)):
            cpu, findings = _timed(partial(_count, detector, tenant), pool, seconds)
            found.append(Detection(name, documents, size, cpu, findings))
        if (python := presidio_python()) is not None:
            asked = json.dumps({"bodies": pool, "seconds": seconds})
            answer = subprocess.run(
                [python, "-P", Path(__file__).parent / "presidio.py"],
                input=asked,
                capture_output=True,
                text=True,
                check=True,
            )
            told = json.loads(answer.stdout.splitlines()[-1])
            found.append(Detection("Presidio, 6 pattern recognisers", documents, size, told["us"], told["findings"]))
    return found


def presidio_python() -> Path | None:
    """Return the interpreter that has Presidio, None where it was not installed."""
    python = CACHE / "presidio" / "bin" / "python"
    return python if (CACHE / "presidio" / ".done").exists() and python.exists() else None


def _count(detector: Detector, tenant: str, text: str) -> int:
    return len(detector.detect(text, cache=tenant))


def _timed(detect: Callable[[str], int], pool: list[list[str]], seconds: float) -> tuple[float, float]:
    for body in pool:
        for text in body:
            detect(text)
    findings, done, begun = 0, 0, time.process_time()
    while time.process_time() - begun < seconds:
        findings += sum(map(detect, pool[done % POOL]))
        done += 1
    return (time.process_time() - begun) / done * 1_000_000, findings / done


if __name__ == "__main__":
    for one in detection(1.0):
        sys.stdout.write(f"{one.what:32} {one.documents:4} {one.body_bytes:6} {one.cpu_us:10.1f} {one.findings:6.1f}\n")
