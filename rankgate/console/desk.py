"""The desk: the only place that decides what a person may do with an approval.

A vote is checked against the stored record, the verified votes and the revocations; it is signed here, written to the
journal, and only then kept. Every gate checks it again, so nothing here makes consent of what is none.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import structlog

from rankgate.approvals import (
    OPEN,
    Ask,
    Change,
    Choice,
    DeskStore,
    Event,
    Objection,
    Opener,
    Preview,
    Review,
    Revocation,
    Signer,
    State,
    Stored,
    Vote,
    VoteKeys,
    objection,
)
from rankgate.console.pace import Pace
from rankgate.console.people import Person
from rankgate.console.refusals import Refusal, RefusedError
from rankgate.console.sight import Sight, detail_of, item_of, may_not_close, review_of, sees, sight
from rankgate.console.views import Detail, Item, ReviewItem, Revoked
from rankgate.errors import GateError

__all__ = ["Book", "Desk", "Shelf", "told_reason"]

log = structlog.get_logger(__name__)

REASON_CHARS = 1000
ATTEMPTS = 5
# A person without a role is looked for among this many, so that no list reads the whole history.
SCAN = 1000
PAGE = 100
EVERY = 10_000
# Each look at a preview is an entry of the journal, and a journal that is full ends every vote.
LOOKS, LOOKS_S = 120, 60
# Each that listens takes a connection to the store.
LISTENERS = 16


class Shelf(DeskStore, Protocol):
    """A DeskStore that also closes what nobody decided in time."""

    async def expire_due(self) -> int:
        """Expire the open approvals whose time is over; return how many."""
        ...


class Book(Protocol):
    """The journal, as the desk needs it."""

    async def write(self, kind: str, person: str, **detail: str | int) -> None:
        """Return once the entry is on disk; raises RefusedError(JOURNAL_UNAVAILABLE) where it is not."""
        ...


class Desk:
    """What people do with approvals. Every method raises RefusedError, and nothing else that a caller must know.

    `clock_ms` is the wall clock in milliseconds since the epoch; a login older than `vote_fresh_s` cannot vote.
    """

    def __init__(
        self, store: Shelf, signer: Signer, keys: VoteKeys, opener: Opener | None, journal: Book,
        *, vote_fresh_s: int = 3600, clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:  # fmt: skip
        self._store = store
        self._signer = signer
        self._keys = keys
        self._opener = opener
        self._journal = journal
        self._fresh_ms = vote_fresh_s * 1000
        self._now_ms = clock_ms
        self._looks = Pace(LOOKS, LOOKS_S)
        self._listeners: Counter[str] = Counter()

    async def listing(
        self, person: Person, states: Collection[State] = OPEN, limit: int = 50, before: str = ""
    ) -> Sequence[Item]:
        """Return what `person` may see in one of `states`, newest first, older than the id `before`; no previews."""
        found: list[Item] = []
        scanned = 0
        while len(found) < limit and scanned < SCAN:
            async with _available():
                page = await self._store.listing(states, PAGE, before)
            now = self._now_ms()
            found += [item_of(person, self._sight(one), now) for one in page if sees(person, one.ask)]
            if len(page) < PAGE:
                break
            scanned += len(page)
            before = page[-1].ask.id
        return found[:limit]

    async def look(self, person: Person, approval: str) -> Item:
        """Return where the approval stands, without its preview; nothing is journaled."""
        return item_of(person, self._sight(await self._read(person, approval)), self._now_ms())

    async def show(self, person: Person, approval: str) -> Detail:
        """Return the approval with its preview. That a preview was looked at is journaled first."""
        stored = await self._read(person, approval)
        preview = self._preview(stored)
        if preview is not None:
            if not self._looks.allows(person.voter.person):
                raise RefusedError(Refusal.RATE_LIMITED)
            await self._journal.write("preview_viewed", person.voter.person, approval=approval)
        return detail_of(person, self._sight(stored), self._now_ms(), preview)

    async def vote(
        self, person: Person, approval: str, record: str, choice: Choice, reason: str, use_within_s: int | None = None
    ) -> Detail:
        """Cast the vote of `person` on what they were shown (`record`), and return what became of the approval.

        `use_within_s` lets consent be used only that long.
        """
        now = self._now_ms()
        if now - person.logged_in_ms > self._fresh_ms:
            raise RefusedError(Refusal.LOGIN_STALE)
        reason = told_reason(reason)
        if use_within_s is not None and not 1 <= use_within_s <= 31_536_000:
            raise RefusedError(Refusal.INPUT_INVALID)
        until = None if use_within_s is None else now + use_within_s * 1000
        written = False
        for _ in range(ATTEMPTS):
            stored = await self._read(person, approval)
            seen = self._votable(person, stored, record)
            ask = stored.ask
            vote = Vote(
                approval=ask.id, record=record, use_digest=ask.use_digest, plan_digest=ask.plan_digest,
                requirement=ask.requirement, voter=person.voter, choice=choice, reason=reason, time_ms=now,
                expires_ms=ask.expires_ms, use_until_ms=until,
            )  # fmt: skip
            standing = seen.standing(now, [*seen.votes_without(person.voter.person), vote])
            if standing.state is State.EXPIRED:
                raise RefusedError(Refusal.CLOSED)
            statement = self._signer.sign(vote)
            if not written:
                await self._journal.write(
                    "vote", person.voter.person, approval=approval, choice=choice.value, reason=reason, record=record,
                    statement=hashlib.sha256(statement.encode()).hexdigest(),
                )  # fmt: skip
                written = True
            # Who listens hears what became of it; a vote that changes nothing yet is one more vote.
            kind = "voted" if standing.state is stored.state else standing.state.value
            change = await self._settle(stored, standing.state, kind, person.voter.person, statement)
            if change is not Change.STALE:
                await self._note("vote_outcome", person, approval=approval, outcome=change.value)
                return await self._outcome(person, approval, change)
        await self._note("vote_outcome", person, approval=approval, outcome=Change.STALE.value)
        raise RefusedError(Refusal.BUSY)

    async def withdraw(self, person: Person, approval: str, record: str) -> Detail:
        """Take the person's own vote back, while the approval is open."""
        written = False
        for _ in range(ATTEMPTS):
            stored = await self._read(person, approval)
            seen = self._sight(stored)
            if stored.state not in OPEN:
                raise RefusedError(Refusal.CLOSED)
            if record != seen.record:
                raise RefusedError(Refusal.RECORD_CHANGED)
            if not any(vote.voter.person == person.voter.person for vote in seen.votes):
                raise RefusedError(Refusal.NO_VOTE)
            if not written:
                await self._journal.write("withdrawal", person.voter.person, approval=approval, record=record)
                written = True
            standing = seen.standing(self._now_ms(), seen.votes_without(person.voter.person))
            change = await self._settle(stored, standing.state, "withdrawn", person.voter.person)
            if change is not Change.STALE:
                await self._note("withdrawal_outcome", person, approval=approval, outcome=change.value)
                return await self._outcome(person, approval, change)
        await self._note("withdrawal_outcome", person, approval=approval, outcome=Change.STALE.value)
        raise RefusedError(Refusal.BUSY)

    async def cancel(self, person: Person, approval: str, reason: str) -> Detail:
        """Close an open approval without a decision."""
        _operates(person)
        reason = told_reason(reason)
        written = False
        for _ in range(ATTEMPTS):
            stored = await self._read(person, approval)
            if stored.state not in OPEN:
                raise RefusedError(Refusal.CLOSED)
            if not written:
                await self._journal.write("cancellation", person.voter.person, approval=approval, reason=reason)
                written = True
            async with _available():
                change = await self._store.settle(stored, State.CANCELLED, kind="cancelled", note=reason)
            if change is not Change.STALE:
                await self._note("cancellation_outcome", person, approval=approval, outcome=change.value)
                return await self._outcome(person, approval, change)
        await self._note("cancellation_outcome", person, approval=approval, outcome=Change.STALE.value)
        raise RefusedError(Refusal.BUSY)

    async def revoke(self, person: Person, whom: str, reason: str) -> Revoked:
        """Let no vote that `whom` (a person, or one of their names) cast until now count any more."""
        _operates(person)
        reason = told_reason(reason)
        people = {
            vote.voter.person
            async for seen in self._open()
            for vote in seen.votes
            if whom == vote.voter.person or whom.lower() in vote.voter.names
        }
        if not people:
            raise RefusedError(Refusal.PERSON_UNKNOWN)
        now = self._now_ms()
        for one in sorted(people):
            await self._journal.write("revocation", person.voter.person, whom=one, reason=reason)
            revocation = Revocation(person=one, reason=reason, by=person.voter.person, time_ms=now)
            async with _available():
                await self._store.revoke(one, self._signer.sign(revocation))
        # From here on no gate counts the votes; what follows brings the stored states up to date.
        changed = 0
        async for seen in self._open():
            if any(vote.voter.person in people for vote in seen.votes):
                changed += await self._retally(seen)
        await self._note("revocation_outcome", person, people=len(people), approvals=changed)
        return Revoked(tuple(sorted(people)), changed)

    async def reviews(self, person: Person, *, closed: bool = False, limit: int = 100) -> Sequence[ReviewItem]:
        """Return what calls that broke the glass left, newest first, as far as `person` may see it."""
        async with _available():
            found = await self._store.reviews(closed=closed, limit=limit)
        return [review_of(person, review) for review in found if sees(person, review.ask)]

    async def review(self, person: Person, review: str) -> ReviewItem:
        """Return one review item, open or closed."""
        return review_of(person, await self._review(person, review))

    async def close_review(self, person: Person, review: str, reason: str) -> None:
        """Say that somebody looked at it: neither the caller nor an owner of the machine."""
        _operates(person)
        reason = told_reason(reason)
        item = await self._review(person, review)
        if item.closed_ms:
            raise RefusedError(Refusal.CLOSED)
        against = may_not_close(item.ask, person.voter)
        if against is not None:
            raise RefusedError(_OBJECTIONS[against])
        await self._journal.write("review_closing", person.voter.person, review=review, reason=reason)
        async with _available():
            change = await self._store.close_review(review, person.voter.person, reason)
        await self._note("review_outcome", person, review=review, outcome=change.value)
        if change is not Change.DONE:
            raise RefusedError(Refusal.CLOSED)

    async def expire_due(self) -> int:
        """Close what nobody decided, or used, in time; return how many."""
        async with _available():
            count = await self._store.expire_due()
        # The store knows when an approval ends, not until when those who agreed let it be used.
        async for seen in self._open({State.APPROVED}):
            if seen.standing(self._now_ms()).state is State.EXPIRED:
                count += await self._settle(seen.stored, State.EXPIRED, "expired") is Change.DONE
        return count

    async def watch(self, person: Person, after: str = "$") -> AsyncIterator[Sequence[Event]]:
        """Yield what changes after the cursor `after` (`$`: from now on) of what `person` may see.

        [] at least every second, so that whoever listens can tell silence from an end. One person listens in so many
        places at once.
        """
        name, visible = person.voter.person, dict[str, bool]()
        if self._listeners[name] >= LISTENERS:
            raise RefusedError(Refusal.RATE_LIMITED)
        self._listeners[name] += 1
        try:
            async with _available():
                async for events in self._store.events(after):
                    yield [event for event in events if await self._may_know(person, event.approval, visible)]
        finally:
            self._listeners[name] -= 1
            if not self._listeners[name]:
                del self._listeners[name]

    async def _may_know(self, person: Person, approval: str, visible: dict[str, bool]) -> bool:
        if person.may_view:
            return True
        if approval not in visible:
            stored = await self._store.read(approval)
            # A review item is no approval: only those who see everything hear of it.
            visible[approval] = stored is not None and sees(person, stored.ask)
        return visible[approval]

    async def _open(self, states: Collection[State] = OPEN) -> AsyncIterator[Sight]:
        """Yield every open approval, or those in one of `states`."""
        before = ""
        for _ in range(EVERY // PAGE):
            async with _available():
                page = await self._store.listing(states, PAGE, before)
            for stored in page:
                yield self._sight(stored)
            if len(page) < PAGE:
                return
            before = page[-1].ask.id

    async def _retally(self, seen: Sight) -> bool:
        """Let the stored state follow the votes that count; tell whether it changed."""
        for _ in range(ATTEMPTS):
            stored = seen.stored
            state = seen.standing(self._now_ms()).state
            if stored.state not in OPEN or state is stored.state:
                return False
            change = await self._settle(stored, state, "revoked")
            if change is not Change.STALE:
                return change is Change.DONE
            async with _available():
                again = await self._store.read(stored.ask.id)
            if again is None:
                return False
            seen = self._sight(again)
        return False

    async def _outcome(self, person: Person, approval: str, change: Change) -> Detail:
        if change is Change.CLOSED:
            raise RefusedError(Refusal.CLOSED)
        stored = await self._read(person, approval)
        return detail_of(person, self._sight(stored), self._now_ms(), None)

    async def _note(self, kind: str, person: Person, **detail: str | int) -> None:
        """Journal what came of a change that is journaled already: what was done is not undone by a full disk."""
        try:
            await self._journal.write(kind, person.voter.person, **detail)
        except RefusedError:
            log.error("outcome_not_journaled", kind=kind)  # noqa: TRY400  # the traceback would say no more

    def _sight(self, stored: Stored) -> Sight:
        return sight(stored, self._keys)

    def _preview(self, stored: Stored) -> Preview | None:
        return self._opener.open(stored.ask.preview) if self._opener is not None and stored.ask.preview else None

    def _votable(self, person: Person, stored: Stored, record: str) -> Sight:
        """Return the approval as seen; raises RefusedError where `person` may not vote on it now."""
        seen = self._sight(stored)
        against = objection(stored.ask.caller, stored.ask.requirement, person.voter)
        if against is not None:
            raise RefusedError(_OBJECTIONS[against])
        if stored.state not in OPEN:
            raise RefusedError(Refusal.CLOSED)
        if record != seen.record:
            raise RefusedError(Refusal.RECORD_CHANGED)
        if seen.vote_of(person.voter) is not None:
            raise RefusedError(Refusal.ALREADY_VOTED)
        return seen

    async def _read(self, person: Person, approval: str) -> Stored:
        async with _available():
            stored = await self._store.read(approval)
        if stored is None or not _is_itself(stored.ask, stored.body, approval):
            raise RefusedError(Refusal.NOT_FOUND)
        if not sees(person, stored.ask):
            raise RefusedError(Refusal.NOT_FOUND)
        return stored

    async def _review(self, person: Person, review: str) -> Review:
        async with _available():
            found = await self._store.review(review)
        if found is None or not _is_itself(found.ask, found.body, review) or not sees(person, found.ask):
            raise RefusedError(Refusal.NOT_FOUND)
        return found

    async def _settle(self, stored: Stored, state: State, kind: str, person: str = "", statement: str = "") -> Change:
        async with _available():
            return await self._store.settle(stored, state, kind=kind, person=person, statement=statement)


_OBJECTIONS = {Objection.SELF: Refusal.SELF, Objection.OWNER: Refusal.OWNER, Objection.GROUP: Refusal.GROUP}


def told_reason(reason: str) -> str:
    """Return the reason without surrounding space; raises RefusedError(REASON_INVALID)."""
    text = reason.replace("\r\n", "\n").strip()
    lines = text.split("\n")
    if not 1 <= len(text) <= REASON_CHARS or not all(line.isprintable() for line in lines):
        raise RefusedError(Refusal.REASON_INVALID)
    return text


def _is_itself(ask: Ask, body: bytes, name: str) -> bool:
    """Tell whether what was read is what its bytes say, under its own name: anything else is nothing to agree to."""
    try:
        return ask.id == name and Ask.decode(body) == ask
    except ValueError:
        return False


def _operates(person: Person) -> None:
    if not person.may_operate:
        raise RefusedError(Refusal.ROLE_MISSING)


@asynccontextmanager
async def _available() -> AsyncIterator[None]:
    try:
        yield
    except GateError:
        raise RefusedError(Refusal.STORE_UNAVAILABLE) from None
