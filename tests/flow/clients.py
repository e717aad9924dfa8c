"""Real clients in environments of their own, sent through a gate: changed in nothing but their base URL.

A client is a folder of tests/clients_envs: its pinned requirements, and a script that takes calls from stdin and
prints what came of each (`common/outcome.py`). tests/run.sh makes the environments.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flow.gate import Gate

__all__ = ["DENIED", "DOCUMENTS", "DROPPED", "QUERY", "Outcome", "ask", "gate_for_clients", "node", "python"]

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / "tests/clients_envs"
INSTALLED = Path(os.environ.get("RANKGATE_CACHE", ROOT / ".cache")) / "clients"

QUERY = "refund maren.oldfield@example.org"
DROPPED = f"{QUERY} withheld"
DENIED = f"{QUERY} forbidden"
DOCUMENTS = ["refund of the store", "opening hours of the store", "refund for maren.oldfield@example.org"]

# The last document scores highest; a query with `withheld` drops the first, one with `forbidden` is denied.
POLICY = """
package rankgate

import rego.v1

default dropped := []

dropped := [0] if contains(input.rerank.query, "withheld")

decision := {
	"allowed": contains(input.rerank.query, "forbidden") == false,
	"rankgate": {"reasons": ["this query is not allowed"], "documents": {"drop": dropped}},
}
"""
# One host serves several APIs here, so those that share a path get a prefix, as part of their base URL.
ROUTES = {
    "/v2/rerank": "cohere.v2",
    "/v1/rerank": "jina",
    "/voyage/v1/rerank": "voyage",
    "/vllm/rerank": "vllm.rerank",
    "/v1/ranking": "auto",
    "/rerank": "auto",
}


def gate_for_clients() -> Gate:
    """Return a gate with a route for every client, not yet started."""
    routes = [
        {"name": f"route-{place}", "path": path, "dialect": dialect}
        for place, (path, dialect) in enumerate(ROUTES.items())
    ]
    return Gate({"routes": routes}, policy=POLICY)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a client made of one call: its results as (position, score), or its error."""

    ranked: tuple[tuple[int, float], ...] = ()
    error: str = ""
    kinds: tuple[str, ...] = ()
    status: int | None = None
    text: str = ""

    @property
    def positions(self) -> list[int]:
        """Return the positions of the documents in the client's order."""
        return [position for position, _ in self.ranked]

    @property
    def scores(self) -> list[float]:
        """Return the scores in the client's order."""
        return [score for _, score in self.ranked]


def python(name: str) -> list[str]:
    """Return the command of a Python client; skip where its environment is not made."""
    folder, wanted = ENVIRONMENTS / name, INSTALLED / name
    stamp = wanted / ".done"
    if not stamp.exists() or stamp.read_bytes() != (folder / "requirements.txt").read_bytes():
        pytest.skip(f"no environment for {name}; tests/run.sh {name} makes it")
    return [str(wanted / "bin/python"), str(folder / "call.py")]


def node(name: str) -> list[str]:
    """Return the command of a node client; skip without node or its packages."""
    command = shutil.which("node")
    if command is None or not (ENVIRONMENTS / name / "node_modules").is_dir():
        pytest.skip(f"no node, or no packages for {name}; tests/run.sh {name} installs them")
    return [command, str(ENVIRONMENTS / name / "call.mjs")]


async def ask(command: list[str], gate: Gate, *queries: str, base: str = "", **options: Any) -> list[Outcome]:
    """Make one call for each query, all in one process; return what came of each."""
    call = {"url": gate.url + base, "token": gate.token(), "documents": DOCUMENTS, **options}
    lines = "".join(json.dumps({**call, "query": query}) + "\n" for query in queries)
    # Nothing of this process's settings, and no proxy: every client must reach the gate alone.
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(gate.directory),
        "PYTHONPATH": str(ENVIRONMENTS / "common"),
        "NO_PROXY": "*",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=environment, cwd=gate.directory
    )
    try:
        async with asyncio.timeout(90):
            said, _ = await process.communicate(lines.encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    return [_outcome(json.loads(line)) for line in said.splitlines()]


def _outcome(told: dict[str, Any]) -> Outcome:
    if "ranked" in told:
        return Outcome(tuple((position, score) for position, score in told["ranked"]))
    return Outcome(error=told["error"], kinds=tuple(told["kinds"]), status=told["status"], text=told["text"])
