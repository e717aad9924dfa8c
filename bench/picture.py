"""The result as one SVG: CPU time per call by process, and how it grows with the documents."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from bench.plan import Outcome
from bench.report import TITLES

__all__ = ["draw"]

WIDTH, HEIGHT = 900, 420
COLOURS = {"envoy": "#64748b", "ext_authz-0": "#2563eb", "ext_proc-0": "#0d9488", "valkey": "#d97706", "opa": "#9333ea"}
LINES = {"plain": "#94a3b8", "floor": "#64748b", "constant": "#0d9488", "embedded": "#2563eb", "opa": "#9333ea"}
BARS_LEFT, BARS_WIDTH, BARS_TOP, BAR = 240, 200, 70, 26
GRAPH_LEFT, GRAPH_TOP, GRAPH_WIDTH, GRAPH_HEIGHT = 570, 70, 300, 270


def draw(outcomes: Mapping[str, Outcome]) -> str:
    """Return the picture of a run that measured 20 documents and, where it did, other numbers of them."""
    whole = [one for name, one in outcomes.items() if name != "authorization alone"]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">',
        '<g font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        *_bars(next(one for one in whole if one.workload.documents == 20)),
        *_graph(sorted(whole, key=lambda one: one.workload.documents)),
        "</g></svg>",
    ]
    return "\n".join(parts) + "\n"


def _bars(outcome: Outcome) -> list[str]:
    """Return stacked bars: CPU time per call by process, at one workload."""
    most = max(one.total_cpu_us for one in outcome.contenders.values())
    parts = [_text(20, 40, "CPU time per call, 20 documents, 4 KB (microseconds)", bold=True)]
    for row, (name, one) in enumerate(outcome.contenders.items()):
        y = BARS_TOP + row * (BAR + 18)
        parts.append(_text(BARS_LEFT - 10, y + BAR * 0.65, TITLES.get(name, name), anchor="end"))
        x = float(BARS_LEFT)
        for process in COLOURS:
            width = one.cpu_us.get(process, 0.0) / most * BARS_WIDTH
            parts.append(_box(x, y, width, BAR, COLOURS[process]))
            x += width
        parts.append(_text(x + 6, y + BAR * 0.65, f"{one.total_cpu_us:,.0f}"))
    x, y = 60.0, BARS_TOP + len(outcome.contenders) * (BAR + 18) + 14
    for process, colour in COLOURS.items():
        label = process.removesuffix("-0")
        parts += [_box(x, y, 10, 10, colour), _text(x + 14, y + 9, label)]
        x += 26 + 7 * len(label)
    return parts


def _graph(outcomes: Sequence[Outcome]) -> list[str]:
    """Return one line a contender: CPU milliseconds per call over the number of documents, both logarithmic."""
    totals = [one.total_cpu_us / 1000 for outcome in outcomes for one in outcome.contenders.values()]
    low, high = math.floor(math.log10(min(totals))), math.ceil(math.log10(max(totals)))
    most = max(math.log10(outcome.workload.documents) for outcome in outcomes) or 1.0

    def place(documents: int, milliseconds: float) -> tuple[float, float]:
        share = (math.log10(milliseconds) - low) / (high - low)
        return GRAPH_LEFT + math.log10(documents) / most * GRAPH_WIDTH, GRAPH_TOP + (1 - share) * GRAPH_HEIGHT

    parts = [_text(GRAPH_LEFT - 40, 40, "CPU milliseconds per call over documents", bold=True)]
    for power in range(low, high + 1):
        _, y = place(1, 10.0**power)
        parts.append(f'<path d="M{GRAPH_LEFT} {y:.1f}h{GRAPH_WIDTH}" stroke="#e2e8f0"/>')
        parts.append(_text(GRAPH_LEFT - 6, y + 4, f"{10.0**power:g}", anchor="end"))
    for outcome in outcomes:
        x, _ = place(outcome.workload.documents, 10.0**low)
        parts.append(_text(x, GRAPH_TOP + GRAPH_HEIGHT + 18, f"{outcome.workload.documents}", anchor="middle"))
    for row, name in enumerate(LINES):
        points = [
            place(outcome.workload.documents, outcome.contenders[name].total_cpu_us / 1000)
            for outcome in outcomes
            if name in outcome.contenders
        ]
        if not points:
            continue
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        parts.append(f'<path d="{path}" fill="none" stroke="{LINES[name]}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{LINES[name]}"/>' for x, y in points]
        x, y = GRAPH_LEFT + (row % 3) * 105, GRAPH_TOP + GRAPH_HEIGHT + 36 + (row // 3) * 18
        parts += [_box(x, y, 10, 10, LINES[name]), _text(x + 14, y + 9, name)]
    return parts


def _box(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height}" fill="{colour}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight} fill="#0f172a">{escape(text)}</text>'
