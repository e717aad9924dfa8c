"""Approvals in a real Valkey, and where it is installed Debian's Redis: what is met, spent, settled and listed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from itertools import product

import pytest
from fakes.asks import CAPS, HISTORY_S, a_caller, an_ask, approved, change, opened, record_key, settings, storing
from fakes.valkey import Server, redis_binary, running

from rankgate.approvals import (
    OPEN,
    Ask,
    Caps,
    Change,
    Event,
    Joined,
    Met,
    Requirement,
    State,
    Stored,
    Use,
    may_become,
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


async def kinds(store: ApprovalStore) -> list[tuple[str, str]]:
    """Return every event there is: kind and approval."""
    return [(event.kind, event.approval) for event in await anext(store.events("0-0"))]


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


@pytest.mark.parametrize("other", [{"use_digest": "use 2"}, {"plan_digest": "plan 2"}])
async def test_the_same_question_in_other_bytes_or_with_another_plan_is_a_variant(
    store: ApprovalStore, other: dict[str, str]
) -> None:
    first = await opened(store)
    assert await store.join(an_ask(**other), "", CAPS) == Joined(Met.VARIANT, first)
    # One that is approved is no longer asked for, so its variant may be.
    await store.settle(first, State.APPROVED, kind="voted")
    assert (await store.join(an_ask(**other), "", CAPS)).met is Met.OPENED


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


@pytest.mark.parametrize(("state", "after"), list(product(State, State)))
async def test_only_what_the_table_allows_becomes_of_an_approval(
    server: Server, store: ApprovalStore, state: State, after: State
) -> None:
    first = await opened(store)
    force(server, first, state)
    allowed = after is not State.CONSUMED and (may_become(state, after) or (state is after and state in OPEN))
    change_made = await store.settle(first, after, kind="k", person="ann", statement="s", note="n")
    assert change_made is (Change.DONE if allowed else Change.CLOSED)
    found = await store.read(first.ask.id)
    assert found is not None
    expected = (after, 1, ("s",), "n") if allowed else (state, 0, (), "")
    assert (found.state, found.revision, found.votes, found.note) == expected
    listed = {each: [one.ask.id for one in await store.listing([each], 5)] for each in State}
    assert listed == {each: [first.ask.id] if each is found.state else [] for each in State}


async def test_of_two_who_decide_on_the_same_revision_one_looks_again(server: Server) -> None:
    async with storing(server) as one, storing(server) as other:
        stored = await opened(one)
        made = await asyncio.gather(
            one.settle(stored, State.APPROVED, kind="voted", person="ann", statement="yes"),
            other.settle(stored, State.DENIED, kind="voted", person="bob", statement="no"),
        )
        assert sorted(made) == [Change.DONE, Change.STALE]
        found = await one.read(stored.ask.id)
        assert found is not None and len(found.votes) == 1 and found.revision == 1


async def test_votes_are_kept_by_person_replaced_and_withdrawn(store: ApprovalStore) -> None:
    stored = await opened(store)
    for revision, (person, statement, held) in enumerate(
        [("bob", "b1", {"b1"}), ("ann", "a1", {"a1", "b1"}), ("ann", "a2", {"a2", "b1"}), ("bob", "", {"a2"})]
    ):
        made = await store.settle(
            replace(stored, revision=revision), State.PENDING, kind="voted", person=person, statement=statement
        )
        found = await store.read(stored.ask.id)
        assert made is Change.DONE and found is not None and {*found.votes} == held


async def test_what_is_past_its_time_takes_no_vote(server: Server, store: ApprovalStore) -> None:
    first, second = await opened(store, an_ask("1")), await opened(store, an_ask("2"))
    for stored in (first, second):
        change(server, stored.ask.id, {"expires": int(time.time() * 1000) - 1})
    assert await store.settle(first, State.APPROVED, kind="voted", person="ann", statement="yes") is Change.CLOSED
    assert await store.settle(second, State.EXPIRED, kind="expired") is Change.DONE
    found = [await store.read(stored.ask.id) for stored in (first, second)]
    assert [(one.state, one.votes) for one in found if one] == [(State.EXPIRED, ())] * 2


async def test_what_is_gone_is_closed(store: ApprovalStore) -> None:
    stored = await opened(store)
    gone = replace(stored, ask=an_ask("2"))
    assert await store.settle(gone, State.APPROVED, kind="voted") is Change.CLOSED


async def test_revocations_of_those_who_voted_come_with_the_approval(server: Server, store: ApprovalStore) -> None:
    first = await approved(store)
    await store.revoke("bob", "revoked bob")
    assert (await store.read(first.ask.id)) == first
    await store.revoke("ann", "revoked ann")
    found = await store.read(first.ask.id)
    assert found == replace(first, revocations=("revoked ann",))
    assert await store.listing([State.APPROVED], 1) == [found]
    assert (await kinds(store))[-1] == ("revoked", "")
    with server.client() as client:
        assert client.pexpiretime(f"{PREFIX}revocations") >= time.time() * 1000 + HISTORY_S * 1000 - 5000


async def test_a_revocation_outlives_what_is_open(server: Server, store: ApprovalStore) -> None:
    late = int(time.time() * 1000) + 10 * HISTORY_S * 1000
    await opened(store, an_ask(expires_ms=late))
    await store.revoke("ann", "revoked ann")
    with server.client() as client:
        assert client.pexpiretime(f"{PREFIX}revocations") == late


async def test_the_newest_are_listed_first_page_by_page(store: ApprovalStore) -> None:
    asks = [an_ask(str(number)) for number in range(9)]
    for place, ask in enumerate(asks):
        await (approved if place % 3 == 0 else opened)(store, ask)
    newest = [ask.id for ask in reversed(asks)]

    async def page(limit: int, before: str = "", states: tuple[State, ...] = tuple(State)) -> list[str]:
        return [stored.ask.id for stored in await store.listing(states, limit, before)]

    assert await page(100) == newest
    assert await page(4) == newest[:4] and await page(4, newest[3]) == newest[4:8] and await page(4, newest[8]) == []
    assert await page(2, newest[0], (State.APPROVED,)) == [asks[6].id, asks[3].id]
    assert await page(0) == [] and await page(5, states=()) == []


async def test_whatever_is_due_expires_once(store: ApprovalStore) -> None:
    past = int(time.time() * 1000) - 1
    due = [await opened(store, an_ask(f"d{number}", expires_ms=past)) for number in range(10)]
    later = await opened(store, an_ask("later"))
    assert await store.expire_due() == 10
    assert await store.expire_due() == 0
    assert {stored.ask.id for stored in await store.listing([State.EXPIRED], 20)} == {one.ask.id for one in due}
    assert [stored.ask.id for stored in await store.listing([State.PENDING], 20)] == [later.ask.id]
    assert [kind for kind, _ in await kinds(store)].count("expired") == 10


async def test_more_than_one_batch_expires_at_once(server: Server, store: ApprovalStore) -> None:
    past, caps = int(time.time() * 1000) - 1, Caps(1000, 1000)
    for number in range(250):
        await store.join(an_ask(str(number), expires_ms=past), "", caps)
    assert await store.expire_due() == 250


async def test_a_review_is_opened_counted_and_closed_once(server: Server, store: ApprovalStore) -> None:
    def broken(subject: str = "indexer") -> Ask:
        return an_ask(break_glass="the pager", caller=a_caller(subject))

    asks = [broken() for _ in range(3)]
    assert [await store.open_review(ask, "mac", 2, 3600) for ask in asks] == [True, True, False]
    assert await store.open_review(asks[0], "mac", 2, 3600) is True
    assert await store.open_review(broken("other"), "mac", 2, 3600) is True
    # An hour ago is not lately.
    with server.client() as client:
        (key,) = {key for key in client.keys(f"{PREFIX}broken:*") if client.zcard(key) == 2}
        client.zadd(key, {asks[0].id: int(time.time() * 1000) - 3_600_001})
    assert await store.open_review(asks[2], "mac", 2, 3600) is True
    assert [review.ask for review in await store.reviews(closed=False, limit=10)][1:] == [asks[2], asks[1], asks[0]]
    assert len(await store.reviews(closed=False, limit=1)) == 1
    assert await store.close_review(asks[0].id, "ann", "fine") is Change.DONE
    assert await store.close_review(asks[0].id, "bob", "not fine") is Change.CLOSED
    assert await store.close_review("apr-unknown", "bob", "") is Change.CLOSED
    (closed,) = await store.reviews(closed=True, limit=10)
    assert (closed.ask, closed.body, closed.mac) == (asks[0], asks[0].encode(), "mac")
    assert (closed.closed_by, closed.closed_reason) == ("ann", "fine") and closed.closed_ms > 0
    assert {kind for kind, _ in await kinds(store)} == {"review_opened", "review_closed"}
    assert await store.listing(tuple(State), 10) == []


async def test_events_come_as_they_happen_and_from_where_one_was(store: ApprovalStore) -> None:
    await opened(store, an_ask("before"))
    events = store.events()
    assert await anext(events) == []
    first = await approved(store)
    seen: list[Event] = []
    while len(seen) < 2:
        seen += await anext(events)
    assert [(event.kind, event.approval) for event in seen] == [("opened", first.ask.id), ("voted", first.ask.id)]
    assert all(abs(event.time_ms - time.time() * 1000) < 10_000 for event in seen)
    # Nothing happens: an empty answer about every second.
    begun = time.monotonic()
    assert await anext(events) == [] and time.monotonic() - begun < 1.9
    assert [event.kind for event in await anext(store.events(seen[0].cursor))] == ["voted"]


async def test_every_key_ends_by_itself_but_the_stream_which_is_cut(server: Server, store: ApprovalStore) -> None:
    first = await approved(store)
    await store.settle(await opened(store, an_ask("2")), State.DENIED, kind="voted")
    await store.wait([(first.ask.id, "dec-1")])
    await store.consume(first.ask.id, "dec-1")
    await store.revoke("ann", "revoked")
    for closing in (True, False):
        ask = an_ask(break_glass="why")
        await store.open_review(ask, "", 5, 60)
        if closing:
            await store.close_review(ask.id, "ann", "")
    assert await store.ready()
    with server.client() as client:
        keys = {key.decode(): client.pexpiretime(key) for key in client.keys("*")}
    assert all(key.startswith(PREFIX) for key in keys)
    assert {key for key, ends in keys.items() if ends < 0} == {f"{PREFIX}events"}
    assert keys[record_key(first.ask.id)] == first.ask.expires_ms + HISTORY_S * 1000
    assert not any(word in key for key in keys for word in ("indexer", "acme", "ann", "issuer.test"))


async def test_indices_forget_what_the_server_forgot(server: Server, store: ApprovalStore) -> None:
    first = await approved(store)
    with server.client() as client:
        client.delete(record_key(first.ask.id))
        client.zadd(f"{PREFIX}keep", {first.ask.id: 1})
        await store.expire_due()
        kept = {key.decode() for key in client.keys("*") if client.type(key) == b"zset"}
    assert kept == set()


def force(server: Server, stored: Stored, state: State) -> None:
    """Put an approval that is pending into `state`, behind the store's back."""
    name = stored.ask.id
    change(server, name, {"state": state.value})
    with server.client() as client:
        client.zrem(f"{PREFIX}index:pending", name)
        client.zadd(f"{PREFIX}index:{state.value}", {name: 0})
        if state not in OPEN:
            client.zrem(f"{PREFIX}due", name)


def test_a_section_that_names_no_redis_is_refused(started: Server) -> None:
    with pytest.raises(ValueError, match=r"approvals\.redis_url"):
        ApprovalStore.connect(settings(started).model_copy(update={"redis_url": None}), "default", 1)
