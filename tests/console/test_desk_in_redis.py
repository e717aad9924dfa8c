"""The desk over the store it is run with: what it decides is what is kept, also when two people decide at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from fakes.desk import Journal, Table, person
from fakes.desk_store import make_ask
from fakes.valkey import Server
from fakes.valkey import running as valkey

from rankgate.approvals import Ask, Caps, Choice, Requirement, State, record_digest
from rankgate.clients.approvals import ApprovalStore
from rankgate.console.desk import Desk
from rankgate.console.people import Role
from rankgate.console.refusals import Refusal, RefusedError
from rankgate.console.settings import StateSettings

CAPS = Caps(100, 100)
OPERATOR = person("otto", "operators", roles=(Role.OPERATE,))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with valkey() as one:
        yield one


@pytest.fixture
async def store(server: Server) -> AsyncIterator[ApprovalStore]:
    with server.client() as client:
        client.flushall()
    settings = StateSettings.model_validate({"redis_url": server.url})
    one = ApprovalStore.connect(settings, "default", 3600)
    yield one
    await one.close()


@pytest.fixture
def desk(store: ApprovalStore) -> Desk:
    table = Table()
    return Desk(store, table.signer, table.keys, None, Journal())


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def opened(store: ApprovalStore, number: int = 1, *, quorum: int = 1, lasts_ms: int = 900_000) -> Ask:
    now = now_ms()
    ask = make_ask(
        number, now, requirement=Requirement(("approvers",), quorum=quorum), expires_ms=now + lasts_ms,
        use_digest=f"{number:064x}", canonical_digest=f"{number:064x}",
    )  # fmt: skip
    await store.join(ask, "00", CAPS)
    return ask


async def cast(desk: Desk, name: str, ask: Ask, choice: Choice = Choice.APPROVE) -> State:
    voter = person(name, logged_in_ms=now_ms())
    return (await desk.vote(voter, ask.id, record_digest(ask.encode()), choice, "seen")).state


async def test_people_who_vote_at_once_are_all_counted(store: ApprovalStore, desk: Desk) -> None:
    ask = await opened(store, quorum=4)
    await asyncio.gather(*(cast(desk, name, ask) for name in ("ada", "bob", "cyd", "dan")))
    stored = await store.read(ask.id)
    assert stored is not None
    assert (stored.state, len(stored.votes)) == (State.APPROVED, 4)


async def test_one_person_who_votes_twice_at_once_votes_once(store: ApprovalStore, desk: Desk) -> None:
    ask = await opened(store, quorum=2)
    outcomes = await asyncio.gather(*(cast(desk, "ada", ask) for _ in range(2)), return_exceptions=True)
    refusals = [one.refusal for one in outcomes if isinstance(one, RefusedError)]
    assert refusals == [Refusal.ALREADY_VOTED]
    stored = await store.read(ask.id)
    assert stored is not None
    assert (stored.state, len(stored.votes)) == (State.PENDING, 1)


async def test_a_revocation_takes_consent_back_and_a_withdrawal_too(store: ApprovalStore, desk: Desk) -> None:
    first, second = await opened(store, 1), await opened(store, 2)
    assert await cast(desk, "ada", first) is State.APPROVED
    assert await cast(desk, "bob", second) is State.APPROVED
    revoked = await desk.revoke(OPERATOR, "ada@acme.example", "left")
    assert revoked.approvals == 1
    await desk.withdraw(person("bob"), second.id, record_digest(second.encode()))
    assert {item.state for item in await desk.listing(OPERATOR)} == {State.PENDING}


async def test_what_is_cancelled_denied_or_late_is_closed(store: ApprovalStore, desk: Desk) -> None:
    cancelled, denied, late = await opened(store, 1), await opened(store, 2), await opened(store, 3, lasts_ms=-1)
    assert (await desk.cancel(OPERATOR, cancelled.id, "not needed")).note == "not needed"
    assert await cast(desk, "ada", denied, Choice.DENY) is State.DENIED
    await desk.expire_due()
    assert await desk.listing(OPERATOR) == []
    for ask in (cancelled, denied, late):
        with pytest.raises(RefusedError) as refusal:
            await cast(desk, "bob", ask)
        assert refusal.value.refusal is Refusal.CLOSED
    past = await desk.listing(OPERATOR, list(State))
    assert [item.state for item in past] == [State.EXPIRED, State.DENIED, State.CANCELLED]


async def test_a_review_is_closed_by_somebody_else_once(store: ApprovalStore, desk: Desk) -> None:
    review = make_ask(1, now_ms(), break_glass="the index was down")
    await store.open_review(review, "00", 10, 3600)
    await desk.close_review(OPERATOR, review.id, "looked at it")
    assert list(await desk.reviews(OPERATOR)) == []
    (closed,) = await desk.reviews(OPERATOR, closed=True)
    assert (closed.closed_by, closed.closed_reason) == (OPERATOR.voter.person, "looked at it")


async def test_whoever_listens_hears_what_became_of_it(store: ApprovalStore, desk: Desk) -> None:
    ask = await opened(store, quorum=2)
    heard: list[str] = []
    async for events in desk.watch(person("ada"), "0-0"):
        heard += [event.kind for event in events]
        if heard == ["opened"]:
            await cast(desk, "ada", ask)
            await cast(desk, "bob", ask)
            await desk.withdraw(person("bob"), ask.id, record_digest(ask.encode()))
        if "withdrawn" in heard:
            break
    assert heard == ["opened", "voted", "approved", "withdrawn"]
