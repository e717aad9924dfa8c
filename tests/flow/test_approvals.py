"""A risky request waits until the right people agreed to exactly that, and passes once; through a real gate."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from pathlib import Path

import cohere
import httpx
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fakes.people import DATA_PROTECTION, People, voter
from flow.gate import Gate
from redis.asyncio import Redis

from ext_authz.consent import EQUAL_CALLERS
from rankgate.approvals import Choice, Signer, State
from rankgate.clients.approvals import ApprovalStore
from rankgate.clients.embedded import filter_command
from rankgate.settings import ApprovalSettings

MAIL = "maren.oldfield@example.org"
# The model says what the policy wants to see.
POLICY = """
package rankgate

import rego.v1

decision := {"allowed": true, "rankgate": {"approval": needs}}

default needs := {"groups": ["data-protection"]}

needs := {"groups": ["data-protection"], "hold_s": 0} if input.rerank.model == "at-once"

needs := {"groups": ["data-protection", "security"], "quorum": 2, "hold_s": 0} if input.rerank.model == "two"

needs := {"groups": ["data-protection"], "ttl_s": 1, "hold_s": 0} if input.rerank.model == "short"
"""
PLAIN = 'package rankgate\n\nimport rego.v1\n\ndecision := {"allowed": true}\n'
NUMBERS = itertools.count()

pytestmark = [pytest.mark.flow, pytest.mark.asyncio(loop_scope="module")]


class Scene:
    """A gate with people behind it."""

    def __init__(self, gate, people, store):
        self.gate, self.people, self.store = gate, people, store

    async def held(self, call, within_s=5.0):
        """Start the coroutine `call`, which will be kept waiting; return its task and the approval it opened."""
        before = {one.ask.id for one in await self.store.listing(set(State), 1000)}
        task = asyncio.create_task(call)
        deadline = time.monotonic() + within_s
        while True:
            new = [one for one in await self.store.listing(set(State), 1000) if one.ask.id not in before]
            if new:
                return task, new[0]
            assert time.monotonic() < deadline, "nothing is pending"
            await asyncio.sleep(0.01)

    async def post(self, body=None, **options):
        return await self.gate.post("/v2/rerank", body or question(), **options)

    async def asked(self, body, **options):
        """Send a call that is not kept waiting; return the id of its approval."""
        answer = await self.post(body, **options)
        assert answer.status == 429, answer
        return answer.headers["x-rankgate-approval-id"]

    @property
    def received(self):
        return len(self.gate.upstream.requests)


def question(model="at-once", **changes):
    """Return a call that nobody made before."""
    return {"model": model, "query": f"{next(NUMBERS)} of {MAIL}", "documents": ["one", f"two {MAIL}"], **changes}


@contextlib.asynccontextmanager
async def scene(tmp_path, *, policy=POLICY, filters=filter_command, authz_slots=1, **approvals):
    people = People(tmp_path)
    gate = Gate(policy=policy, filters=filters, authz_slots=authz_slots)
    url = f"unix://{gate.directory}/valkey.sock"
    section = people.settings(
        url, **{"hold_s": 10, "pending_per_subject": 1000, "pending_per_tenant": 1000, **approvals}
    )
    gate.overrides = {"approvals": section, "routes": [
        {"name": "cohere-v2", "path": "/v2/rerank", "dialect": "cohere.v2", "query_parameters": ["trace"],
         "may_relax": True},
        {"name": "cohere-v1", "path": "/v1/rerank", "dialect": "cohere.v1"},
    ]}  # fmt: skip
    async with gate:
        store = ApprovalStore.connect(ApprovalSettings.model_validate(section), "default", 3600)
        try:
            yield Scene(gate, people, store)
        finally:
            await store.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory):
    async with scene(tmp_path_factory.mktemp("people")) as one:
        yield one


@pytest.fixture
def at(running):
    running.gate.upstream.requests.clear()
    return running


async def rerank(gate, **call):
    with httpx.Client() as http:
        client = cohere.ClientV2(api_key=gate.token(), base_url=gate.url, httpx_client=http)
        return await asyncio.to_thread(client.rerank, **call)


# -- waiting ----------------------------------------------------------------------------------------------------------


async def test_an_untouched_sdk_blocks_until_another_process_approves_and_gets_its_results(at):
    call, stored = await at.held(rerank(at.gate, **question("held")))
    assert not call.done()
    assert at.received == 0
    await at.people.decide(at.store, stored.ask.id)
    answer = await call
    assert {result.index for result in answer.results} == {0, 1}
    assert at.received == 1
    assert MAIL.encode() not in at.gate.upstream.requests[0].raw


async def test_who_waited_in_vain_gets_429_and_its_byte_identical_retry_resumes(at):
    body = question()
    answer = await at.post(body)
    assert answer.status == 429
    assert answer.headers["retry-after"] == "30"
    assert answer.headers["x-should-retry"] == "true"
    approval = answer.headers["x-rankgate-approval-id"]
    assert approval in answer.json["message"]
    assert MAIL not in answer.json["message"]
    await at.people.decide(at.store, approval)
    assert (await at.post(body)).status == 200
    assert at.received == 1


async def test_an_approval_is_used_once_and_the_next_identical_call_asks_again(at):
    body = question()
    approval = await at.asked(body)
    await at.people.decide(at.store, approval)
    assert (await at.post(body)).status == 200
    assert await at.asked(body) != approval
    assert at.received == 1


async def test_waiting_in_vain_leaves_one_pending_approval_however_often_the_call_is_repeated(at):
    body = question()
    assert len({await at.asked(body) for _ in range(5)}) == 1


async def test_a_caller_that_leaves_gives_its_seat_back_and_spends_nothing(at):
    call, stored = await at.held(at.post(question("held")))
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await call
    await at.gate.settled()
    await at.people.decide(at.store, stored.ask.id)
    deadline = time.monotonic() + 5
    while not any(one["reason"] == "caller_left" for one in await ours(at.gate, "decision")):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    assert (await at.store.read(stored.ask.id)).state is State.APPROVED
    assert at.received == 0


async def test_of_two_callers_with_the_same_request_the_youngest_is_served_and_only_it(at):
    body = question("held")
    elder, stored = await at.held(at.post(body))
    younger = asyncio.create_task(at.post(body))
    async with Redis(unix_socket_path=f"{at.gate.directory}/valkey.sock") as redis:
        deadline = time.monotonic() + 5
        while 2 not in [await redis.zcard(key) async for key in redis.scan_iter(f"*{stored.ask.id}*", _type="zset")]:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
    await at.people.decide(at.store, stored.ask.id)
    assert (await younger).status == 200
    assert (await elder).status == 403
    assert at.received == 1


async def test_of_many_callers_with_the_same_request_none_keeps_the_youngest_from_its_turn(at):
    body = question("held")
    first, stored = await at.held(at.post(body))
    callers = [first, *(asyncio.create_task(at.post(body)) for _ in range(11))]
    async with Redis(unix_socket_path=f"{at.gate.directory}/valkey.sock") as redis:
        deadline = time.monotonic() + 5
        while 12 not in [await redis.zcard(key) async for key in redis.scan_iter(f"*{stored.ask.id}*", _type="zset")]:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
    began = time.monotonic()
    await at.people.decide(at.store, stored.ask.id)
    answers = [(await call).status for call in callers]
    assert sorted(answers) == [200, *[403] * 11]
    assert time.monotonic() - began < 3
    assert at.received == 1


async def test_many_who_are_agreed_to_at_once_are_all_answered_each_once(at):
    bodies = [question("held") for _ in range(40)]
    calls = [asyncio.create_task(at.post(body)) for body in bodies]
    deadline, pending = time.monotonic() + 10, []
    while len(pending) < 40:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
        pending = [one for one in await at.store.listing({State.PENDING}, 100) if one.ask.model == "held"]
    for one in pending:
        await at.people.decide(at.store, one.ask.id)
    assert [(await call).status for call in calls] == [200] * 40
    assert at.received == 40


async def test_scenario_21_of_many_equal_calls_at_two_processes_one_passes(tmp_path):
    async with scene(tmp_path, authz_slots=2) as at:
        body = question()
        for _ in range(5):
            await at.people.decide(at.store, await at.asked(body))
            before = at.received
            answers = await asyncio.gather(*(at.post(body) for _ in range(40)))
            assert [one.status for one in answers].count(200) == 1
            assert {one.status for one in answers} <= {200, 403, 429}
            assert at.received == before + 1


# -- refusals ---------------------------------------------------------------------------------------------------------


async def test_one_refusal_is_final_for_the_request_however_it_is_written(at):
    body = question()
    approval = await at.asked(body)
    await at.people.decide(at.store, approval, choice=Choice.DENY)
    spaced = {**body, "query": f" {body['query'].replace(' ', '  ')}"}
    for again in (body, spaced, {**body, "user": "another"}, {**body, "anything": {"else": 1}}):
        answer = await at.post(again)
        assert answer.status == 403
        assert answer.headers["x-should-retry"] == "false"
    assert at.received == 0


async def test_who_is_refused_while_waiting_hears_it_at_once(at):
    call, stored = await at.held(at.post(question("held")))
    await at.people.decide(at.store, stored.ask.id, choice=Choice.DENY)
    assert (await call).status == 403


async def test_a_refusal_that_no_longer_counts_is_heard_at_once_as_well(at):
    call, stored = await at.held(at.post(question("held")))
    await at.store.settle(stored, State.DENIED, kind="denied", person="ada", statement="withdrawn since")
    assert (await call).status == 403


OTHERS = {
    "another body": lambda body: ("/v2/rerank", {**body, "documents": ["one", "three"]}, {}),
    "one byte more": lambda body: ("/v2/rerank", json.dumps(body).encode() + b" ", {}),
    "another subject": lambda body: ("/v2/rerank", body, {"sub": "someone"}),
    "another tenant": lambda body: ("/v2/rerank", body, {"tenant": "other"}),
    "another route": lambda body: ("/v1/rerank", body, {}),
    "another query string": lambda body: ("/v2/rerank?trace=1", body, {}),
}


@pytest.mark.parametrize("other", OTHERS)
async def test_scenario_20_consent_to_one_request_is_none_to_another(at, other):
    body = question()
    await at.people.decide(at.store, await at.asked(body))
    path, changed, claims = OTHERS[other](body)
    answer = await at.gate.post(path, changed, token=at.gate.token(claims.pop("sub", "search"), **claims))
    assert answer.status == 429
    assert at.received == 0


@pytest.mark.parametrize(
    "who",
    [
        voter("search"),
        voter("grace", names=("grace", "search")),
        voter("grace", "marketing"),
    ],
    ids=["itself", "an alias of itself", "another group"],
)
async def test_scenario_22_nobody_agrees_to_what_is_their_own_or_not_for_them(at, who):
    body = question()
    stored = await at.store.read(await at.asked(body))
    await at.people.put(at.store, stored, at.people.vote(stored, who), State.APPROVED)
    assert (await at.post(body)).status == 429
    assert at.received == 0


async def test_one_person_counts_once_through_whatever_group_or_account(at):
    body = question("two")
    approval = await at.asked(body)
    ada = voter("ada", DATA_PROTECTION)
    again = voter("ada2", "security", names=("ada2", "ada@people.example"))
    for who in (ada, again):
        stored = await at.store.read(approval)
        await at.people.put(at.store, stored, at.people.vote(stored, who), State.PENDING)
    stored = await at.store.read(approval)
    await at.people.put(at.store, stored, at.people.vote(stored, ada), State.APPROVED)
    assert (await at.post(body)).status == 429
    stored = await at.store.read(approval)
    await at.people.put(at.store, stored, at.people.vote(stored, voter("grace", "security")), State.APPROVED)
    assert (await at.post(body)).status == 200


async def forged(at, stored):
    key = Signer(Ed25519PrivateKey.generate())
    await at.people.put(at.store, stored, at.people.vote(stored, "ada"), State.APPROVED, signer=key)


async def replayed(at, stored):
    other = await at.store.read(await at.asked(question()))
    await at.people.put(at.store, stored, at.people.vote(other, "ada"), State.APPROVED)


async def outdated(at, stored):
    vote = at.people.vote(stored, "ada", expires_ms=stored.ask.expires_ms + 1)
    await at.people.put(at.store, stored, vote, State.APPROVED)


async def unsigned(at, stored):
    await at.store.settle(stored, State.APPROVED, kind="approved", person="ada", statement="approved")


@pytest.mark.parametrize("write", [forged, replayed, outdated, unsigned])
async def test_what_is_written_into_the_store_without_the_consoles_signature_is_no_consent(at, write):
    body = question()
    await write(at, await at.store.read(await at.asked(body)))
    assert (await at.post(body)).status == 429
    assert at.received == 0


def record(approval):
    """Return the key of an approval's record."""
    return f"state:{{default}}:approvals:record:{approval}"


