"""What every published figure needs: the machine it was measured on, and its place in docs/performance.md."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

__all__ = ["machine", "publish"]


def machine() -> dict[str, str | int | float]:
    """Return what the figures depend on."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": model,
        "Python": platform.python_version(),
        "kernel": platform.release().partition("-")[0],
        "load before": round(os.getloadavg()[0], 1),
    }


def publish(markdown: str, page: Path, mark: str) -> None:
    """Put `markdown` between the two comments `mark` of `page`. Raises ValueError where they are not there."""
    text = page.read_text(encoding="utf-8")
    marked = re.compile(rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)", re.DOTALL)
    if not marked.search(text):
        raise ValueError(f"{page} has no <!-- {mark} --> marks")
    page.write_text(marked.sub(lambda found: f"{found[1]}\n{markdown}\n{found[2]}", text), encoding="utf-8")
