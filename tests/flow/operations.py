"""What a running gate tells of itself, read the way Prometheus and a kubelet read it."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import yaml
from flow.gate import Gate

__all__ = ["Sample", "Scrape", "expressions", "free_port", "page", "probe", "scrape", "selectors"]

ROOT = Path(__file__).parents[2]

_STRING = r'"(?:[^"\\]|\\.)*"'
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\([^)]*\)")
_SELECTOR = re.compile(rf"\b((?:rankgate|envoy|process)_\w+)\s*(\{{(?:[^}}\"]|{_STRING})*\}})?")
_TYPE = re.compile(r"# TYPE (\w+) (\w+)")
_SAMPLE = re.compile(rf"(\w+)(\{{(?:[^}}\"]|{_STRING})*\}})? (\S+)")
_LABEL = re.compile(rf"(\w+)=({_STRING})")
_ENDINGS = {"histogram": ("_bucket", "_count", "_sum")}
_MATCHER = re.compile(rf"(\w+)\s*(=~|!~|!=|=)\s*({_STRING})")


class Sample(NamedTuple):
    """One line of a scrape."""

    name: str
    labels: Mapping[str, str]
    value: float


class Scrape:
    """What one or several processes answered."""

    def __init__(self, *texts: str) -> None:
        self.text = "\n".join(texts)
        self.samples: list[Sample] = []
        self.names: set[str] = set()
        for line in self.text.splitlines():
            # prometheus_client's own parser renames what Envoy counts.
            if declared := _TYPE.fullmatch(line):
                self.names |= {declared[1] + ending for ending in _ENDINGS.get(declared[2], ("",))}
            elif sample := _SAMPLE.fullmatch(line):
                labels = {name: json.loads(value) for name, value in _LABEL.findall(sample[2] or "")}
                self.samples.append(Sample(sample[1], labels, float(sample[3])))
                self.names.add(sample[1])

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum of the samples that have these labels."""
        return sum(one.value for one in self.samples if one.name == name and labels.items() <= one.labels.items())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


async def page(port: int, path: str) -> tuple[int, str]:
    """Return status and text of one page."""
    timeout = aiohttp.ClientTimeout(total=5)
    async with aiohttp.ClientSession(timeout=timeout) as http, http.get(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.status, await answer.text()


def health_port(gate: Gate, role: str, slot: int = 0) -> int:
    """Return the port that the youngest process of this slot said it serves."""
    lines = (gate.directory / "run" / f"{role}-{slot}.log").read_text().splitlines()
    said = [json.loads(line) for line in lines if '"serving"' in line]
    return int(said[-1]["health_port"])


async def probe(gate: Gate, role: str, path: str, slot: int = 0) -> tuple[int, Any]:
    """Return what a probe answers: its status and its JSON."""
    status, text = await page(health_port(gate, role, slot), path)
    return status, json.loads(text)


async def scrape(gate: Gate, *processes: tuple[str, int]) -> Scrape:
    """Return what these processes, (role, slot), answer to Prometheus."""
    return Scrape(*[(await page(health_port(gate, role, slot), "/metrics"))[1] for role, slot in processes])


def selectors(expression: str) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Yield every metric that a PromQL expression names, with its matchers as (label, operator, value)."""
    for name, matchers in _SELECTOR.findall(_GROUPING.sub("", expression)):
        yield name, [(label, operator, json.loads(value)) for label, operator, value in _MATCHER.findall(matchers)]


def expressions() -> Iterator[tuple[str, str]]:
    """Yield every PromQL expression that is shipped, with where it stands."""
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules.yaml").read_text(encoding="utf-8"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    board = json.loads((ROOT / "deploy/grafana/rankgate.json").read_text(encoding="utf-8"))
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
