"""A desk store in memory, which keeps to the Protocol's words: for the desk's tests and for looking at pages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import replace
from typing import Any

from rankgate.approvals import (
    OPEN,
    Ask,
    Caller,
    Change,
    Event,
    PlanSummary,
    Requirement,
    Review,
    State,
    Stored,
    may_become,
    new_approval_id,
)

__all__ = ["MemoryStore", "make_ask"]


class MemoryStore:
    """Approvals by id. `meddle`, where set, is awaited before each change: a test changes something under it."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.now_ms = now_ms
        self.approvals: dict[str, Stored] = {}
        self.people: dict[str, dict[str, str]] = {}
        self.revocations: list[str] = []
        self.review_items: dict[str, Review] = {}
        self.happened: list[Event] = []
        self.meddle: Any = None
        self.failing: Exception | None = None

    def put(self, ask: Ask, state: State = State.PENDING, **members: Any) -> Stored:
        """Keep `ask` as a gate would have written it."""
        stored = Stored(ask=ask, body=ask.encode(), mac="", state=state, changed_ms=ask.opened_ms, **members)
        self.approvals[ask.id] = stored
        self.people[ask.id] = {}
        self._tell("opened", ask.id)
        return stored

    def put_review(self, ask: Ask) -> None:
        """Leave a review item."""
        self.review_items[ask.id] = Review(ask=ask, body=ask.encode(), mac="")
        self._tell("review_opened", ask.id)

    async def read(self, approval: str) -> Stored | None:
        self._fail()
        stored = self.approvals.get(approval)
        return None if stored is None else replace(stored, revocations=tuple(self.revocations))

    async def listing(self, states: Collection[State], limit: int, before: str = "") -> Sequence[Stored]:
        self._fail()
        newest = sorted(self.approvals.values(), key=lambda stored: stored.ask.id, reverse=True)
        found = [one for one in newest if one.state in states and (not before or one.ask.id < before)]
        return [replace(one, revocations=tuple(self.revocations)) for one in found[:limit]]

    async def settle(
        self, stored: Stored, state: State, *, kind: str, person: str = "", statement: str = "", note: str = ""
    ) -> Change:
        self._fail()
        if self.meddle is not None:
            await self.meddle()
        now = self.approvals.get(stored.ask.id)
        if now is None or now.state not in OPEN:
            return Change.CLOSED
        if now.revision != stored.revision:
            return Change.STALE
        assert state is now.state or may_become(now.state, state)
        votes = self.people[stored.ask.id]
        if person:
            votes.pop(person, None)
            if statement:
                votes[person] = statement
        self.approvals[stored.ask.id] = replace(
            now, state=state, votes=tuple(votes.values()), revision=now.revision + 1, changed_ms=self.now_ms,
            note=note or now.note,
        )  # fmt: skip
        self._tell(kind, stored.ask.id)
        return Change.DONE

    async def revoke(self, person: str, statement: str) -> None:
        self._fail()
        self.revocations.append(statement)

    async def reviews(self, *, closed: bool, limit: int) -> Sequence[Review]:
        self._fail()
        found = [one for one in self.review_items.values() if bool(one.closed_ms) is closed]
        return sorted(found, key=lambda review: review.ask.id, reverse=True)[:limit]

    async def review(self, review: str) -> Review | None:
        self._fail()
        return self.review_items.get(review)

    async def close_review(self, review: str, by: str, reason: str) -> Change:
        self._fail()
        found = self.review_items.get(review)
        if found is None or found.closed_ms:
            return Change.CLOSED
        self.review_items[review] = replace(found, closed_by=by, closed_reason=reason, closed_ms=self.now_ms)
        self._tell("review_closed", review)
        return Change.DONE

    async def expire_due(self) -> int:
        self._fail()
        due = [one for one in self.approvals.values() if one.state in OPEN and one.ask.expires_ms <= self.now_ms]
        for stored in due:
            await self.settle(stored, State.EXPIRED, kind="expired")
        return len(due)

    async def events(self, after: str = "$") -> AsyncIterator[Sequence[Event]]:
        place = len(self.happened) if after == "$" else int(after)
        while True:
            self._fail()
            if len(self.happened) > place:
                batch, place = self.happened[place:], len(self.happened)
                yield batch
            else:
                yield []
                await asyncio.sleep(0.05)

    async def ready(self) -> bool:
        return self.failing is None

    async def close(self) -> None:
        pass

    def _tell(self, kind: str, approval: str) -> None:
        self.happened.append(Event(str(len(self.happened) + 1), kind, approval, self.now_ms))

    def _fail(self) -> None:
        if self.failing is not None:
            raise self.failing


def make_ask(number: int = 1, now_ms: int = 1_700_000_000_000, **members: Any) -> Ask:
    """Return the Ask of a rerank call of the machine `search`, which the group `search-owners` owns."""
    usual: dict[str, Any] = {
        "id": new_approval_id(now_ms / 1000, number),
        "deployment": "default",
        "decision_id": f"dec-{number:04d}",
        "opened_ms": now_ms,
        "expires_ms": now_ms + 900_000,
        "use_digest": f"{number:064x}",
        "plan_digest": f"{number + 1:064x}",
        "canonical_digest": f"{number + 2:064x}",
        "requirement": Requirement(groups=("approvers",)),
        "caller": Caller(
            issuer="https://machines.example", subject="search", tenant="acme",
            names=("search", "search@acme.example"), owner_people=("olga@acme.example",),
            owner_groups=("search-owners",),
        ),
        "route": "cohere-v2",
        "path": "/v2/rerank",
        "upstream": "https://reranker.example",
        "dialect": "cohere.v2",
        "model": "rerank-v3.5",
        "document_count": 3,
        "total_chars": 240,
        "plan": PlanSummary(mask_request="default", mask_response="default", dropped=(2,), kept=2, credential="file"),
        "findings": {"EMAIL_ADDRESS": 2, "PERSON": 1},
        "risk": "high",
        "reasons": ("the query names a person",),
        "policy_revision": "rev-1",
    }  # fmt: skip
    return Ask(**(usual | members))
