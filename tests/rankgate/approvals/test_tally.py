"""Do votes amount to consent? Whose count, which count, for how long."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from typing import Any

import msgspec
import pytest
from fakes.asks import a_caller, an_ask
from hypothesis import given
from hypothesis import strategies as st

from rankgate.approvals import (
    Ask,
    Caller,
    Choice,
    Objection,
    Requirement,
    Revocation,
    Standing,
    State,
    Vote,
    Voter,
    objection,
    record_digest,
    tally,
)

CALLER = a_caller(names=("indexer", "ci-bot", "indexer@acme.test"))
NEEDED = Requirement(("risk", "legal"), 2, 900)
ASK = an_ask(opened_ms=0, expires_ms=900_000, requirement=NEEDED, caller=CALLER)


def a_voter(name: str = "ann", **changes: Any) -> Voter:
    members: dict[str, Any] = {
        "issuer": "https://people", "subject": name, "person": f"https://people {name}",
        "names": (name, f"{name}@acme.test"), "groups": ("risk",),
    }  # fmt: skip
    return Voter(**(members | changes))


def a_vote(voter: Voter | str = "ann", ask: Ask = ASK, **changes: Any) -> Vote:
    members: dict[str, Any] = {
        "approval": ask.id, "record": record_digest(ask.encode()), "use_digest": ask.use_digest,
        "plan_digest": ask.plan_digest, "requirement": ask.requirement, "choice": Choice.APPROVE, "reason": "",
        "voter": a_voter(voter) if isinstance(voter, str) else voter, "time_ms": 1000, "expires_ms": ask.expires_ms,
    }  # fmt: skip
    return Vote(**(members | changes))


def standing(
    *votes: Vote, ask: Ask = ASK, caller: Caller | None = None, requirement: Requirement | None = None,
    revocations: Mapping[str, Revocation] | None = None, now_ms: int = 2000,
) -> Standing:  # fmt: skip
    return tally(
        ask, ask.encode(), votes, caller=caller or ask.caller, requirement=requirement or ask.requirement,
        revocations=revocations or {}, now_ms=now_ms,
    )  # fmt: skip


def people(found: Standing) -> list[str]:
    return [vote.voter.subject for vote in found.approvals]


def test_as_many_different_people_as_are_needed_consent() -> None:
    ann, bob, eve = a_vote("ann", time_ms=3), a_vote(a_voter("bob", groups=("legal", "x")), time_ms=2), a_vote("eve")
    assert standing().state is standing(ann).state is State.PENDING
    found = standing(ann, bob)
    assert (found.state, people(found), found.denial) == (State.APPROVED, ["bob", "ann"], None)
    assert people(standing(ann, bob, eve)) == ["bob", "ann", "eve"]


@pytest.mark.parametrize("name", ["indexer", "ci-bot", "indexer@acme.test", "CI-Bot", "Indexer@ACME.test"])
def test_nobody_agrees_to_what_they_asked_for_under_any_name(name: str) -> None:
    voter = a_voter("eve", names=("eve", name))
    assert objection(CALLER, NEEDED, voter) is Objection.SELF
    assert objection(a_caller(names=tuple(each.upper() for each in CALLER.names)), NEEDED, voter) is Objection.SELF
    assert people(standing(a_vote("ann"), a_vote(voter))) == ["ann"]


WRITTEN = ["jos\u00e9@acme.test", "jose\u0301@acme.test", "JOSE\u0301@acme.test", "\uff4aos\u00e9@acme.test"]


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("written", WRITTEN)
def test_a_name_is_the_same_name_however_its_characters_are_written(name: str, written: str) -> None:
    voter = a_voter("eve", names=(name,))
    assert objection(a_caller(names=(written,)), NEEDED, voter) is Objection.SELF
    assert objection(a_caller(owner_people=(written,)), NEEDED, voter) is Objection.OWNER
    twice = a_voter("eve2", names=(written,), groups=("legal",))
    assert len(standing(a_vote(voter), a_vote(twice, time_ms=2)).approvals) == 1


def test_an_owner_who_is_known_by_the_subject_alone_does_not_agree() -> None:
    voter = a_voter("u-4711", names=())
    assert objection(a_caller(owner_people=("u-4711",)), NEEDED, voter) is Objection.OWNER


def test_a_group_that_owns_the_machine_is_the_same_group_in_other_letters() -> None:
    caller = a_caller(owner_groups=("Search-Team",))
    assert objection(caller, NEEDED, a_voter("eve", groups=("risk", "search-team"))) is Objection.OWNER


def test_the_subject_itself_and_a_person_named_so_do_not_agree() -> None:
    same = a_voter("x", issuer=CALLER.issuer, subject=CALLER.subject)
    assert objection(CALLER, NEEDED, same) is Objection.SELF
    assert objection(CALLER, NEEDED, a_voter("x", person="CI-bot")) is Objection.SELF
    # The same subject of another issuer is somebody else.
    assert objection(a_caller(names=()), NEEDED, a_voter("indexer")) is None


@pytest.mark.parametrize(
    "changes", [{"names": ("olga@acme.test",)}, {"names": ("Olga@Acme.Test",)}, {"groups": ("risk", "platform")}]
)
def test_nobody_agrees_for_a_machine_they_own(changes: dict[str, Any]) -> None:
    voter = a_voter("eve", **changes)
    assert objection(CALLER, NEEDED, voter) is Objection.OWNER
    assert people(standing(a_vote("ann"), a_vote(voter))) == ["ann"]


@pytest.mark.parametrize("groups", [(), ("riskier",), ("RISK",), ("ris", "legals")])
def test_who_is_in_none_of_the_groups_does_not_count_either_way(groups: tuple[str, ...]) -> None:
    voter = a_voter("eve", groups=groups)
    assert objection(CALLER, NEEDED, voter) is Objection.GROUP
    assert standing(a_vote(voter), a_vote(voter, choice=Choice.DENY)).state is State.PENDING


def test_owners_of_today_and_of_then_do_not_agree() -> None:
    votes = a_vote("ann"), a_vote("eve")
    assert people(standing(*votes, caller=a_caller(owner_people=("eve",)))) == ["ann"]
    before = an_ask(requirement=NEEDED, caller=a_caller(owner_people=("eve",)), expires_ms=900_000)
    votes = a_vote("ann", before), a_vote("eve", before)
    assert people(standing(*votes, ask=before, caller=a_caller(owner_people=()))) == ["ann"]


@pytest.mark.parametrize(
    "second",
    [
        a_voter("ann"),
        a_voter("ann", groups=("legal",)),
        a_voter("ann2", names=("ann2", "ann@acme.test")),
        a_voter("ann2", names=("ANN@acme.test",)),
        a_voter("ann2", person="https://people ann"),
        a_voter("ann", person="p2", names=("else",)),
        a_voter("ann2", issuer="https://other", names=("https://people ann",)),
    ],
)
def test_one_person_counts_once_through_whatever_account_or_group(second: Voter) -> None:
    found = standing(a_vote("ann", time_ms=1), a_vote(second, time_ms=2))
    assert (found.state, len(found.approvals)) == (State.PENDING, 1)
    assert found.approvals[0].time_ms == 1


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_two_accounts_that_a_third_shows_to_be_one_person_count_once_in_any_order(order: tuple[int, ...]) -> None:
    voters = [a_voter("a1"), a_voter("a2"), a_voter("a3", names=("a3", "a1@acme.test", "a2@acme.test"))]
    votes = [a_vote(voters[place], time_ms=time) for time, place in enumerate(order)]
    assert standing(*votes).state is State.PENDING


def test_one_denial_of_somebody_who_may_vote_is_enough_at_any_time() -> None:
    no = a_vote("bob", choice=Choice.DENY, time_ms=1)
    for now in (2000, 10**9):
        found = standing(a_vote("ann"), a_vote("eve"), no, now_ms=now)
        assert (found.state, found.denial, found.approvals) == (State.DENIED, no, ())
    owner = a_voter("olga")
    assert standing(a_vote(owner, choice=Choice.DENY)).state is State.PENDING


@pytest.mark.parametrize(
    "changes",
    [
        {"approval": "apr-other"}, {"record": "0" * 64}, {"use_digest": "other"}, {"plan_digest": "other"},
        {"requirement": Requirement(("risk", "legal"), 1, 900)}, {"requirement": Requirement(("risk",), 2, 900)},
        {"expires_ms": 900_001},
    ],
)  # fmt: skip
@pytest.mark.parametrize("choice", list(Choice))
def test_a_vote_about_anything_else_is_none(changes: dict[str, Any], choice: Choice) -> None:
    found = standing(a_vote("ann"), a_vote("bob", choice=choice, **changes))
    assert (found.state, people(found)) == (State.PENDING, ["ann"])


def test_votes_are_about_the_bytes_that_are_stored() -> None:
    body = ASK.encode()[:-1] + b',"newer":1}'
    votes = [a_vote(name, record=record_digest(body)) for name in ("ann", "bob")]
    arguments: dict[str, Any] = {"caller": CALLER, "requirement": NEEDED, "revocations": {}, "now_ms": 2000}
    assert tally(Ask.decode(body), body, votes, **arguments).state is State.APPROVED
    assert tally(ASK, ASK.encode(), votes, **arguments).state is State.PENDING


@pytest.mark.parametrize(
    ("today", "enough"),
    [
        (NEEDED, True),
        (Requirement(("legal", "risk", "more"), 1, 3600), True),
        (Requirement(("risk",), 2, 900), False),
        (Requirement(("risk", "legal"), 3, 900), False),
        (Requirement(("risk", "legal"), 2, 899), False),
        (Requirement((), 2, 900), False),
    ],
)
def test_consent_to_less_than_is_needed_today_is_none(today: Requirement, enough: bool) -> None:
    votes = a_vote("ann"), a_vote("bob")
    assert standing(*votes, requirement=today).state is (State.APPROVED if enough else State.PENDING)
    # Who said no said no to all of it.
    if today.groups:
        assert standing(*votes, a_vote("eve", choice=Choice.DENY), requirement=today).state is State.DENIED


def test_a_revoked_person_counts_only_by_what_they_said_since() -> None:
    gone = Revocation(person="https://people bob", reason="", by="ann", time_ms=1000)
    revoked = {gone.person: gone}
    for choice in Choice:
        for time, counts in ((999, False), (1000, False), (1001, True)):
            found = standing(a_vote("ann"), a_vote("bob", choice=choice, time_ms=time), revocations=revoked)
            after = State.APPROVED if choice is Choice.APPROVE else State.DENIED
            assert found.state is (after if counts else State.PENDING)


def test_consent_ends_on_the_millisecond() -> None:
    votes = a_vote("ann"), a_vote("bob")
    found = standing(*votes, now_ms=899_999)
    assert found.state is State.APPROVED and found.usable(899_999) and not found.usable(900_000)
    assert standing(*votes, now_ms=900_000).state is State.EXPIRED
    assert not standing(*votes, now_ms=900_000).usable(0)


def test_consent_may_be_used_when_all_who_gave_it_say_so() -> None:
    found = standing(
        a_vote("ann", use_from_ms=10, use_until_ms=500), a_vote("bob", use_from_ms=20), a_vote("eve", use_until_ms=100),
        now_ms=0,
    )  # fmt: skip
    assert (found.use_from_ms, found.use_until_ms) == (20, 100)
    assert [found.usable(now) for now in (19, 20, 99, 100)] == [False, True, True, False]
    assert standing(a_vote("ann"), a_vote("bob", use_until_ms=10**9)).use_until_ms == 900_000
    assert not standing(a_vote("ann")).usable(2000)


def test_consent_that_nobody_may_use_any_more_is_over() -> None:
    votes = a_vote("ann"), a_vote("bob", use_until_ms=100)
    assert [standing(*votes, now_ms=now).state for now in (99, 100)] == [State.APPROVED, State.EXPIRED]
    # A refusal stays one.
    assert standing(*votes, a_vote("eve", choice=Choice.DENY), now_ms=100).state is State.DENIED


VOTES = st.builds(
    a_vote,
    st.builds(
        a_voter,
        st.sampled_from("abcde"),
        names=st.lists(st.sampled_from(["a@x", "b@x", "c@x", "indexer"]), max_size=2).map(tuple),
        groups=st.lists(st.sampled_from(["risk", "legal", "platform", "none"]), max_size=2).map(tuple),
    ),
    choice=st.sampled_from([Choice.APPROVE, Choice.APPROVE, Choice.APPROVE, Choice.DENY]),
    use_digest=st.sampled_from([ASK.use_digest, ASK.use_digest, "other"]),
    time_ms=st.integers(0, 5),
)


@given(st.lists(VOTES, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_votes_changes_nothing_and_a_repetition_adds_nothing(votes: list[Vote], chance: Any) -> None:
    other = [*votes, *chance.choices(votes, k=2)] if votes else []
    chance.shuffle(other)
    one, again = standing(*votes), standing(*other)
    assert (one.state, len(one.approvals)) == (again.state, len(again.approvals))


@given(st.lists(VOTES, max_size=6))
def test_consent_is_of_as_many_people_none_of_whom_may_not_vote(votes: list[Vote]) -> None:
    found = standing(*votes)
    if found.state is State.APPROVED:
        assert len({vote.voter.person for vote in found.approvals}) == len(found.approvals) >= 2
        assert all(objection(CALLER, NEEDED, vote.voter) is None for vote in found.approvals)
        named = [name for vote in found.approvals for name in set(vote.voter.names)]
        assert len(named) == len(set(named))


def test_a_statement_loses_nothing_on_its_way() -> None:
    vote = a_vote("ann")
    assert msgspec.json.decode(msgspec.json.encode(vote), type=Vote) == vote
