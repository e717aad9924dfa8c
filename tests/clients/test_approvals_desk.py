"""Approvals in a real Valkey, and where it is installed Debian's Redis: what the console settles, lists and sees."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from itertools import product

import pytest
from fakes.asks import (
    HISTORY_S,
    a_caller,
    an_ask,
    approved,
    change,
    force,
    kinds,
    opened,
    record_key,
    storing,
)
from fakes.valkey import Server, redis_binary, running

from rankgate.approvals import (
    OPEN,
    Ask,
    Caps,
    Change,
    Event,
    State,
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
    with server.client() as client:
        indices = [each for each in State if client.zcard(f"{PREFIX}index:{each.value}")]
        assert (indices, client.zcard(f"{PREFIX}due")) == ([found.state], int(found.state in OPEN))
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


async def test_a_page_is_filled_past_what_is_listed_wrongly(server: Server, store: ApprovalStore) -> None:
    asks = [an_ask(str(number)) for number in range(4)]
    for ask in asks:
        await opened(store, ask)
    change(server, asks[3].id, {"body": "x"})
    change(server, asks[2].id, {"state": "denied"})
    assert [stored.ask for stored in await store.listing([State.PENDING], 1)] == [asks[1]]
    assert [stored.ask for stored in await store.listing([State.PENDING], 9)] == [asks[1], asks[0]]


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
    assert asks[0] not in [review.ask for review in await store.reviews(closed=False, limit=10)]
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


async def test_what_ends_soon_does_not_end_what_ends_later(server: Server, store: ApprovalStore) -> None:
    late = int(time.time() * 1000) + 10 * HISTORY_S * 1000
    await opened(store, an_ask("late", expires_ms=late))
    await opened(store, an_ask("soon"))
    with server.client() as client:
        shared = [key for key in client.keys("*") if client.type(key) == b"zset"]
        assert {client.pexpiretime(key) for key in shared} == {late + HISTORY_S * 1000}


async def test_indices_forget_what_the_server_forgot(server: Server, store: ApprovalStore) -> None:
    first = await approved(store)
    with server.client() as client:
        client.delete(record_key(first.ask.id))
        client.zadd(f"{PREFIX}keep", {first.ask.id: 1})
        await store.expire_due()
        kept = {key.decode() for key in client.keys("*") if client.type(key) == b"zset"}
    assert kept == set()