async def test_who_owns_the_store_cannot_have_an_approval_spent_again_where_it_was(at):
    body = question()
    approval = await at.asked(body)
    await at.people.decide(at.store, approval)
    async with Redis(unix_socket_path=f"{at.gate.directory}/valkey.sock") as redis:
        before = await redis.hgetall(record(approval))
        assert (await at.post(body)).status == 200
        # As if it had not been used.
        await redis.delete(record(approval))
        await redis.hset(record(approval), mapping=before)
    answer = await at.post(body)
    assert answer.status == 403
    assert "used" in answer.json["message"]
    assert at.received == 1


@pytest.mark.parametrize("fields", [("body", "mac"), ("body",)])
async def test_who_owns_the_store_cannot_put_one_request_in_the_place_of_another(at, fields):
    harmless, harmful = question(), question()
    good = await at.store.read(await at.asked(harmless))
    bad = await at.store.read(await at.asked(harmful))
    await at.people.decide(at.store, good.ask.id)
    async with Redis(unix_socket_path=f"{at.gate.directory}/valkey.sock") as redis:
        approved = await redis.hgetall(record(good.ask.id))
        wanted = {
            name: value for name, value in approved.items() if name.decode() in fields or name.startswith(b"vote:")
        }
        await redis.hset(record(bad.ask.id), mapping={**wanted, b"state": b"approved"})
    answer = await at.post(harmful)
    assert answer.status in {429, 503}
    assert at.received == 0


