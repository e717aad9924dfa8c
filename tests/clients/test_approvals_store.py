"""Approvals in a real Valkey, and where it is installed Debian's Redis: what a gate meets and spends."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
from fakes.asks import (
    CAPS,
    a_caller,
    an_ask,
    approved,
    change,
    force,
    kinds,
    opened,
    settings,
    storing,
)
from fakes.valkey import Server, redis_binary, running

from rankgate.approvals import (
    OPEN,
    Caps,
    Change,
    Joined,
    Met,
    Requirement,
    State,
    Use,
)
from rankgate.clients.approvals import ApprovalStore

NEEDS_REDIS = pytest.mark.skipif(redis_binary() is None, reason="redis-server is not on PATH")
PREFIX = "state:{default}:approvals:"


@pytest.fixture(scope="module", params=["valkey", pytest.param("redis", marks=[pytest.mark.redis_server, NEEDS_REDIS])])
def started(request: pytest.FixtureRequest) -> Iterator[Server]:
    with running(redis_binary() if request.param == "redis" else None) as server:
        yield server


@pytest.fixture
def server(started: Server) -> Server:
    """Return an empty server of each kind that is here."""
    with started.client() as client:
        client.flushall()
    return started


@pytest.fixture
async def store(server: Server) -> AsyncIterator[ApprovalStore]:
    async with storing(server) as one:
        yield one


async def state_of(store: ApprovalStore, approval: str) -> tuple[State, str]:
    found = await store.read(approval)
    assert found is not None
    return found.state, found.note


async def test_what_is_opened_is_stored_byte_for_byte(store: ApprovalStore) -> None:
    ask = an_ask()
    met, stored = await store.join(ask, "the mac", CAPS)
    assert met is Met.OPENED and stored is not None
    assert (stored.ask, stored.body, stored.mac, stored.state) == (ask, ask.encode(), "the mac", State.PENDING)
    assert (stored.revision, stored.votes, stored.used_by, stored.note) == (0, (), "", "")
    assert abs(stored.changed_ms - time.time() * 1000) < 5000
    assert await store.read(ask.id) == stored
    assert await store.read("apr-unknown") is None
    assert await kinds(store) == [("opened", ask.id)]


@pytest.mark.parametrize("make", [opened, approved])
async def test_the_same_request_and_plan_joins_what_is_open(store: ApprovalStore, make) -> None:
    first = await make(store)
    assert await store.join(an_ask(), "other mac", CAPS) == Joined(Met.JOINED, first)


async def test_the_order_and_repetition_of_groups_is_no_other_requirement(store: ApprovalStore) -> None:
    first = await opened(store, an_ask(requirement=Requirement(("a", "b"))))
    assert await store.join(an_ask(requirement=Requirement(("b", "a", "b"))), "", CAPS) == Joined(Met.JOINED, first)


@pytest.mark.parametrize("make", [opened, approved])
@pytest.mark.parametrize(
    "needed", [Requirement(("risk",), 2, 900), Requirement(("risk", "b"), 1, 900), Requirement(("risk",), 1, 60)]
)
async def test_another_requirement_cancels_and_opens_anew(store: ApprovalStore, make, needed: Requirement) -> None:
    first, second = await make(store), an_ask(requirement=needed)
    # The cancelled one no longer counts as pending.
    met, stored = await store.join(second, "", Caps(1, 1))
    assert met is Met.OPENED and stored is not None and stored.ask == second
    assert await state_of(store, first.ask.id) == (State.CANCELLED, "superseded")
    assert (await kinds(store))[-2:] == [("cancelled", first.ask.id), ("opened", second.id)]


async def test_the_same_question_in_other_bytes_is_a_variant(store: ApprovalStore) -> None:
    first = await opened(store)
    for other in (an_ask(use_digest="use 2"), an_ask(use_digest="use 2", plan_digest="plan 2")):
        assert await store.join(other, "", CAPS) == Joined(Met.VARIANT, first)
    # One that is approved is no longer asked for, so its variant may be.
    await store.settle(first, State.APPROVED, kind="voted")
    assert (await store.join(an_ask(use_digest="use 2"), "", CAPS)).met is Met.OPENED


async def test_what_is_pending_under_another_plan_is_cancelled_and_opened_anew(store: ApprovalStore) -> None:
    first, second = await opened(store), an_ask(plan_digest="plan 2")
    met, stored = await store.join(second, "", Caps(1, 1))
    assert met is Met.OPENED and stored is not None and stored.ask == second
    assert await state_of(store, first.ask.id) == (State.CANCELLED, "superseded")
    assert await store.join(an_ask(plan_digest="plan 2"), "", CAPS) == Joined(Met.JOINED, stored)
    # An approval that somebody agreed to stays: it may be used where its plan is made again.
    await store.settle(stored, State.APPROVED, kind="voted")
    assert (await store.join(an_ask(plan_digest="plan 3"), "", CAPS)).met is Met.OPENED
    assert await state_of(store, second.id) == (State.APPROVED, "")


@pytest.mark.parametrize("other", [{}, {"use_digest": "use 2"}, {"requirement": Requirement(("risk",), 2)}])
async def test_a_denial_lasts_until_its_time_is_over_however_the_question_is_written(
    server: Server, store: ApprovalStore, other: dict[str, object]
) -> None:
    first = await opened(store)
    assert await store.settle(first, State.DENIED, kind="voted", person="ann", statement="no") is Change.DONE
    met, stored = await store.join(an_ask(**other), "", CAPS)
    assert met is Met.DENIED and stored is not None
    assert (stored.ask, stored.state, stored.votes) == (first.ask, State.DENIED, ("no",))
    with server.client() as client:
        assert client.pexpiretime(f"{PREFIX}denied:{first.ask.canonical_digest}") == first.ask.expires_ms
    change(server, first.ask.id, {"expires": int(time.time() * 1000) - 1})
    assert (await store.join(an_ask(**other), "", CAPS)).met is Met.OPENED


async def test_the_longest_denial_counts(server: Server, store: ApprovalStore) -> None:
    long = await approved(store, an_ask())
    short = await opened(store, an_ask(use_digest="use 2", expires_ms=long.ask.expires_ms - 1000))
    await store.settle(long, State.DENIED, kind="voted")
    await store.settle(short, State.DENIED, kind="voted")
    met, stored = await store.join(an_ask(use_digest="use 3"), "", CAPS)
    assert met is Met.DENIED and stored is not None and stored.ask == long.ask


@pytest.mark.parametrize("state", sorted(State))
async def test_what_is_closed_is_not_joined(server: Server, store: ApprovalStore, state: State) -> None:
    first = await opened(store)
    force(server, first, state)
    met, stored = await store.join(an_ask(), "", CAPS)
    assert met is (Met.JOINED if state in OPEN else Met.OPENED) and stored is not None
    assert (stored.ask == first.ask) is (state in OPEN)


async def test_what_is_met_past_its_time_expires_and_is_opened_anew(store: ApprovalStore) -> None:
    first = await opened(store, an_ask(expires_ms=int(time.time() * 1000) - 1))
    second = await opened(store, an_ask())
    assert await state_of(store, first.ask.id) == (State.EXPIRED, "")
    assert await kinds(store) == [("opened", first.ask.id), ("expired", first.ask.id), ("opened", second.ask.id)]


async def test_a_variant_past_its_time_is_none(store: ApprovalStore) -> None:
    first = await opened(store, an_ask(expires_ms=int(time.time() * 1000) - 1))
    await opened(store, an_ask(use_digest="use 2"))
    assert (await state_of(store, first.ask.id))[0] is State.EXPIRED


async def test_so_many_may_be_pending_of_one_subject_and_of_one_tenant(store: ApprovalStore) -> None:
    caps = Caps(2, 3)

    async def met(question: str, **changes: str) -> Met:
        return (await store.join(an_ask(question, caller=a_caller(**changes)), "", caps)).met

    assert [await met("1"), await met("2"), await met("3")] == [Met.OPENED, Met.OPENED, Met.FULL]
    # Another issuer's subject is another one, and the tenant's cap is that of all.
    assert [await met("4", issuer="https://other.test"), await met("5", subject="b")] == [Met.OPENED, Met.FULL]
    assert await met("6", tenant="other", subject="c") is Met.OPENED
    assert await met("1") is Met.JOINED


@pytest.mark.parametrize("state", [State.APPROVED, State.DENIED, State.EXPIRED, State.CANCELLED])
async def test_what_is_settled_makes_room_and_what_is_pending_again_takes_it(
    store: ApprovalStore, state: State
) -> None:
    caps = Caps(1, 1)
    first = await opened(store)
    await store.settle(first, state, kind="voted")
    if state is State.APPROVED:
        await store.settle(replace(first, revision=1), State.PENDING, kind="withdrawn")
        assert (await store.join(an_ask("2"), "", caps)).met is Met.FULL
        assert (await store.join(an_ask(use_digest="use 2"), "", caps)).met is Met.VARIANT
        await store.settle(replace(first, revision=2), State.APPROVED, kind="voted")
    assert (await store.join(an_ask("2"), "", caps)).met is Met.OPENED


async def test_what_is_asked_for_again_is_what_a_variant_meets(store: ApprovalStore) -> None:
    first = await approved(store)
    second = await opened(store, an_ask(use_digest="use 2"))
    await store.settle(second, State.CANCELLED, kind="cancelled")
    await store.settle(first, State.PENDING, kind="withdrawn")
    met, stored = await store.join(an_ask(use_digest="use 3"), "", CAPS)
    assert met is Met.VARIANT and stored is not None and stored.ask == first.ask


async def test_what_expired_makes_room_without_anybody_marking_it(store: ApprovalStore) -> None:
    for question in ("1", "2"):
        ask = an_ask(question, expires_ms=int(time.time() * 1000) - 1)
        assert (await store.join(ask, "", Caps(1, 1))).met is Met.OPENED


async def test_of_many_who_ask_at_once_one_opens(server: Server) -> None:
    async with storing(server) as one, storing(server) as other:
        met = await asyncio.gather(*(each.join(an_ask(), "", CAPS) for _ in range(10) for each in (one, other)))
        assert sorted(joined.met for joined in met) == [Met.JOINED] * 19 + [Met.OPENED]
        assert len({joined.stored.ask.id for joined in met if joined.stored}) == 1


async def test_asking_again_after_a_lost_answer_finds_the_same(store: ApprovalStore) -> None:
    ask = an_ask()
    assert [(await store.join(ask, "", CAPS)).met for _ in range(2)] == [Met.OPENED, Met.JOINED]


async def test_an_approval_is_spent_once_and_as_often_as_its_decision_asks(store: ApprovalStore) -> None:
    first = await approved(store)
    use = [await store.consume(first.ask.id, name) for name in ("dec-a", "dec-a", "dec-b", "dec-a")]
    assert use == [Use.SPENT, Use.SPENT, Use.USED, Use.SPENT]
    found = await store.read(first.ask.id)
    assert found is not None
    assert (found.state, found.used_by, found.votes, found.revision) == (State.CONSUMED, "dec-a", ("yes",), 2)
    assert (await kinds(store))[1:] == [("voted", first.ask.id), ("consumed", first.ask.id)]
    assert (await store.join(an_ask(), "", CAPS)).met is Met.OPENED


@pytest.mark.parametrize("state", sorted({*State} - {State.APPROVED, State.CONSUMED}))
async def test_only_what_is_approved_is_spent(server: Server, store: ApprovalStore, state: State) -> None:
    first = await opened(store)
    force(server, first, state)
    assert await store.consume(first.ask.id, "dec-a") is Use.GONE
    assert (await state_of(store, first.ask.id))[0] is state


async def test_what_is_past_its_time_or_unknown_is_not_spent(server: Server, store: ApprovalStore) -> None:
    first = await approved(store)
    change(server, first.ask.id, {"expires": int(time.time() * 1000) - 1})
    assert await store.consume(first.ask.id, "dec-a") is Use.GONE
    assert (await state_of(store, first.ask.id))[0] is State.EXPIRED
    assert await store.consume("apr-unknown", "dec-a") is Use.GONE


async def test_a_thousand_races_of_two_gates_have_one_winner_each(server: Server, store: ApprovalStore) -> None:
    rounds = 1000
    caps = Caps(rounds, rounds)
    names = []
    for number in range(rounds):
        _, stored = await store.join(an_ask(str(number)), "", caps)
        assert stored is not None
        assert await store.settle(stored, State.APPROVED, kind="voted") is Change.DONE
        names.append(stored.ask.id)
    start = threading.Barrier(2, timeout=60)

    async def race(gate: str) -> list[Use]:
        async with storing(server) as mine:
            uses = []
            for name in names:
                start.wait()
                uses.append(await mine.consume(name, f"dec-{gate}"))
            return uses

    one, other = await asyncio.gather(*(asyncio.to_thread(asyncio.run, race(gate)) for gate in "ab"))
    assert [sorted(pair) for pair in zip(one, other, strict=True)] == [[Use.SPENT, Use.USED]] * rounds
    assert Use.SPENT in one and Use.SPENT in other


async def test_the_youngest_caller_who_still_waits_is_served(server: Server, store: ApprovalStore) -> None:
    first = await approved(store)
    name = first.ask.id
    await store.wait([(name, "dec-01a"), (name, "dec-01z"), (name, "dec-02a")])
    assert [await store.consume(name, old) for old in ("dec-01a", "dec-01z")] == [Use.YOUNGER] * 2
    await store.leave(name, "dec-02a")
    with server.client() as client:
        client.zadd(f"{PREFIX}waiters:{name}", {"dec-03a": int(time.time() * 1000) - 3100})
    assert await store.consume(name, "dec-01z") is Use.SPENT


async def test_waiting_ends_by_itself_and_waiting_for_nothing_is_nothing(server: Server, store: ApprovalStore) -> None:
    await store.wait([])
    await store.wait([("apr-1", "dec-1"), ("apr-2", "dec-1")])
    with server.client() as client:
        assert all(0 < client.pttl(f"{PREFIX}waiters:apr-{number}") <= 10_000 for number in (1, 2))


def test_a_section_that_names_no_redis_is_refused(started: Server) -> None:
    with pytest.raises(ValueError, match=r"approvals\.redis_url"):
        ApprovalStore.connect(settings(started).model_copy(update={"redis_url": None}), "default", 1)
