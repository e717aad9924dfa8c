"""What a reader of the trail asks of it: which events, and which allows were never confirmed."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from rankgate.audit.entry import Row
from rankgate.audit.event import Outcome, What
from rankgate.audit.names import StreamId

__all__ = ["FILTER_KEYS", "Filter", "parse_since", "unconfirmed"]

_VALUES: Mapping[str, Callable[[Row], str]] = {
    "type": lambda row: row.kind,
    "decision": lambda row: row.decision,
    "reason": lambda row: row.reason,
    "outcome": lambda row: row.outcome,
    "status": lambda row: "" if row.status is None else str(row.status),
    "issuer": lambda row: row.issuer,
    "subject": lambda row: row.subject,
    "tenant": lambda row: row.tenant,
    "route": lambda row: row.route,
    "dialect": lambda row: row.dialect,
    "model": lambda row: row.model,
    "decision_id": lambda row: row.decision_id,
    "log": lambda row: row.log,
    "what": lambda row: row.what,
    "word": lambda row: row.word,
}
FILTER_KEYS = tuple(_VALUES)

# Keys that have no other values: any other would match nothing, for ever and unseen.
_CLOSED: Mapping[str, tuple[str, ...]] = {
    "type": ("decision", "completion", "lifecycle"),
    "decision": ("allow", "deny"),
    "outcome": tuple(outcome.value for outcome in Outcome),
    "what": tuple(what.value for what in What),
}

_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)")
_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events are shown: for every key one of its values must match exactly."""

    wanted: Mapping[str, frozenset[str]]

    @classmethod
    def parse(cls, terms: Iterable[str]) -> Filter:
        """Read `key=value` terms; a repeated key widens, another key narrows. Raises ValueError with the remedy."""
        wanted: dict[str, set[str]] = {}
        for term in terms:
            key, equals, value = term.partition("=")
            if not equals or key not in _VALUES:
                raise ValueError(f"a filter is key=value with one of the keys {', '.join(FILTER_KEYS)}")
            if value not in _CLOSED.get(key, (value,)):
                raise ValueError(f"{key} is one of {', '.join(_CLOSED[key])}")
            if key == "status" and not (value.isascii() and value.isdecimal()):
                raise ValueError("status is a number, as 403")
            wanted.setdefault(key, set()).add(value)
        return cls({key: frozenset(values) for key, values in wanted.items()})

    def matches(self, row: Row) -> bool:
        """Tell whether `row` is wanted."""
        return all(_VALUES[key](row) in values for key, values in self.wanted.items())


def parse_since(text: str, now: int) -> StreamId:
    """Return where to begin: a duration before `now` (ms), an RFC 3339 time, or a stream id; raises ValueError."""
    if match := _DURATION.fullmatch(text):
        return StreamId(max(0, now - int(match[1]) * _UNIT_MS[match[2]]), 0)
    try:
        return StreamId.parse(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError("give a duration like 10m, an RFC 3339 time with zone, or a stream id like 1700000000000-0")
    return StreamId(max(0, int(moment.timestamp() * 1000)), 0)


def unconfirmed(rows: Iterable[Row], completed: Container[str], now: int, after_ms: int) -> list[Row]:
    """Return the allows among `rows` older than `after_ms` at `now` (ms) whose decision id is not in `completed`.

    Such a call was permitted, and nothing tells what became of it: it was lost between the filters, or ext_proc died.
    """
    return [row for row in rows if row.allowed and row.time + after_ms <= now and row.decision_id not in completed]