async def test_scenario_22_consent_of_somebody_whose_votes_were_revoked_is_none(at):
    body = question()
    approval = await at.asked(body)
    await at.people.decide(at.store, approval, "ada")
    await at.people.revoke(at.store, voter("ada").person)
    assert (await at.post(body)).status == 429
    assert at.received == 0


async def test_scenario_22_consent_ends_with_its_time(at):
    body = question("short")
    approval = await at.asked(body)
    await at.people.decide(at.store, approval)
    expires = (await at.store.read(approval)).ask.expires_ms / 1000
    await asyncio.sleep(max(0.0, expires - time.time()))
    assert await at.asked(body) != approval
    assert at.received == 0


# -- what will be done ------------------------------------------------------------------------------------------------


CHANGES = {
    "a looser mask": '"mask": {"request": "none"}, "approval": needs',
    "other drops": '"documents": {"drop": [0]}, "approval": needs',
    "another header": '"approval": needs}, "headers": {"x-team": "search"',
    "more people": '"approval": {"groups": ["data-protection"], "quorum": 2, "hold_s": 0}',
}


@pytest.mark.parametrize("change", CHANGES)
async def test_consent_is_none_once_something_else_would_be_done(tmp_path, change):
    async with scene(tmp_path) as at:
        body = question()
        approval = await at.asked(body)
        await at.people.decide(at.store, approval)
        await reloaded(at.gate, POLICY.replace('"approval": needs', CHANGES[change]))
        assert await at.asked(body) != approval
        assert at.received == 0


