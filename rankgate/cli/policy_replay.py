"""The work of `rankgate policy replay`: ask recorded questions again, compare, and tell what would change.

One event is in memory at a time, and of what differs a few examples of each kind.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, BinaryIO

from rankgate.audit.again import UNASKABLE, Recorded, read_decision
from rankgate.audit.entry import BodyError, differing, read_body
from rankgate.audit.text import printable
from rankgate.clients.rego import evaluate
from rankgate.clients.trail import Item
from rankgate.policy.verdict import CHANGES, changes, verdict_of

__all__ = ["EXAMPLES", "Replay", "Wanted", "bodies", "of_items"]

EXAMPLES = 5
"""Of each kind of change, so many decisions are named."""
SHOWN_CHARS = 160
# A decision is written down when it is made, which may be long after the call arrived: people are waited for.
LATE_MS = 2 * 3600 * 1000
# How `rankgate audit tail` begins the lines of what it derives itself.
_UNCONFIRMED = b'{"rankgate":"unconfirmed"'

Body = bytes | None
"""The bytes of one event; None for one that does not agree with where it stood, or is no event."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which decisions are asked again: None leaves it open. Times are milliseconds since 1970, both included."""

    since: int | None = None
    until: int | None = None
    deployment: str | None = None
    route: str | None = None

    def holds(self, one: Recorded) -> bool:
        """Tell whether a decision is among them."""
        return (
            (self.since is None or one.time >= self.since)
            and (self.until is None or one.time <= self.until)
            and self.deployment in {None, one.deployment}
            and self.route in {None, one.route}
        )


@dataclass(slots=True)
class Replay:
    """One run: `engine` evaluates `rule`. `ask_inexact` also asks questions in which masking changed a text."""

    engine: Any
    rule: str
    revision: str
    credential_header: str
    wanted: Wanted = Wanted()
    ask_inexact: bool = False
    decisions: int = 0
    replayed: int = 0
    inexact: int = 0
    same: int = 0
    unreadable: int = 0
    first: int | None = None
    last: int | None = None
    _kinds: Counter[str] = field(default_factory=Counter)
    _examples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    _unaskable: Counter[str] = field(default_factory=Counter)
    _why: dict[str, Counter[str]] = field(default_factory=dict)

    @property
    def changed(self) -> int:
        """Return how many decisions would be others."""
        return self.replayed - self.same

    def run(self, events: Iterable[Body], seen: Callable[[], object] = lambda: None) -> None:
        """Ask again what `events` hold; `seen` is called after each."""
        for body in events:
            self._take(body)
            seen()

    def _take(self, body: Body) -> None:
        try:
            recorded = None if body is None else read_decision(body)
        except BodyError:
            body = recorded = None
        if body is None:
            self.unreadable += 1
        if recorded is None or not self.wanted.holds(recorded):
            return
        self.decisions += 1
        self.first = min(recorded.time, self.first if self.first is not None else recorded.time)
        self.last = max(recorded.time, self.last if self.last is not None else recorded.time)
        inexact = recorded.unaskable == "inexact"
        if recorded.unaskable and not (inexact and self.ask_inexact):
            self._unaskable[recorded.unaskable] += 1
            self._why.setdefault(recorded.unaskable, Counter()).update(recorded.why)
            return
        self.replayed += 1
        self.inexact += inexact
        after = verdict_of(
            lambda: evaluate(self.engine, self.rule, recorded.question),
            document_count=recorded.document_count,
            credential_header=self.credential_header,
        )
        kinds = changes(recorded.before, after)
        self.same += not kinds
        for kind in kinds:
            self._note(kind, recorded, after)

    def _note(self, kind: str, recorded: Recorded, after: Mapping[str, Any]) -> None:
        self._kinds[kind] += 1
        examples = self._examples.setdefault(kind, [])
        if len(examples) < EXAMPLES:
            examples.append({
                "decision_id": recorded.decision_id,
                "position": recorded.position,
                "time": _rfc3339(recorded.time),
                "route": recorded.route,
                "exact": not recorded.unaskable,
                "policy": recorded.policy_revision,
                "before": dict(recorded.before),
                "after": dict(after),
            })  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """Return what `-o json` prints. Growth rule: members are added, never renamed."""
        reasons: dict[str, Any] = {word: self._unaskable[word] for word in UNASKABLE}
        return {
            "policy": self.revision,
            "first": None if self.first is None else _rfc3339(self.first),
            "last": None if self.last is None else _rfc3339(self.last),
            "decisions": self.decisions,
            "replayed": self.replayed,
            "inexact": self.inexact,
            "same": self.same,
            "changed": self.changed,
            "changes": {
                kind: {"count": self._kinds[kind], "examples": self._examples.get(kind, [])} for kind in CHANGES
            },
            "not_replayable": {"total": self._unaskable.total(), **reasons},
            "because": {word: dict(self._why[word].most_common()) for word in UNASKABLE if self._why.get(word)},
            "unreadable": self.unreadable,
        }

    def as_text(self) -> str:
        """Return the same for a person; nothing in it can command a terminal."""
        between = ""
        if self.first is not None and self.last is not None:
            between = f", {_rfc3339(self.first)} to {_rfc3339(self.last)}"
        inexact = f", {self.inexact} of them inexact" if self.inexact else ""
        lines = [
            f"{self.decisions} decisions{between}",
            f"policy {self.revision}",
            f"replayed {self.replayed}{inexact}: {self.same} the same, {self.changed} changed",
        ]
        for kind in CHANGES:
            if self._kinds[kind]:
                lines.append(f"  {kind:<18} {self._kinds[kind]:>8}")
                lines += [f"    {_example(one)}" for one in self._examples[kind]]
        lines.append(f"not replayable {self._unaskable.total()}")
        for word in UNASKABLE:
            if self._unaskable[word]:
                because = ", ".join(f"{why} {count}" for why, count in self._why[word].most_common())
                lines.append(f"  {word:<18} {self._unaskable[word]:>8}{'  ' + because if because else ''}")
        if self.unreadable:
            lines.append(f"unreadable {self.unreadable}")
        return "\n".join(map(printable, lines))


