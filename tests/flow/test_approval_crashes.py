"""Whatever dies between found and answered: an approval is spent at most once, and every spent one is in the trail."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from fakes.journal import bodies, log_folders
from flow.dying import STEPS
from flow.test_approvals import Scene, question, scene

from rankgate.approvals import State
from rankgate.clients.embedded import filter_command

pytestmark = [pytest.mark.flow, pytest.mark.asyncio(loop_scope="module")]

ROUNDS = [
    (step, when)
    for step in STEPS
    for when in ("before", "after")
    if (step, when) not in {("wait", "after"), ("check", "before")}
]
WAITING = {"wait", "read"}
# What comes before this place spends nothing.
SPENT = ROUNDS.index(("consume", "after"))


class Filters:
    """Starts the real filters, or one that dies at `step`."""

    step: tuple[str, str] | None = None

    def __call__(self, role: str, config: Path, slot: int):
        command = filter_command(role, config, slot)
        if role != "ext_authz" or self.step is None:
            return command
        return (sys.executable, Path(__file__).parent / "dying.py", *self.step, "--config", config, "--slot", str(slot))


@pytest.fixture(scope="module")
def filters():
    return Filters()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def at(tmp_path_factory, filters):
    async with scene(tmp_path_factory.mktemp("people"), filters=filters) as one:
        yield one


async def until(condition, within_s=15.0):
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come about"
        await asyncio.sleep(0.01)


async def restart(at: Scene, filters: Filters, step: tuple[str, str] | None) -> None:
    """Replace ext_authz by one that dies at `step`, or by a healthy one."""
    filters.step = step
    child = at.gate.stack.child("ext_authz-0")
    if child.running:
        child.kill()
        await child.wait()
    await at.gate.stack.start_filter("ext_authz", 0)


async def accepted(at, body, *statuses):
    """Call until the gate gives one of `statuses`; before, it may only refuse."""
    deadline = time.monotonic() + 20
    while (answer := await at.post(body)).status not in statuses:
        assert answer.status in {403, 429, 500, 503, 504}, answer
        assert time.monotonic() < deadline, answer
        await asyncio.sleep(0.05)
    return answer


def recorded(at, kind):
    entries = [one for folder in log_folders(at.gate.directory / "audit") for one in bodies(folder)]
    ours = [one["unmapped"]["rankgate"] for one in entries]
    return [one for one in ours if one["kind"] == kind]


def uses(at):
    """Return which decision was about to spend which approval, as the files have it."""
    return {
        (one["detail"]["approval_id"], one["detail"]["decision_id"])
        for one in recorded(at, "lifecycle")
        if one["what"] == "approval_use"
    }


async def sound(at):
    """Hold every approval there is to its promise."""
    written = uses(at)
    allowed = [one for one in recorded(at, "decision") if one["allowed"] and one.get("approval")]
    used = [one["approval"]["id"] for one in allowed]
    assert len(used) == len(set(used)), "an approval let two calls pass"
    for stored in await at.store.listing(set(State), 1000):
        if stored.used_by:
            assert (stored.ask.id, stored.used_by) in written, "a spent approval is missing in the trail"
    spent = {(stored.ask.id, stored.used_by) for stored in await at.store.listing({State.CONSUMED}, 1000)}
    assert {(one["approval"]["id"], one["decision_id"]) for one in allowed} <= spent
    assert len(at.gate.upstream.requests) <= len(allowed)


@pytest.mark.parametrize(("step", "when"), ROUNDS)
async def test_ext_authz_dies_at_any_step(at, filters, step, when):
    at.gate.upstream.requests.clear()
    await restart(at, filters, None)
    body = question("held" if step in WAITING else "at-once")
    approval = ""
    if step not in WAITING:
        approval = (await accepted(at, body, 429)).headers["x-rankgate-approval-id"]
        await at.people.decide(at.store, approval)
    await restart(at, filters, (step, when))
    dying = at.gate.stack.child("ext_authz-0")
    deadline = time.monotonic() + 20
    while dying.running:
        # Envoy may not have found the new process yet.
        assert (await at.post(body)).status in {500, 503}
        assert time.monotonic() < deadline
    assert at.received == 0
    await sound(at)
    await restart(at, filters, None)
    # What was not spent still counts; what was spent does not.
    again = await accepted(at, body, 200, 429)
    if approval:
        spent = (await at.store.read(approval)).used_by
        assert (again.status == 200) == (ROUNDS.index((step, when)) < SPENT)
        assert spent
    assert at.received == (again.status == 200)
    await sound(at)


async def test_ext_proc_dies_once_an_approval_is_spent(at, filters):
    at.gate.upstream.requests.clear()
    await restart(at, filters, None)
    body = question()
    approval = (await accepted(at, body, 429)).headers["x-rankgate-approval-id"]
    await at.people.decide(at.store, approval)
    at.gate.stack.child("ext_proc-0").kill()
    assert (await at.post(body)).status in {500, 503}
    await at.gate.stack.start_filter("ext_proc", 0)
    await accepted(at, body, 200, 429)
    await sound(at)
    assert at.received <= 1


async def test_the_store_dies_before_an_approval_is_spent_and_after(at, filters):
    at.gate.upstream.requests.clear()
    await restart(at, filters, None)
    body = question()
    approval = (await accepted(at, body, 429)).headers["x-rankgate-approval-id"]
    await at.people.decide(at.store, approval)
    valkey = at.gate.stack.child("valkey")
    valkey.kill()
    await valkey.wait()
    assert (await at.post(body)).status == 503
    assert at.received == 0
    await at.gate.stack.start_valkey()
    await accepted(at, body, 200, 429)
    await sound(at)
    assert at.received <= 1


async def test_envoy_dies_while_a_caller_waits(at, filters):
    at.gate.upstream.requests.clear()
    await restart(at, filters, None)
    await accepted(at, question(), 429)
    body = question("held")
    call, stored = await at.held(at.post(body))
    at.gate.stack.child("envoy").kill()
    with pytest.raises(aiohttp.ClientError):
        await call
    await at.people.decide(at.store, stored.ask.id)
    await until(lambda: any(one["reason"] == "caller_left" for one in recorded(at, "decision")))
    at.gate.stack.port = 0  # it gets another one
    await at.gate.stack.restart("envoy", grace_s=1.0)
    assert (await accepted(at, body, 200)).status == 200
    await sound(at)
    assert at.received == 1