async def test_what_waits_is_asked_anew_once_something_else_would_be_done(tmp_path):
    async with scene(tmp_path) as at:
        body = question()
        old = await at.asked(body)
        await reloaded(at.gate, POLICY.replace('"approval": needs', CHANGES["a looser mask"]))
        new = await at.asked(body)
        assert new != old
        assert (await at.store.read(old)).state is State.CANCELLED
        await at.people.decide(at.store, new)
        assert (await at.post(body)).status == 200


async def reloaded(gate, policy):
    """Return once the gate decides by `policy`."""
    rewrite(gate, policy)
    deadline = time.monotonic() + 10
    while "policy_reload" not in str(await ours(gate, "lifecycle")):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def rewrite(gate, policy):
    Path(gate.directory, "policy", "policy.rego").write_text(policy)


async def ours(gate, kind):
    """Return our own part of every event of `kind` so far."""
    events = [event["body"]["unmapped"]["rankgate"] for event in await gate.events(unconfirmed=1000)]
    return [event for event in events if event["kind"] == kind]


# -- bounds and faults ------------------------------------------------------------------------------------------------


async def test_scenario_24_who_finds_no_seat_is_not_kept_waiting(tmp_path):
    async with scene(tmp_path, waiters=1) as at:
        first, stored = await at.held(at.post(question("held")))
        began = time.monotonic()
        assert (await at.post(question("held"))).status == 429
        assert time.monotonic() - began < 5
        await at.people.decide(at.store, stored.ask.id)
        assert (await first).status == 200


