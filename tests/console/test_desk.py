"""What people may do at the desk, and what becomes of it."""

from __future__ import annotations

import msgspec
import pytest
from fakes.desk import NOW_MS, Table, person
from fakes.desk_store import make_ask

from rankgate.approvals import Ask, Choice, Requirement, Revocation, State, Vote, record_digest
from rankgate.console.desk import LISTENERS, LOOKS
from rankgate.console.people import Role
from rankgate.console.refusals import Refusal, RefusedError
from rankgate.errors import GateError, Reason

APPROVE, DENY = Choice.APPROVE, Choice.DENY


@pytest.fixture
def table() -> Table:
    return Table()


def put(table: Table, number: int = 1, *, quorum: int = 1, **members: object) -> Ask:
    requirement = members.pop("requirement", Requirement(("approvers",), quorum=quorum))
    ask = make_ask(number, requirement=requirement, **members)
    table.store.put(ask)
    return ask


def record(ask: Ask) -> str:
    return record_digest(ask.encode())


async def refused(doing: object) -> Refusal:
    with pytest.raises(RefusedError) as refusal:
        await doing  # type: ignore[misc]
    return refusal.value.refusal


async def test_the_vote_of_one_is_enough_where_one_is_needed_and_a_gate_can_verify_it(table: Table) -> None:
    ask = put(table)
    detail = await table.desk.vote(person(), ask.id, record(ask), APPROVE, " fine\r\nby me ")
    assert (detail.state, detail.needed, detail.may_vote, detail.may_withdraw) == (State.APPROVED, 0, False, True)
    vote = table.keys.vote(table.store.approvals[ask.id].votes[0])
    assert vote is not None
    assert (vote.record, vote.use_digest, vote.plan_digest) == (record(ask), ask.use_digest, ask.plan_digest)
    assert (vote.choice, vote.reason, vote.voter, vote.expires_ms) == (
        APPROVE, "fine\nby me", person().voter, ask.expires_ms,
    )  # fmt: skip


async def test_two_different_people_are_two(table: Table) -> None:
    ask = put(table, quorum=2)
    first = await table.desk.vote(person("ada"), ask.id, record(ask), APPROVE, "yes")
    assert (first.state, first.needed) == (State.PENDING, 1)
    second = await table.desk.vote(person("bob"), ask.id, record(ask), APPROVE, "yes")
    assert (second.state, [vote.person for vote in second.votes]) == (
        State.APPROVED, ["ada@acme.example", "bob@acme.example"],
    )  # fmt: skip
    assert [vote.own for vote in second.votes] == [False, True]


async def test_nobody_votes_twice_also_not_under_another_name(table: Table) -> None:
    ask = put(table, quorum=2)
    await table.desk.vote(person("ada"), ask.id, record(ask), APPROVE, "yes")
    again = table.desk.vote(person("ada"), ask.id, record(ask), APPROVE, "yes")
    assert await refused(again) is Refusal.ALREADY_VOTED
    alias = person("ada.2", names=("ada@acme.example",))
    assert await refused(table.desk.vote(alias, ask.id, record(ask), APPROVE, "yes")) is Refusal.ALREADY_VOTED
    assert table.store.approvals[ask.id].state is State.PENDING


async def test_one_refusal_denies_also_after_consent(table: Table) -> None:
    ask = put(table)
    await table.desk.vote(person("ada"), ask.id, record(ask), APPROVE, "yes")
    detail = await table.desk.vote(person("bob"), ask.id, record(ask), DENY, "no")
    assert detail.state is State.DENIED
    late = table.desk.vote(person("cyd"), ask.id, record(ask), APPROVE, "yes")
    assert await refused(late) is Refusal.CLOSED


