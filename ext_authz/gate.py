"""What a decision is made with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from rankgate.approvals import Caps, GateStore, Sealer, VoteKeys
from rankgate.audit import AuditLog
from rankgate.credentials import Broker
from rankgate.detect import Detector
from rankgate.identity import Principal
from rankgate.masking import Keys, Masker, Maskers, Plan
from rankgate.policy import PolicyEngine
from rankgate.policy.verdict import Verdict
from rankgate.settings import Settings

__all__ = ["Approvals", "Gate", "Identities", "LongWork", "Processor", "Room", "Shadow"]

Result = TypeVar("Result")


class Identities(Protocol):
    """Verifies a token for a route's audiences at a time in seconds; raises GateError."""

    async def verify(self, token: str, audiences: tuple[str, ...], now: float) -> Principal:
        """Return the principal that the token stands for."""
        ...


class Processor(Protocol):
    """The filter that will process the bodies of what is allowed here."""

    async def ready(self) -> bool:
        """Tell whether it answers."""
        ...


class LongWork(Protocol):
    """Where work is done, so that nobody's long work delays another's call; raises GateError(BUSY).

    `effort` is an estimate: one for each byte that is detected in, masked or parsed into values of its own.
    """

    async def run(self, effort: int, tenant: str, work: Callable[[], Result]) -> Result:
        """Return what `work` returns."""
        ...


class Shadow(Protocol):
    """Asks a candidate policy the same question, later and without effect."""

    def offer(self, decision_id: str, question: str, live: Verdict, live_revision: str, document_count: int) -> None:
        """Take what was asked and ruled, or drop it; never waits, never fails."""
        ...


class Room(Protocol):
    """Where callers wait for a person."""

    closed: bool

    def close(self) -> None:
        """Send everybody away, and let nobody wait any more."""
        ...

    def seat(self, size: int) -> AbstractContextManager[bool]:
        """Hold a seat for a call that takes `size` bytes of memory; give False where there is none."""
        ...

    def crowd(self, approval: str) -> int:
        """Return how many callers of one request wait here."""
        ...

    def present(self, approval: str, decision_id: str) -> AbstractAsyncContextManager[asyncio.Event]:
        """Be known to wait; give an event that is set whenever something happened to the approval."""
        ...

    async def sleep(self, changed: asyncio.Event, left: asyncio.Event, seconds: float) -> None:
        """Return when something happened, the caller left, the time is over or nobody can wait any more."""
        ...

    def turn(self, seconds: float) -> AbstractAsyncContextManager[None]:
        """Go on after waiting, a few at once; after `seconds` in any case."""
        ...

    def remember(self, approval: str, decision_id: str, until: float) -> None:
        """Remember by which decision an approval was spent here."""
        ...

    def spent_by(self, approval: str) -> str:
        """Return that decision, whatever the store says; empty for none."""
        ...


@dataclass(frozen=True, slots=True)
class Approvals:
    """What the consent of people is asked for and verified with.

    `key` is the gates' own, `redact` what approvers do not see; `new_id` makes an id at a time in seconds; `pause`
    lets seconds pass.
    """

    store: GateStore
    votes: VoteKeys
    sealer: Sealer | None
    redact: Plan
    room: Room
    key: bytes
    caps: Caps
    new_id: Callable[[float], str]
    pause: Callable[[float], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Gate:
    """What a decision is made with; the same for every call of a process.

    `plans` are by profile name; `approvals` is None where nobody can be asked, `shadow` where no candidate is.
    `clock` gives seconds since 1970; `deadline` makes a check that raises GateError(DEADLINE_EXCEEDED) once its seconds
    are over.
    """

    settings: Settings
    keys: Keys
    maskers: Maskers
    plans: Mapping[str, Plan]
    all_types: Plan
    detector: Detector
    identities: Identities
    policy: PolicyEngine
    processor: Processor
    approvals: Approvals | None
    credentials: Broker
    audit: AuditLog
    work: LongWork
    clock: Callable[[], float]
    deadline: Callable[[float], Callable[[], None]]
    shadow: Shadow | None = None

    def masker(self, tenant: str, plan: Plan) -> Masker:
        """Return what masks a tenant's texts by `plan`."""
        return self.maskers.of(tenant, plan)

    def clean(self, text: str, tenant: str) -> str:
        """Return a text that somebody else wrote, with every type masked, fit for a record or an answer."""
        return self.masker(tenant, self.all_types).mask(text, self.detector.detect(text, cache=tenant))

    def is_clean(self, texts: list[str], tenant: str) -> bool:
        """Tell whether none of `texts` holds sensitive data."""
        return not any(self.detector.detect(text, cache=tenant) for text in texts)
