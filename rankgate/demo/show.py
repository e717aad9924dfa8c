"""The whole evening: set the stage, tell every step, sum up, and leave it standing where asked to."""

from __future__ import annotations

import asyncio
import json
import shlex
import time

from rankgate.clients.state import StateDirectory
from rankgate.demo.caller import Caller
from rankgate.demo.footprint import installed_mib
from rankgate.demo.people import APPROVER
from rankgate.demo.stage import Stage, stage
from rankgate.demo.story import BATCH, CARD, DOCUMENTS, FRAUD, QUERY, SEARCH, STEPS, Scene
from rankgate.demo.telling import Step, Teller
from rankgate.demo.trail import Trail

__all__ = ["show"]


async def show(state: StateDirectory, teller: Teller, *, keep: bool, started: float) -> bool:
    """Tell the story; return whether every step came out as told. With `keep`, stay until cancelled.

    `started` is the time.monotonic() at which the command began. Raises StartError.
    """
    teller.headline("rankgate: what happens to a rerank call")
    teller.note("Starting Valkey, both filters, Envoy, a console, a development issuer and a BM25 reranker ...")
    async with stage(state) as scenery:
        teller.note(f"The gate listens on {scenery.stack.url}, the reranker behind it on {scenery.reranker.url}.")
        steps = await _tell(scenery, teller)
        installed = await asyncio.to_thread(installed_mib)
        _sum_up(scenery, teller, steps, installed, time.monotonic() - started)
        if keep:
            _invite(scenery, teller)
            child = await scenery.stack.ended()
            teller.line(f"{child.name} ended; stopping the others")
            return False
    return not any(step.faults for step in steps)


async def _tell(scenery: Stage, teller: Teller) -> list[Step]:
    steps = []
    settings = scenery.stack.settings
    redis_url = str(settings.audit.redis_url)
    async with Caller(scenery.stack.url) as caller, Trail(redis_url, settings.deployment) as trail:
        scene = Scene(scenery, caller, trail)
        for play in STEPS:
            try:
                step = await play(scene)
            except Exception as error:  # noqa: BLE001 - a step that breaks off is a step not as told
                step = Step(play.__doc__ or play.__name__, (), (f"it broke off with {type(error).__name__}",))
            teller.step(step)
            steps.append(step)
    return steps


def _sum_up(scenery: Stage, teller: Teller, steps: list[Step], installed: float, seconds: float) -> None:
    sizes = scenery.memory()
    wrong = sum(bool(step.faults) for step in steps)
    teller.line("")
    teller.headline("Resident memory")
    teller.lines((f"  {size:5.0f} MiB", name) for name, size in (sizes | {"together": sum(sizes.values())}).items())
    teller.note(f"Installed, with everything it needs: {installed:.0f} MiB")
    teller.line("")
    if wrong:
        teller.bad(f"{wrong} of {len(steps)} steps did not come out as told ({seconds:.1f} s).")
    else:
        teller.good(f"All {len(steps)} steps came out as told ({seconds:.1f} s).")


def _invite(scenery: Stage, teller: Teller) -> None:
    """Print tokens and commands to copy; the tokens are good for an hour, at this gate alone."""
    tokens = {who[0]: scenery.token(who[0], tenant=who[1], groups=who[2]) for who in (SEARCH, BATCH, FRAUD)}
    cohere = json.dumps({"model": "demo", "query": QUERY, "documents": DOCUMENTS})
    risky = json.dumps({"model": "demo", "query": f"Who paid with {CARD}?", "documents": DOCUMENTS[:1]})
    tei = json.dumps({"query": QUERY, "texts": DOCUMENTS, "return_text": True})
    teller.line("")
    teller.headline("It stays up until Ctrl-C, which also removes its folder. Tokens, for an hour:")
    for name, token in tokens.items():
        teller.line(f"\nexport {name.partition('-')[0].upper()}={token}")
    teller.headline("\nTo copy:")
    calls = (
        ("SEARCH", "/v2/rerank", cohere), ("SEARCH", "/rerank", tei), ("BATCH", "/rerank", tei),
        ("FRAUD", "/v2/rerank", risky),
    )  # fmt: skip
    for token, path, body in calls:
        command = f'curl -sS {scenery.stack.url}{path} -H "authorization: Bearer ${token}"'
        teller.line(f"\n{command} -H 'content-type: application/json' -d {shlex.quote(body)}")
    teller.line(
        f"\nThe last one waits up to 25 seconds for a person. Approve it at {scenery.people.url} as {APPROVER}, or:"
    )
    teller.line(
        f"\nexport RANKGATE_CONSOLE={scenery.people.url} RANKGATE_CONSOLE_TOKEN={scenery.people.token(APPROVER)}"
    )
    teller.line("rankgate approvals list")
    teller.headline("\nThe trail:")
    teller.line(f"\nrankgate audit tail --follow --config {shlex.quote(str(scenery.stack.config))}")