@pytest.mark.parametrize(
    ("voter", "word"),
    [
        (person("search", names=()), Refusal.GROUP),
        (person("nina", "cooks", roles=(Role.VIEW,)), Refusal.GROUP),
        (person("sam", names=("sam@acme.example", "search@acme.example")), Refusal.SELF),
        (person("search", issuer="https://machines.example", names=()), Refusal.SELF),
        (person("olga"), Refusal.OWNER),
        (person("omar", "approvers", "search-owners"), Refusal.OWNER),
    ],
    ids=["no group", "role but no group", "self by alias", "self by subject", "owner", "owner by group"],
)
async def test_who_asked_owns_or_was_not_asked_cannot_vote(table: Table, voter: object, word: Refusal) -> None:
    ask = put(table)
    if voter.voter.subject == "search" and word is Refusal.GROUP:  # type: ignore[attr-defined]
        voter = person("search", "cooks", names=(), roles=(Role.VIEW,))
    for choice in Choice:
        assert await refused(table.desk.vote(voter, ask.id, record(ask), choice, "x")) is word  # type: ignore[arg-type]
    assert (await table.desk.show(voter, ask.id)).objection == word.value  # type: ignore[arg-type]
    assert table.journal.kinds == []


async def test_what_names_no_group_of_a_person_is_not_there_for_them(table: Table) -> None:
    ask = put(table)
    outsider = person("nina", "cooks")
    assert await refused(table.desk.show(outsider, ask.id)) is Refusal.NOT_FOUND
    assert await refused(table.desk.vote(outsider, ask.id, record(ask), APPROVE, "x")) is Refusal.NOT_FOUND
    assert await table.desk.listing(outsider) == []
    assert len(await table.desk.listing(person("vera", "viewers", roles=(Role.VIEW,)))) == 1


async def test_a_login_older_than_allowed_cannot_vote(table: Table) -> None:
    ask = put(table)
    stale = person(logged_in_ms=NOW_MS - 3_600_001)
    assert await refused(table.desk.vote(stale, ask.id, record(ask), APPROVE, "x")) is Refusal.LOGIN_STALE
    fresh = person(logged_in_ms=NOW_MS - 3_600_000)
    assert (await table.desk.vote(fresh, ask.id, record(ask), APPROVE, "x")).state is State.APPROVED


@pytest.mark.parametrize("reason", ["", "  \n ", "x" * 1001, "a\x00b", "a\u202eb", "a\tb"])
async def test_a_reason_is_1_to_1000_printable_characters(table: Table, reason: str) -> None:
    ask = put(table)
    assert await refused(table.desk.vote(person(), ask.id, record(ask), APPROVE, reason)) is Refusal.REASON_INVALID
    assert table.store.approvals[ask.id].votes == ()


async def test_a_vote_on_anything_but_what_was_shown_is_refused(table: Table) -> None:
    ask = put(table)
    shown = (await table.desk.show(person(), ask.id)).record
    table.store.put(msgspec.structs.replace(ask, document_count=4))
    assert await refused(table.desk.vote(person(), ask.id, shown, APPROVE, "x")) is Refusal.RECORD_CHANGED


async def test_bytes_that_say_something_else_than_what_was_read_are_not_shown(table: Table) -> None:
    import dataclasses

    ask = put(table)
    other = make_ask(1, path="/v1/rerank").encode()
    table.store.approvals[ask.id] = dataclasses.replace(table.store.approvals[ask.id], body=other)
    assert await refused(table.desk.show(person(), ask.id)) is Refusal.NOT_FOUND


async def test_members_that_a_newer_gate_wrote_are_part_of_what_is_agreed_to(table: Table) -> None:
    import dataclasses

    ask = put(table)
    newer = ask.encode()[:-1] + b',"new_member":1}'
    table.store.approvals[ask.id] = dataclasses.replace(table.store.approvals[ask.id], body=newer)
    detail = await table.desk.vote(person(), ask.id, record_digest(newer), APPROVE, "x")
    assert detail.state is State.APPROVED


async def test_nothing_is_voted_on_after_its_time(table: Table) -> None:
    ask = put(table)
    table.now_ms = ask.expires_ms
    voter = person(logged_in_ms=ask.expires_ms)
    assert await refused(table.desk.vote(voter, ask.id, record(ask), APPROVE, "x")) is Refusal.CLOSED
    (item,) = await table.desk.listing(voter)
    assert (item.state, item.may_vote) == (State.EXPIRED, False)
    table.store.now_ms = ask.expires_ms
    assert await table.desk.expire_due() == 1
    assert await table.desk.listing(voter) == []


