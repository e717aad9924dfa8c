"""One decision as the trail in Redis tells it: looked up by the time that its id carries, read-only."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import msgspec
import redis

from rankgate.approvals import PlanSummary
from rankgate.audit.entry import BodyError, Row, differing, read_body
from rankgate.audit.names import StreamId
from rankgate.clients.audit_redis import connect
from rankgate.clients.trail import Item, Trail
from rankgate.settings.redis import RedisSettings

__all__ = ["Entry", "Found", "Reader", "UnreadableError", "find", "is_decision_id", "time_of"]

_ID = re.compile(r"dec-[0-9a-hjkmnp-tv-z]{26}")
_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"

# The id is made when a call arrives, its entries are written when it was decided and when it ended.
BEFORE_MS = 2_000
EARLIER_MS = 60_000
DECIDED_MS = 330_000
COMPLETED_MS = 330_000
# A window may hold more than a person would wait for.
ENTRIES = 200_000
SECONDS = 5.0


class Ballot(msgspec.Struct, frozen=True):
    """One vote that counted; `time` is in milliseconds since the epoch."""

    person: str
    choice: str
    reason: str
    time: int


class Consent(msgspec.Struct, frozen=True):
    """The approval of a call, as it stood at the decision."""

    id: str
    state: str
    groups: tuple[str, ...] = ()
    votes: tuple[Ballot, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the trail. `differs` names what the stream says otherwise than the body; then believe neither."""

    row: Row
    event: Mapping[str, Any]
    id: str
    differs: tuple[str, ...]

    @property
    def ours(self) -> Mapping[str, Any]:
        """Return what stands under `unmapped.rankgate`."""
        return _object(_object(self.event, "unmapped"), "rankgate")

    def get(self, *path: str) -> Any:
        """Return a member of the event; None where it is absent or of no use there."""
        value: Any = self.event
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        return value

    def counts(self, name: str) -> dict[str, int]:
        """Return one of our members that counts values by type."""
        counts = _object(self.ours, name)
        return {kind: number for kind, number in counts.items() if isinstance(number, int)}

    def texts(self, name: str) -> list[str]:
        """Return one of our members that is a list of texts."""
        texts = self.ours.get(name)
        return [text for text in texts if isinstance(text, str)] if isinstance(texts, list) else []

    @property
    def plan(self) -> PlanSummary | None:
        """Return what was fixed by route and ruling; None where nothing was."""
        plan = _object(self.ours, "plan")
        try:
            return msgspec.convert(plan, PlanSummary) if plan else None
        except msgspec.ValidationError:
            return None

    @property
    def approval(self) -> str:
        """Return the id of the approval that the decision met, or of the review it left; empty for none."""
        name = _object(self.ours, "approval").get("id")
        return name if isinstance(name, str) else ""

    @property
    def consent(self) -> Consent | None:
        """Return whose consent the call needed, as it was recorded; None where it needed none."""
        approval = _object(self.ours, "approval")
        try:
            return msgspec.convert(approval, Consent) if approval else None
        except msgspec.ValidationError:
            return None

    @property
    def broke_glass(self) -> bool:
        """Tell whether the call went ahead without people: then `approval` names a review."""
        return bool(_object(self.ours, "approval").get("break_glass"))

    @property
    def raw(self) -> str:
        """Return the body for people: one member a line."""
        return json.dumps(self.event, indent=2, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Found:
    """What the trail holds of one decision. `cut`: there was more to look through than was looked through."""

    decision: Entry | None
    completion: Entry | None
    cut: bool = False


class UnreadableError(Exception):
    """The trail cannot be read now."""


class Reader:
    """Looks decisions up in the trail of one deployment. Blocks; safe to use from several threads."""

    def __init__(self, client: redis.Redis, deployment: str) -> None:
        self._client = client
        self._deployment = deployment

    @classmethod
    def of(cls, settings: RedisSettings, deployment: str) -> Self | None:
        """Return a reader; None where the settings name no trail. It connects when it is first used."""
        if settings.redis_url is None:
            return None
        client = connect(
            settings.redis_url, user=settings.redis_user, password_file=settings.redis_password_file,
            ca_file=settings.redis_ca_file,
        )  # fmt: skip
        return cls(client, deployment)

    def find(self, decision_id: str) -> Found:
        """Return what the trail holds about a decision; raises UnreadableError."""
        try:
            # A Trail remembers which streams it has seen; each look is for all of them.
            return find(Trail(self._client, self._deployment), decision_id)
        except (redis.RedisError, OSError) as error:
            raise UnreadableError(str(error)) from None


def is_decision_id(text: str) -> bool:
    """Tell whether `text` is written as a gate writes the id of a decision."""
    return _ID.fullmatch(text) is not None


def time_of(decision_id: str) -> int:
    """Return the milliseconds since the epoch at which a decision id was made."""
    value = 0
    for character in decision_id.removeprefix("dec-"):
        value = value << 5 | _DIGITS.index(character)
    return value >> 80


def find(trail: Trail, decision_id: str, *, clock: Callable[[], float] = time.monotonic) -> Found:
    """Return what the streams of `trail` hold about a decision, near the time of its id; raises redis.RedisError.

    Looks from a moment before that time on, then, because clocks are set back, further before it.
    """
    made = time_of(decision_id)
    search = _Search(decision_id, clock() + SECONDS, clock)
    keys = trail.discover()
    search.through(trail, keys, made - BEFORE_MS, made + DECIDED_MS)
    if search.decision is None and search.completion is None and not search.cut:
        search.through(trail, keys, made - EARLIER_MS, made - BEFORE_MS)
    return Found(search.decision, search.completion, search.cut)


class _Search:
    """Looks for two entries in an order of time, and gives up when it takes too long."""

    def __init__(self, decision_id: str, until: float, clock: Callable[[], float]) -> None:
        self.decision: Entry | None = None
        self.completion: Entry | None = None
        self.cut = False
        self._id = decision_id
        self._needle = decision_id.encode()
        self._until = until
        self._clock = clock
        self._seen = 0

    def through(self, trail: Trail, keys: Sequence[str], low_ms: int, high_ms: int) -> None:
        """Look at the entries of `keys` from `low_ms` on, before `high_ms`; longer for how an allowed call ended."""
        for item in trail.past({key: StreamId(max(0, low_ms), 0) for key in keys}):
            if item.id.ms >= high_ms:
                return
            self._seen += 1
            if self._seen > ENTRIES or (self._seen % 500 == 0 and self._clock() > self._until):
                self.cut = True
                return
            if self._needle not in item.body:
                continue
            self._take(item)
            if self.decision is None:
                continue
            if self.completion is not None or not self.decision.row.allowed:
                return
            high_ms = max(high_ms, self.decision.row.time + COMPLETED_MS)

    def _take(self, item: Item) -> None:
        try:
            row = read_body(item.body)
        except BodyError:
            return
        if row.decision_id != self._id:
            return
        entry = Entry(
            row, json.loads(item.body), str(item.id), differing(item.fields, item.body, item.key, str(item.id))
        )
        if row.kind == "decision" and self.decision is None:
            self.decision = entry
        elif row.kind == "completion" and self.completion is None:
            self.completion = entry


def _object(parent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = parent.get(name)
    return value if isinstance(value, dict) else {}