async def test_one_request_takes_few_of_the_seats_however_often_it_is_sent(tmp_path):
    async with scene(tmp_path) as at:
        body = question("held")
        first, stored = await at.held(at.post(body))
        others = [asyncio.create_task(at.post(body)) for _ in range(20)]
        done, waiting = await asyncio.wait(others, timeout=3)
        assert {one.result().status for one in done} == {429}
        assert len(waiting) == EQUAL_CALLERS - 1
        await at.people.decide(at.store, stored.ask.id)
        answers = [one.status for one in await asyncio.gather(first, *waiting)]
        assert answers.count(200) == 1


async def test_more_pending_approvals_than_one_caller_may_have_are_refused(tmp_path):
    async with scene(tmp_path, pending_per_subject=2) as at:
        answers = [await at.post(question()) for _ in range(3)]
        assert ["too many" in one.json["message"] for one in answers] == [False, False, True]
        assert {one.status for one in answers} == {429}


async def test_scenario_23_without_the_store_only_calls_that_need_consent_are_refused(tmp_path):
    policy = POLICY.replace('"rankgate": {"approval": needs}', '"rankgate": extra').replace(
        "default needs",
        'default extra := {}\n\nextra := {"approval": needs} if input.rerank.model != "plain"\n\ndefault needs',
    )
    async with scene(tmp_path, policy=policy) as at:
        at.gate.stack.child("valkey").kill()
        refused = await at.post(question())
        assert refused.status == 503
        assert "approvals are not available" in refused.json["message"]
        assert (await at.post(question("plain"))).status == 200
        assert at.received == 1


# -- break glass ------------------------------------------------------------------------------------------------------


def right(gate, **claims):
    now = int(time.time())
    return gate.token(**{"scope": "rerank break-glass", "iat": now, "exp": now + 60, **claims})


async def test_who_breaks_the_glass_passes_at_once_and_leaves_a_review_and_an_alarm(tmp_path):
    async with scene(tmp_path, break_glass={"scope": "break-glass", "uses": 1}) as at:
        why = {"rankgate-reason": f"outage 4711, {MAIL} asked"}
        answer = await at.post(question("held"), headers=why, token=right(at.gate))
        assert answer.status == 200
        (review,) = await at.store.reviews(closed=False, limit=10)
        assert "outage 4711" in review.ask.break_glass
        assert MAIL not in review.ask.break_glass
        assert "break_glass" in str(await ours(at.gate, "lifecycle"))
        (event,) = [one for one in await at.gate.decisions() if one["body"]["unmapped"]["rankgate"].get("approval")]
        assert "outage 4711" in event["body"]["unmapped"]["rankgate"]["approval"]["break_glass"]
        assert b"outage" not in at.gate.upstream.requests[0].raw
        again = await at.post(question("held"), headers=why, token=right(at.gate))
        assert again.status == 403


@pytest.mark.parametrize(
    ("claims", "headers"),
    [
        ({"scope": "rerank"}, {"rankgate-reason": "outage"}),
        ({"exp": int(time.time()) + 3000}, {"rankgate-reason": "outage"}),
        ({}, {"rankgate-reason": "x" * 501}),
        ({}, {"rankgate-reason": " "}),
    ],
    ids=["no scope", "a token that lives long", "too long a reason", "no reason"],
)
async def test_without_the_right_or_a_reason_no_glass_is_broken(tmp_path, claims, headers):
    async with scene(tmp_path, break_glass={"scope": "break-glass"}) as at:
        answer = await at.post(question("held"), headers=headers, token=right(at.gate, **claims))
        assert answer.status == 403
        assert at.received == 0
        assert not await at.store.reviews(closed=False, limit=10)