async def test_what_others_change_meanwhile_is_looked_at_again(table: Table) -> None:
    ask = put(table, quorum=2)

    async def bob_is_first() -> None:
        table.store.meddle = None
        await table.desk.vote(person("bob"), ask.id, record(ask), APPROVE, "yes")

    table.store.meddle = bob_is_first
    detail = await table.desk.vote(person("ada"), ask.id, record(ask), APPROVE, "yes")
    assert (detail.state, len(detail.votes)) == (State.APPROVED, 2)
    assert table.journal.kinds.count("vote") == 2


async def test_a_vote_against_a_refusal_that_came_first_is_refused(table: Table) -> None:
    ask = put(table)

    async def bob_refuses() -> None:
        table.store.meddle = None
        await table.desk.vote(person("bob"), ask.id, record(ask), DENY, "no")

    table.store.meddle = bob_refuses
    assert await refused(table.desk.vote(person("ada"), ask.id, record(ask), APPROVE, "x")) is Refusal.CLOSED
    assert table.store.approvals[ask.id].state is State.DENIED


async def test_a_withdrawn_vote_is_gone_and_the_approval_waits_again(table: Table) -> None:
    ask = put(table)
    await table.desk.vote(person(), ask.id, record(ask), APPROVE, "yes")
    detail = await table.desk.withdraw(person(), ask.id, record(ask))
    assert (detail.state, detail.votes, detail.may_vote) == (State.PENDING, (), True)
    assert await refused(table.desk.withdraw(person(), ask.id, record(ask))) is Refusal.NO_VOTE
    assert await refused(table.desk.withdraw(person("bob"), ask.id, record(ask))) is Refusal.NO_VOTE


async def test_a_revocation_undoes_consent_everywhere_and_lets_the_person_vote_anew(table: Table) -> None:
    operator = person("otto", "operators", roles=(Role.OPERATE,))
    asks = [put(table, 1), put(table, 2, quorum=2), put(table, 3)]
    for ask in asks:
        await table.desk.vote(person("ada"), ask.id, record(ask), APPROVE, "yes")
    await table.desk.withdraw(person("ada"), asks[2].id, record(asks[2]))
    table.now_ms += 1
    revoked = await table.desk.revoke(operator, "ADA@acme.example", "laptop lost")
    assert (revoked.people, revoked.approvals) == (("https://people.example ada",), 1)
    assert [table.store.approvals[ask.id].state for ask in asks] == [State.PENDING] * 3
    detail = await table.desk.show(person("ada"), asks[0].id)
    assert [vote.counts for vote in detail.votes] == [False]
    table.now_ms += 1
    assert (await table.desk.vote(person("ada"), asks[0].id, record(asks[0]), APPROVE, "me")).state is State.APPROVED
    statement = table.keys.revocation(table.store.revocations[0])
    assert statement == Revocation(
        person="https://people.example ada", reason="laptop lost", by=operator.voter.person, time_ms=NOW_MS + 1
    )


async def test_rights_that_no_approval_gives_need_the_role(table: Table) -> None:
    ask = put(table)
    table.store.put_review(make_ask(9, break_glass="the index was down"))
    for one in (person(), person("vera", "approvers", roles=(Role.VIEW,))):
        assert await refused(table.desk.cancel(one, ask.id, "x")) is Refusal.ROLE_MISSING
        assert await refused(table.desk.revoke(one, "ada", "x")) is Refusal.ROLE_MISSING
        assert await refused(table.desk.close_review(one, make_ask(9).id, "x")) is Refusal.ROLE_MISSING
    operator = person("otto", roles=(Role.OPERATE,))
    assert await refused(table.desk.revoke(operator, "nobody", "x")) is Refusal.PERSON_UNKNOWN
    detail = await table.desk.cancel(operator, ask.id, "not needed")
    assert (detail.state, detail.note) == (State.CANCELLED, "not needed")
    assert await refused(table.desk.cancel(operator, ask.id, "x")) is Refusal.CLOSED


