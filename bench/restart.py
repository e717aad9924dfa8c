"""Restart each part under load, and count: what callers saw, what reached the reranker unmasked, what the trail lost.

`python -m bench.restart` ends with 1 where anything reached the reranker unmasked, an event is lost or doubled, a
caller got an answer that the design has no place for, or the rate was not reached.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import redis

from bench.bodies import requests
from bench.contenders import tool
from bench.ground import Ground, exists, ground
from bench.page import machine, publish
from bench.steady import Call, Steady
from bench.trail import Kept, kept
from bench.upstream import Responder
from rankgate.clients.embedded import Stack, admin
from rankgate.clients.processes import Child
from rankgate.clients.serving import drain_s
from rankgate.resources import policies

__all__ = ["Window", "main"]

CONNECTIONS = 64
# What a call holds, and the reranker must never see.
MAIL, CARD = "maren.oldfield", "4111 1111 1111 1111"
# What the design has a place for while a part is away, beside 200: a gate that cannot decide says 503, and of a filter
# there is another process.
# 0: the connection ended without an answer, as those do whose Envoy ends.
EXPECTED: Mapping[str, frozenset[int]] = {
    "opa": frozenset({503}),
    "envoy": frozenset({0, 503}),
}
SLOTS = 2
READY_S, SHIPPED_S = 30.0, 30.0
REACHED = 0.95
# The breaker asks OPA again after a second at most, and Envoy a process that is back after a quarter of one.
AFTER_S = 2.0
DRAIN_S = 0.5


@dataclass(frozen=True, slots=True)
class Window:
    """When a part was restarted, from its end asked for to its serving again, in time.monotonic() seconds."""

    part: str
    begun: float
    ended: float

    def holds(self, call: Call) -> bool:
        """Tell whether `call` was under way in it, or in the two seconds after it."""
        return call.due < self.ended + AFTER_S and call.due + call.took_s >= self.begun


@dataclass(slots=True)
class Reranker:
    """Answers at once, and looks for what must not be there in every byte it gets."""

    requests: int = 0
    unmasked: int = 0
    port: int = 0

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve on a free port."""
        server = await asyncio.get_running_loop().create_server(lambda: _Watched(self), "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()


class _Watched(Responder):
    def __init__(self, reranker: Reranker) -> None:
        super().__init__()
        self._reranker = reranker

    def asked(self, request: bytes) -> None:
        self._reranker.requests += 1
        self._reranker.unmasked += MAIL.encode() in request or CARD.encode() in request


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of it all; `faults` says in words what should not have been."""

    windows: Sequence[Window]
    calls: Sequence[Call]
    reranker: Reranker
    trail: Kept
    rate: float
    faults: list[str] = field(default_factory=list)


async def restart_all(seconds: float, rate: float) -> Verdict:
    """Restart every part once within `seconds` of load at `rate` calls a second."""
    reranker = Reranker()
    async with reranker.serving(), ground() as shared:
        folder = shared.folder / "gate"
        folder.mkdir()
        opa = await _Opa.started(shared)
        overrides = {
            "listen": {"port": _free_port()},
            "upstream": {"url": f"http://127.0.0.1:{reranker.port}"},
            "policy": {"engine": "opa", "url": f"unix://{opa.socket}"},
            "audit": {"redis_url": f"unix://{folder}/valkey.sock"},
        }
        stack = Stack(shared.write_settings(folder, overrides), folder / "run", authz_slots=SLOTS, proc_slots=SLOTS)
        async with stack:
            load = Steady(stack.port, rate, CONNECTIONS, _request(shared.token("search-svc")))
            windows: list[Window] = []
            sending = asyncio.create_task(load.run(seconds))
            await _restarts(stack, opa, seconds, windows)
            await sending
            trail = await _shipped(folder / "valkey.sock", load.calls)
    return Verdict(windows, load.calls, reranker, trail, len(load.calls) / seconds)


async def _restarts(stack: Stack, opa: _Opa, seconds: float, windows: list[Window]) -> None:
    parts = [f"ext_authz-{slot}" for slot in range(SLOTS)] + [f"ext_proc-{slot}" for slot in range(SLOTS)]
    parts += ["valkey", "opa", "envoy"]
    started, share = time.monotonic(), seconds / (len(parts) + 1)
    for number, part in enumerate(parts, start=1):
        await asyncio.sleep(max(0.0, started + (number - 0.5) * share - time.monotonic()))
        begun = time.monotonic()
        if part == "opa":
            await opa.restart()
        else:
            if part == "envoy":
                await _drain(stack)
            await stack.restart(part, grace_s=drain_s(stack.settings))
        windows.append(Window(part, begun, time.monotonic()))
        print(f"... {part} was restarted in {windows[-1].ended - begun:.1f} s", file=sys.stderr)


async def _drain(stack: Stack) -> None:
    """Let Envoy take no new connections, and finish calls for a moment; kept ones go on until it ends."""
    await admin(stack.admin_socket, "/drain_listeners", method="POST")
    await asyncio.sleep(DRAIN_S)


async def _shipped(path: Path, calls: Sequence[Call]) -> Kept:
    """Return the trail once it holds what every receipt promises, or after SHIPPED_S seconds as it is."""
    receipts = {call.receipt for call in calls if call.receipt}
    deadline = time.monotonic() + SHIPPED_S
    with contextlib.closing(redis.Redis(unix_socket_path=str(path))) as client:
        while True:
            trail = await asyncio.to_thread(kept, client, "default")
            missing = receipts - trail.decisions.keys() or trail.allowed - trail.completions.keys()
            if not missing or time.monotonic() > deadline:
                return trail
            await asyncio.sleep(0.2)


def judge(verdict: Verdict, rate: float) -> list[str]:
    """Return what should not have been, in words."""
    trail, faults = verdict.trail, []
    answered = {call.receipt for call in verdict.calls if call.status == 200}
    lost = len({call.receipt for call in verdict.calls if call.receipt} - trail.decisions.keys())
    unconfirmed = len(answered - trail.completions.keys())
    doubled = sum(count - 1 for kind in (trail.decisions, trail.completions) for count in kind.values())
    if verdict.reranker.unmasked:
        faults.append(f"{verdict.reranker.unmasked} requests reached the reranker unmasked")
    if lost or unconfirmed or trail.gaps:
        faults.append(f"{lost} decisions and {unconfirmed} completions lost, {trail.gaps} gaps in the streams")
    if doubled:
        faults.append(f"{doubled} events doubled")
    if verdict.reranker.requests > len(trail.allowed):
        faults.append(f"{verdict.reranker.requests} requests at the reranker, {len(trail.allowed)} recorded as allowed")
    for part, statuses in by_part(verdict.windows, verdict.calls).items():
        wrong = {
            status for status in statuses if status not in EXPECTED.get(part.partition("-")[0], frozenset()) | {200}
        }
        if wrong:
            faults.append(f"{part}: {', '.join(f'{statuses[status]} x {status}' for status in sorted(wrong))}")
    if verdict.rate < rate * REACHED:
        faults.append(f"{verdict.rate:.0f} calls a second instead of {rate:.0f}")
    return faults


def by_part(windows: Sequence[Window], calls: Sequence[Call]) -> dict[str, Counter[int]]:
    """Return the statuses by the part that was being restarted; "none" for calls outside of every restart."""
    found: dict[str, Counter[int]] = {part: Counter() for part in ("none", *(window.part for window in windows))}
    for call in calls:
        parts = [window.part for window in windows if window.holds(call)] or ["none"]
        for part in parts:
            found[part][call.status] += 1
    return found


def to_markdown(verdict: Verdict) -> str:
    """Return the table and the counts."""
    away = {window.part: f"{window.ended - window.begun:.1f}" for window in verdict.windows}
    lines = ["| restarted | away s | calls | answered 200 | other answers |", "|---|---|---|---|---|"]
    for part, statuses in by_part(verdict.windows, verdict.calls).items():
        others = [f"{count} x {status or 'no answer'}" for status, count in sorted(statuses.items()) if status != 200]
        shown = (part, away.get(part, ""), str(statuses.total()), str(statuses[200]), ", ".join(others) or "-")
        lines.append(f"| {' | '.join(shown)} |")
    trail, reranker = verdict.trail, verdict.reranker
    lines += [
        "",
        f"{len(verdict.calls)} calls, {verdict.rate:.0f} a second, on {machine()['cores']} cores.",
        f"{reranker.requests} reached the reranker, {reranker.unmasked} of them unmasked.",
        f"{trail.decisions.total()} decisions and {trail.completions.total()} completions recorded, {trail.gaps} gaps.",
    ]
    return "\n".join(lines) + "\n"


class _Opa:
    """An OPA that can be restarted at its socket."""

    def __init__(self, shared: Ground) -> None:
        self._shared = shared
        self.socket = shared.folder / "opa.sock"
        self._child: Child | None = None

    @classmethod
    async def started(cls, shared: Ground) -> _Opa:
        """Start one. Raises LookupError without a binary."""
        opa = cls(shared)
        await opa._start()
        return opa

    async def restart(self) -> None:
        """End it in an orderly way and start another one."""
        assert self._child is not None
        await self._child.stop(grace_s=10.0)
        self.socket.unlink(missing_ok=True)
        await self._start()

    async def _start(self) -> None:
        shipped = policies()
        self._child = await self._shared.child(
            "opa",
            [
                tool("opa"), "run", "--server", "--disable-telemetry", "--log-level", "error",
                "--addr", f"unix://{self.socket}", shipped / "rerank.rego", shipped / "lib", shipped / "data.json",
            ],
        )  # fmt: skip
        await self._child.until(exists(self.socket), within_s=READY_S)


def _request(token: str) -> Callable[[int], bytes]:
    def request(number: int) -> bytes:
        body = {
            "model": "rerank-2",
            "query": f"call {number} about {MAIL}.{number % 50}@example.org",
            "documents": [f"paid with {CARD} by {MAIL}.{number % 50}@example.org", "opening hours"],
        }
        return requests([json.dumps(body).encode()], token)[0]

    return request


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def main() -> int:
    """Restart everything once under load; return 1 where anything went wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.restart", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=200.0, help="calls a second")
    parser.add_argument("--publish", action="store_true", help="write the table into docs/performance.md as well")
    chosen = parser.parse_args()
    verdict = asyncio.run(restart_all(chosen.seconds, chosen.rate))
    text = to_markdown(verdict)
    print(text)
    if chosen.publish:
        publish(text, Path(__file__).parent.parent / "docs" / "performance.md", "restart")
    faults = judge(verdict, chosen.rate)
    for fault in faults:
        print(f"NOT AS IT SHOULD BE: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
