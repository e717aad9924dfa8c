"""Do these votes amount to consent? The same answer at the console, for people, and at the gate, for use."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from rankgate.approvals.ask import Ask, Caller, Requirement, record_digest
from rankgate.approvals.states import State
from rankgate.approvals.votes import Choice, Revocation, Vote, Voter

__all__ = ["Objection", "Standing", "objection", "tally"]


class Objection(StrEnum):
    """Why somebody may not vote on an Ask."""

    SELF = "self"
    OWNER = "owner"
    GROUP = "group"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an Ask stands by the votes that count. `approvals` are of different people, in order of time."""

    state: State
    approvals: tuple[Vote, ...] = ()
    denial: Vote | None = None
    use_from_ms: int = 0
    use_until_ms: int = 0

    def usable(self, now_ms: int) -> bool:
        """Tell whether consent may be used now."""
        return self.state is State.APPROVED and self.use_from_ms <= now_ms < self.use_until_ms


def objection(caller: Caller, requirement: Requirement, voter: Voter) -> Objection | None:
    """Return why `voter` may not vote on a request of `caller`; None where nothing stands against it.

    Nobody agrees to what they themselves asked for, under whatever name, nor for a machine they own.
    """
    names = _names(voter)
    if names & _folded(caller.names) or (voter.issuer, voter.subject) == (caller.issuer, caller.subject):
        return Objection.SELF
    # Settings name owners by their subjects too, and no issuer with them.
    owners, teams = _folded(caller.owner_people), _folded(caller.owner_groups)
    if (names | _folded([voter.subject])) & owners or _folded(voter.groups) & teams:
        return Objection.OWNER
    if not set(voter.groups) & set(requirement.groups):
        return Objection.GROUP
    return None


def tally(
    ask: Ask, body: bytes, votes: Iterable[Vote], *, caller: Caller, requirement: Requirement,
    revocations: Mapping[str, Revocation], now_ms: int,
) -> Standing:  # fmt: skip
    """Return where `ask` stands. `votes` are verified; those about anything else than `ask` do not count.

    `body` are the bytes of `ask` as they are stored: a newer gate may have written more than this one reads.

    `caller` and `requirement` are today's: who may not agree, and what is needed, may have changed since the asking.
    One refusal of somebody who may vote is enough. `revocations` are by person.
    """
    record = record_digest(body)
    counted = sorted(
        (vote for vote in votes if _counts(ask, record, vote, caller, requirement, revocations)),
        key=lambda vote: vote.time_ms,
    )
    denial = next((vote for vote in counted if vote.choice is Choice.DENY), None)
    if denial is not None:
        return Standing(State.DENIED, denial=denial)
    approvals = _of_different_people([vote for vote in counted if vote.choice is Choice.APPROVE])
    if now_ms >= ask.expires_ms:
        return Standing(State.EXPIRED, approvals)
    if len(approvals) < requirement.quorum:
        return Standing(State.PENDING, approvals)
    since = max(vote.use_from_ms or 0 for vote in approvals)
    until = min([ask.expires_ms, *(vote.use_until_ms for vote in approvals if vote.use_until_ms is not None)])
    # Consent that nobody may use any more is over, so that the same can be asked for again.
    state = State.APPROVED if now_ms < until else State.EXPIRED
    return Standing(state, approvals, use_from_ms=since, use_until_ms=until)


def _counts(
    ask: Ask, record: str, vote: Vote, caller: Caller, requirement: Requirement, revocations: Mapping[str, Revocation]
) -> bool:
    revoked = revocations.get(vote.voter.person)
    return (
        (vote.approval, vote.record, vote.use_digest, vote.plan_digest)
        == (ask.id, record, ask.use_digest, ask.plan_digest)
        and (vote.requirement, vote.expires_ms) == (ask.requirement, ask.expires_ms)
        and (vote.choice is Choice.DENY or vote.requirement.covers(requirement))
        and objection(caller, requirement, vote.voter) is None
        and objection(ask.caller, ask.requirement, vote.voter) is None
        and (revoked is None or vote.time_ms > revoked.time_ms)
    )


def _of_different_people(votes: Iterable[Vote]) -> tuple[Vote, ...]:
    """Return the first vote of each person. Who share a name are one, also where only a third vote shows it."""
    people: list[tuple[frozenset[str], Vote]] = []
    for vote in votes:
        names, first, others = _names(vote.voter), vote, []
        for known, earlier in people:
            if known & names:
                names |= known
                first = min(first, earlier, key=lambda each: each.time_ms)
            else:
                others.append((known, earlier))
        people = [*others, (names, first)]
    return tuple(sorted((vote for _, vote in people), key=lambda vote: vote.time_ms))


def _names(voter: Voter) -> frozenset[str]:
    return _folded((f"{voter.issuer} {voter.subject}", voter.person, *voter.names))


def _folded(names: Iterable[str]) -> frozenset[str]:
    """Return names as they are compared: one name however it is written (UAX 15, compatibility caseless matching)."""
    return frozenset(_normal(_normal(name).casefold()) for name in names)


def _normal(name: str) -> str:
    return unicodedata.normalize("NFKC", name)