async def test_a_review_is_closed_once_and_never_by_who_called_or_owns_the_machine(table: Table) -> None:
    review = make_ask(9, break_glass="the index was down")
    table.store.put_review(review)
    for name, groups, word in (
        ("olga", ("operators",), Refusal.OWNER),
        ("sam", ("search-owners",), Refusal.OWNER),
    ):
        owner = person(name, *groups, roles=(Role.OPERATE,))
        assert await refused(table.desk.close_review(owner, review.id, "fine")) is word
        assert [one.may_close for one in await table.desk.reviews(owner)] == [False]
    operator = person("otto", "operators", roles=(Role.OPERATE,))
    await table.desk.close_review(operator, review.id, "looked at it")
    assert await refused(table.desk.close_review(operator, review.id, "again")) is Refusal.CLOSED
    assert await refused(table.desk.close_review(operator, "apr-other", "again")) is Refusal.NOT_FOUND
    (closed,) = await table.desk.reviews(operator, closed=True)
    assert (closed.closed_by, closed.closed_reason) == (operator.voter.person, "looked at it")


async def test_a_look_shows_no_preview_and_a_review_is_shown_to_those_who_see_it(table: Table) -> None:
    ask, review = put(table, preview=table.sealed()), make_ask(9, break_glass="the index was down")
    table.store.put_review(review)
    item = await table.desk.look(person(), ask.id)
    assert item.id == ask.id and not hasattr(item, "preview") and not table.journal.kinds
    assert (await table.desk.review(person(), review.id)).reason == "the index was down"
    for hidden in (table.desk.look(person("eve", "others"), ask.id), table.desk.review(person("eve", "x"), review.id)):
        assert await refused(hidden) is Refusal.NOT_FOUND


async def test_the_journal_holds_a_vote_before_the_store_does(table: Table) -> None:
    ask = put(table)
    seen: list[list[str]] = []

    async def look() -> None:
        seen.append(list(table.journal.kinds))

    table.store.meddle = look
    await table.desk.vote(person(), ask.id, record(ask), APPROVE, "yes")
    assert seen == [["vote"]]
    assert table.journal.kinds == ["vote", "vote_outcome"]
    assert table.journal.entries[0][2]["reason"] == "yes"


async def test_what_cannot_be_journaled_does_not_happen(table: Table) -> None:
    ask, operator = put(table, preview=table.sealed()), person("otto", roles=(Role.OPERATE,))
    table.store.put_review(make_ask(9, break_glass="x"))
    await table.desk.vote(person("bob"), ask.id, record(ask), APPROVE, "yes")
    before, revocations = table.store.approvals[ask.id], list(table.store.revocations)
    table.journal.full = RefusedError(Refusal.JOURNAL_UNAVAILABLE)
    for doing in (
        table.desk.vote(person(), ask.id, record(ask), DENY, "no"),
        table.desk.withdraw(person("bob"), ask.id, record(ask)),
        table.desk.cancel(operator, ask.id, "x"),
        table.desk.revoke(operator, "bob", "x"),
        table.desk.close_review(operator, make_ask(9).id, "x"),
        table.desk.show(person(), ask.id),
    ):
        assert await refused(doing) is Refusal.JOURNAL_UNAVAILABLE
    assert table.store.approvals[ask.id] == before
    assert table.store.revocations == revocations
    assert not table.store.review_items[make_ask(9).id].closed_ms


async def test_who_looked_at_a_preview_is_journaled_without_its_text(table: Table) -> None:
    ask = put(table, preview=table.sealed("who is <PERSON>?"))
    detail = await table.desk.show(person(), ask.id)
    assert detail.preview is not None
    assert detail.preview.query == "who is <PERSON>?"
    assert table.journal.entries == [("preview_viewed", person().voter.person, {"approval": ask.id})]


async def test_nobody_fills_the_journal_by_looking_and_votes_all_the_same(table: Table) -> None:
    ask = put(table, preview=table.sealed("who is <PERSON>?"))
    for _ in range(LOOKS):
        await table.desk.show(person("eve"), ask.id)
    assert await refused(table.desk.show(person("eve"), ask.id)) is Refusal.RATE_LIMITED
    assert len(table.journal.entries) == LOOKS
    assert (await table.desk.vote(person("eve"), ask.id, record(ask), DENY, "no")).state is State.DENIED
    assert (await table.desk.show(person("ada"), ask.id)).preview is not None