def bodies(lines: BinaryIO, step: Callable[[int], object] = lambda _size: None) -> Iterator[Body]:
    """Yield the events of an export, as `rankgate audit tail -o json` writes one; `step` hears of each line's bytes.

    What tail derived itself (an unconfirmed allow) is passed over; what it found to disagree is None.
    """
    for line in lines:
        step(len(line))
        text = line.strip()
        if not text or text.startswith(_UNCONFIRMED):
            continue
        try:
            read_body(text)
        except BodyError:
            yield None
        else:
            yield text


def of_items(items: Iterable[Item], until: int | None) -> Iterator[Body]:
    """Yield the events of a trail's entries, which come in order of time, to those written long after `until` (ms)."""
    for item in items:
        if until is not None and item.id.ms > until + LATE_MS:
            return
        yield None if differing(item.fields, item.body, item.key, str(item.id)) else item.body


def _example(one: Mapping[str, Any]) -> str:
    told = f"{one['decision_id']}  {_told(one['before'])} -> {_told(one['after'])}"
    return told if len(told) <= SHOWN_CHARS else f"{told[: SHOWN_CHARS - 1]}…"


def _told(verdict: Mapping[str, Any]) -> str:
    """Return a verdict in a few words."""
    if "fault" in verdict:
        return str(verdict["fault"])
    words = ["allowed" if verdict["allowed"] else f"denied ({verdict.get('status', 403)})"]
    rest = {name: value for name, value in verdict.items() if name not in {"allowed", "status", "masked"}}
    words += [f"{name}={json.dumps(value, ensure_ascii=False, separators=(',', ':'))}" for name, value in rest.items()]
    return " ".join(words)


def _rfc3339(ms: int) -> str:
    # Whoever wrote an export may have written any number.
    seconds, rest = divmod(min(ms, 253_402_300_799_999), 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03d}Z"
