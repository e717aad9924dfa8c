"""An approval as it stands by its verified votes, and as one person sees it. Values only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

from rankgate.approvals import (
    OPEN,
    Ask,
    Objection,
    Preview,
    Review,
    Revocation,
    Standing,
    Stored,
    Vote,
    VoteKeys,
    Voter,
    objection,
    record_digest,
    tally,
)
from rankgate.console.people import Person, shown
from rankgate.console.views import Detail, Item, ReviewItem, VoteShown

__all__ = ["Sight", "detail_of", "item_of", "may_not_close", "review_of", "sees", "sight"]


@dataclass(frozen=True, slots=True)
class Sight:
    """A stored approval with what of it is signed by the console; `record` is the digest of its bytes."""

    stored: Stored
    record: str
    votes: tuple[Vote, ...]
    revocations: Mapping[str, Revocation]

    def standing(self, now_ms: int, votes: Iterable[Vote] | None = None) -> Standing:
        """Return where it stands at `now_ms` by its votes, or by `votes` in their place."""
        ask = self.stored.ask
        return tally(
            ask, self.stored.body, self.votes if votes is None else votes, caller=ask.caller,
            requirement=ask.requirement, revocations=self.revocations, now_ms=now_ms,
        )  # fmt: skip

    def votes_without(self, person: str) -> list[Vote]:
        """Return the votes of everybody else."""
        return [vote for vote in self.votes if vote.voter.person != person]

    def revoked(self, vote: Vote) -> bool:
        """Tell whether `vote` was revoked after it was cast."""
        revocation = self.revocations.get(vote.voter.person)
        return revocation is not None and vote.time_ms <= revocation.time_ms

    def vote_of(self, voter: Voter) -> Vote | None:
        """Return the vote that this human being cast, under this name or another, and that was not revoked."""
        names = {voter.person, *voter.names}
        return next(
            (vote for vote in self.votes if names & {vote.voter.person, *vote.voter.names} and not self.revoked(vote)),
            None,
        )


def sight(stored: Stored, keys: VoteKeys) -> Sight:
    """Verify what is signed of `stored`; what does not verify, or is about something else, is left out."""
    record = record_digest(stored.body)
    mine = (vote for vote in keys.votes(stored.votes) if vote.approval == stored.ask.id)
    votes = sorted(mine, key=lambda vote: vote.time_ms)
    return Sight(stored, record, tuple(votes), keys.revocations(stored.revocations))


def sees(person: Person, ask: Ask) -> bool:
    """Tell whether `person` may see `ask`: a role that sees everything, or a group of theirs that it names."""
    return person.may_view or not set(person.voter.groups).isdisjoint(ask.requirement.groups)


def item_of(person: Person, seen: Sight, now_ms: int) -> Item:
    """Return the approval as `person` sees it, without its preview."""
    stored, ask = seen.stored, seen.stored.ask
    standing = seen.standing(now_ms)
    state = standing.state if stored.state in OPEN else stored.state
    counted = {id(vote) for vote in (*standing.approvals, *([standing.denial] if standing.denial else []))}
    against = objection(ask.caller, ask.requirement, person.voter)
    own = seen.vote_of(person.voter)
    is_open = state in OPEN and now_ms < ask.expires_ms
    return Item(
        id=ask.id, state=state, opened_ms=ask.opened_ms, expires_ms=ask.expires_ms, changed_ms=stored.changed_ms,
        caller=ask.caller, route=ask.route, path=ask.path, upstream=ask.upstream, dialect=ask.dialect, model=ask.model,
        document_count=ask.document_count, total_chars=ask.total_chars, findings=ask.findings, risk=ask.risk,
        reasons=ask.reasons, policy_revision=ask.policy_revision, plan=ask.plan, requirement=ask.requirement,
        votes=tuple(
            VoteShown(
                shown(vote.voter), vote.choice, vote.reason, vote.time_ms,
                own=vote.voter.person == person.voter.person, counts=id(vote) in counted,
            )
            for vote in seen.votes
        ),
        needed=max(0, ask.requirement.quorum - len(standing.approvals)) if state in OPEN else 0,
        objection=None if against is None else against.value,
        may_vote=is_open and against is None and own is None,
        may_withdraw=is_open and own is not None and own.voter.person == person.voter.person,
        may_operate=person.may_operate,
        record=seen.record, decision_id=ask.decision_id, used_by=stored.used_by, note=stored.note,
    )  # fmt: skip


def detail_of(person: Person, seen: Sight, now_ms: int, preview: Preview | None) -> Detail:
    """Return the approval as `person` sees it, with `preview`."""
    item = item_of(person, seen, now_ms)
    return Detail(**{field.name: getattr(item, field.name) for field in fields(Item)}, preview=preview)


def review_of(person: Person, review: Review) -> ReviewItem:
    """Return a review item as `person` sees it."""
    ask = review.ask
    against = may_not_close(ask, person.voter)
    return ReviewItem(
        id=ask.id, opened_ms=ask.opened_ms, reason=ask.break_glass, caller=ask.caller, route=ask.route, path=ask.path,
        upstream=ask.upstream, dialect=ask.dialect, model=ask.model, document_count=ask.document_count,
        findings=ask.findings, risk=ask.risk, decision_id=ask.decision_id,
        objection=None if against is None else against.value,
        may_close=person.may_operate and against is None and not review.closed_ms,
        closed_by=review.closed_by, closed_reason=review.closed_reason, closed_ms=review.closed_ms,
    )  # fmt: skip


def may_not_close(ask: Ask, voter: Voter) -> Objection | None:
    """Return why `voter` may not close the review of `ask`: they called, or own what called. No group is needed."""
    against = objection(ask.caller, ask.requirement, voter)
    return None if against is Objection.GROUP else against