async def test_nobody_takes_every_connection_to_the_store_by_listening(table: Table) -> None:
    put(table)
    listening = [table.desk.watch(person("eve"), "0") for _ in range(LISTENERS + 1)]
    for one in listening[:-1]:
        await anext(one)
    assert await refused(anext(listening[-1])) is Refusal.RATE_LIMITED
    await anext(table.desk.watch(person("ada"), "0"))
    await listening[0].aclose()
    await anext(table.desk.watch(person("eve"), "0"))


async def test_a_preview_sealed_to_another_key_is_none(table: Table) -> None:
    ask = put(table, preview=Table().sealed())
    assert (await table.desk.show(person(), ask.id)).preview is None


async def test_only_what_the_console_signed_counts_whatever_the_store_says(table: Table) -> None:
    ask = make_ask()
    forger = Table()
    forged = forger.signer.sign(
        Vote(
            approval=ask.id, record=record(ask), use_digest=ask.use_digest, plan_digest=ask.plan_digest,
            requirement=ask.requirement, voter=person().voter, choice=APPROVE, reason="x", time_ms=NOW_MS,
            expires_ms=ask.expires_ms,
        )
    )  # fmt: skip
    table.store.put(ask, State.APPROVED, votes=(forged, "nonsense"))
    detail = await table.desk.show(person(), ask.id)
    assert (detail.state, detail.votes, detail.may_vote) == (State.PENDING, (), True)


async def test_consent_can_be_limited_in_time(table: Table) -> None:
    ask = put(table)
    await table.desk.vote(person(), ask.id, record(ask), APPROVE, "quickly", use_within_s=60)
    vote = table.keys.vote(table.store.approvals[ask.id].votes[0])
    assert vote is not None
    assert vote.use_until_ms == NOW_MS + 60_000
    other = put(table, 2)
    assert await refused(table.desk.vote(person(), other.id, record(other), APPROVE, "x", 0)) is Refusal.INPUT_INVALID


async def test_consent_that_nobody_used_in_time_is_closed_so_that_the_same_can_be_asked_again(table: Table) -> None:
    short, long = put(table), put(table, 2)
    await table.desk.vote(person(), short.id, record(short), APPROVE, "quickly", use_within_s=60)
    await table.desk.vote(person(), long.id, record(long), APPROVE, "at leisure")
    table.now_ms += 59_999
    assert await table.desk.expire_due() == 0
    table.now_ms += 1
    assert (await table.desk.look(person(), short.id)).state is State.EXPIRED
    assert await table.desk.expire_due() == 1
    assert [table.store.approvals[one.id].state for one in (short, long)] == [State.EXPIRED, State.APPROVED]
    assert await table.desk.expire_due() == 0


async def test_a_store_that_is_away_is_said_to_be_away(table: Table) -> None:
    ask = put(table)
    table.store.failing = GateError(Reason.APPROVAL_STORE_UNAVAILABLE)
    for doing in (
        table.desk.listing(person()), table.desk.show(person(), ask.id),
        table.desk.vote(person(), ask.id, record(ask), APPROVE, "x"),
    ):  # fmt: skip
        assert await refused(doing) is Refusal.STORE_UNAVAILABLE


async def test_a_list_goes_on_behind_what_a_person_does_not_see(table: Table) -> None:
    for number in range(1, 151):
        put(table, number, requirement=Requirement(("cooks",)))
    ask = make_ask(1, now_ms=NOW_MS - 1000)
    table.store.put(ask)
    assert [item.id for item in await table.desk.listing(person(), limit=1)] == [ask.id]


async def test_people_hear_of_changes_to_what_they_may_see_and_of_nothing_else(table: Table) -> None:
    mine, other = put(table, 1), put(table, 2, requirement=Requirement(("cooks",)))
    table.store.put_review(make_ask(9, break_glass="x"))
    async for events in table.desk.watch(person(), "0"):
        assert [(event.kind, event.approval) for event in events] == [("opened", mine.id)]
        break
    viewer = person("vera", "viewers", roles=(Role.VIEW,))
    async for events in table.desk.watch(viewer, "0"):
        assert {event.approval for event in events} == {mine.id, other.id, make_ask(9).id}
        break
