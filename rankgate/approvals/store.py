"""Where approvals are kept: what a store does, whatever it is made of. A gate believes none of it (see tally)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from rankgate.approvals.ask import Ask
from rankgate.approvals.states import State

__all__ = ["Caps", "Change", "DeskStore", "Event", "GateStore", "Joined", "Met", "Review", "Stored", "Use"]


class Caps(NamedTuple):
    """The most approvals that may be pending at once, of one subject and of one tenant."""

    subject: int
    tenant: int


@dataclass(frozen=True, slots=True)
class Stored:
    """An Ask and what became of it. `body` are the Ask's bytes, `mac` the gate's authentication of them.

    `state` is what the store says. `votes` and `revocations` are signed statements, unverified. `revision` grows with
    every change. `used_by` is the decision that spent it. Times are milliseconds since the epoch, 0 for never.
    """

    ask: Ask
    body: bytes
    mac: str
    state: State
    revision: int = 0
    votes: tuple[str, ...] = ()
    revocations: tuple[str, ...] = ()
    used_by: str = ""
    changed_ms: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Review:
    """What a call that broke the glass left for a person to close: `ask.break_glass` is its reason."""

    ask: Ask
    body: bytes
    mac: str
    closed_by: str = ""
    closed_reason: str = ""
    closed_ms: int = 0


class Met(StrEnum):
    """What `join` met."""

    OPENED = "opened"
    JOINED = "joined"
    VARIANT = "variant"
    """The same is being asked in other bytes."""
    DENIED = "denied"
    """The same was denied, in these bytes or others."""
    FULL = "full"
    """As many are pending as may be."""


class Joined(NamedTuple):
    """An approval that was met; None where nothing could be opened."""

    met: Met
    stored: Stored | None


class Use(StrEnum):
    """What came of trying to spend an approval."""

    SPENT = "spent"
    """By this decision, now or before: asking twice spends once."""
    YOUNGER = "younger"
    """A younger caller of the same request waits for it."""
    USED = "used"
    """Another decision spent it."""
    GONE = "gone"
    """It is not there, or no longer open."""


class Event(NamedTuple):
    """A change: `cursor` continues after it; `kind` is `opened`, a State, `voted`, `withdrawn`, `review_opened`, ..."""

    cursor: str
    kind: str
    approval: str
    time_ms: int


class Change(StrEnum):
    """What came of a change that somebody decided on a certain revision."""

    DONE = "done"
    STALE = "stale"
    """Somebody else changed it first: look again."""
    CLOSED = "closed"
    """Nothing can become of it any more."""


class GateStore(Protocol):
    """What a gate needs. Everything raises GateError(APPROVAL_STORE_UNAVAILABLE) where it cannot be done."""

    async def join(self, ask: Ask, mac: str, caps: Caps) -> Joined:
        """Return the open approval of the same request and plan, else open `ask`; atomically.

        One of the same bytes with another requirement, or pending with another plan, is cancelled and opened anew.
        """
        ...

    async def read(self, approval: str) -> Stored | None:
        """Return the approval with its votes and the revocations."""
        ...

    async def wait(self, waiting: Collection[tuple[str, str]]) -> None:
        """Say, again every second, which calls wait: pairs of approval and decision id, in one go."""
        ...

    async def leave(self, approval: str, decision_id: str) -> None:
        """Say that the caller waits no longer."""
        ...

    async def consume(self, approval: str, decision_id: str) -> Use:
        """Spend `approval` for `decision_id`; atomically, and once, however often it is asked."""
        ...

    async def open_review(self, ask: Ask, mac: str, limit: int, within_s: int) -> bool:
        """Leave a review item of a call that broke the glass; False where the caller did so `limit` times lately."""
        ...

    def events(self, after: str = "$") -> AsyncIterator[Sequence[Event]]:
        """Yield what changes after the cursor `after` (`$`: from now on), as it changes; [] at least every second."""
        ...


class DeskStore(Protocol):
    """What the console needs. Everything raises GateError(APPROVAL_STORE_UNAVAILABLE) where it cannot be done."""

    async def read(self, approval: str) -> Stored | None:
        """Return the approval with its votes and the revocations."""
        ...

    async def listing(self, states: Collection[State], limit: int, before: str = "") -> Sequence[Stored]:
        """Return the newest approvals in one of `states`, newest first; those older than the id `before`."""
        ...

    async def settle(
        self, stored: Stored, state: State, *, kind: str, person: str = "", statement: str = "", note: str = ""
    ) -> Change:
        """Set the state, and the vote of `person` to `statement` (empty: withdrawn), if nothing changed since.

        `kind` names the event. Only the changes of `may_become` are made, and votes within OPEN states.
        """
        ...

    async def revoke(self, person: str, statement: str) -> None:
        """Keep a signed revocation, for as long as any vote could still be used."""
        ...

    async def reviews(self, *, closed: bool, limit: int) -> Sequence[Review]:
        """Return review items, newest first."""
        ...

    async def review(self, review: str) -> Review | None:
        """Return one review item, open or closed."""
        ...

    async def close_review(self, review: str, by: str, reason: str) -> Change:
        """Close a review item, once."""
        ...

    def events(self, after: str = "$") -> AsyncIterator[Sequence[Event]]:
        """Yield what changes after the cursor `after` (`$`: from now on), as it changes; [] at least every second."""
        ...
