"""The work of `rankgate audit tail`: read, check, filter, write."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import BinaryIO

import click
import redis

from rankgate.audit.entry import Row, differing, read_body
from rankgate.audit.names import StreamId
from rankgate.audit.reading import Filter, unconfirmed
from rankgate.cli import audit_lines
from rankgate.cli.audit_lines import Table
from rankgate.clients.audit_redis import fault_word
from rankgate.clients.trail import Item, Trail

__all__ = ["Group", "Tail", "unreadable"]

BLOCK_MS = 500
DISCOVER_S = 2.0
RETRY_S = 1.0
SEEN_LIMIT = 100_000


@dataclass(frozen=True, slots=True)
class Group:
    """The consumer group to read in, and this reader's name there."""

    name: str
    consumer: str


@dataclass(slots=True)
class Tail:
    """One run. `shown` counts lines written, `mismatches` entries whose fields, place or body do not agree.

    `table` draws the rows, None writes JSON; `where` names the server in messages.
    """

    trail: Trail
    wanted: Filter
    table: Table | None
    out: BinaryIO
    where: str
    unconfirmed_after_s: float
    shown: int = 0
    mismatches: int = 0
    _discover_at: float = 0.0
    _open: dict[str, Row] = field(default_factory=dict)
    _completed: dict[str, None] = field(default_factory=dict)

    def read(self, since: StreamId | None, *, follow: bool) -> None:
        """Write what is there from `since` on, and with `follow` what comes; without `since` a follower starts now."""
        keys = self.trail.discover()
        if since is None and follow:
            behind = {key: self.trail.end(key) for key in keys}
            self._head()
        else:
            self._head()
            behind = {key: StreamId(0, 0) for key in keys}
            for item in self.trail.past({key: since or StreamId(0, 0) for key in keys}):
                self._show([item])
                behind[item.key] = item.id
        self._overdue()
        self.out.flush()
        if follow:
            self._forever(lambda: self._follow_once(behind))

    def consume(self, group: Group, since: StreamId | None, *, follow: bool) -> None:
        """Write what the group has not acknowledged; acknowledge each entry after it was written out."""
        keys = self._join(group, since)
        self._head()
        self._write_and_acknowledge(self.trail.left_behind(keys, group.name, group.consumer), group)
        while keys and (items := self.trail.take(keys, group.name, group.consumer, None)):
            self._write_and_acknowledge(items, group)
        if follow:
            self._forever(lambda: self._consume_once(group, keys, since))

    def _follow_once(self, behind: dict[str, StreamId]) -> None:
        if behind:
            items = self.trail.next(behind, BLOCK_MS)
            self._show(items)
            for item in items:
                behind[item.key] = item.id
        else:
            time.sleep(BLOCK_MS / 1000)
        self._overdue()
        self.out.flush()
        if self._time_to_discover():
            behind |= dict.fromkeys(self.trail.discover(), StreamId(0, 0))

    def _consume_once(self, group: Group, keys: list[str], since: StreamId | None) -> None:
        if keys:
            items = self.trail.take(keys, group.name, group.consumer, BLOCK_MS)
            self._write_and_acknowledge(items, group)
        else:
            time.sleep(BLOCK_MS / 1000)
        if self._time_to_discover():
            keys += self._join(group, since)
            self._write_and_acknowledge(self.trail.left_behind(keys, group.name, group.consumer), group)

    def _time_to_discover(self) -> bool:
        if time.monotonic() < self._discover_at:
            return False
        self._discover_at = time.monotonic() + DISCOVER_S
        return True

    def _join(self, group: Group, since: StreamId | None) -> list[str]:
        keys = self.trail.discover()
        self.trail.join(keys, group.name, since or StreamId(0, 0))
        return keys

    def _forever(self, step: Callable[[], None]) -> None:
        """Repeat `step` through outages, of which begin and end are told; entries are in the stream when it is back."""
        away = False
        while True:
            try:
                step()
            except redis.RedisError as error:
                if not away:
                    click.echo(f"{unreadable(self.where, error)}; trying again until it is back", err=True)
                away = True
                time.sleep(RETRY_S)
            else:
                if away:
                    click.echo(f"the trail at {self.where} is back", err=True)
                away = False

    def _write_and_acknowledge(self, items: Iterable[Item], group: Group) -> None:
        batch: list[Item] = []
        for item in items:
            self._show([item])
            batch.append(item)
            if len(batch) >= SEEN_LIMIT // 1000:
                self._acknowledge(batch, group)
        self._acknowledge(batch, group)

    def _acknowledge(self, batch: list[Item], group: Group) -> None:
        self.out.flush()
        self.trail.done(batch, group.name)
        batch.clear()

    def _head(self) -> None:
        if self.table is not None:
            self.out.write(self.table.heading())

    def _write(self, line: audit_lines.Line) -> None:
        self.out.write(line)
        self.shown += 1

    def _show(self, items: Iterable[Item]) -> None:
        for item in items:
            names = differing(item.fields, item.body, item.key, str(item.id))
            if names:
                self.mismatches += 1
                table = self.table
                self._write(table.mismatch(item, names) if table else audit_lines.json_mismatch(item, names))
                continue
            row = read_body(item.body)
            self._note(row)
            if self.wanted.matches(row):
                self._write(self.table.event(row) if self.table else audit_lines.json_event(item))

    def _note(self, row: Row) -> None:
        if not self.unconfirmed_after_s or not row.decision_id:
            return
        if row.kind == "completion":
            if self._open.pop(row.decision_id, None) is None:
                self._completed[row.decision_id] = None
        elif row.allowed and row.decision_id not in self._completed:
            self._open[row.decision_id] = row
        else:
            self._completed.pop(row.decision_id, None)
        for seen in (self._open, self._completed):
            if len(seen) > SEEN_LIMIT:
                seen.pop(next(iter(seen)))

    def _overdue(self) -> None:
        if not self._open:
            return
        now = time.time_ns() // 1_000_000
        for row in unconfirmed(self._open.values(), self._completed, now, int(self.unconfirmed_after_s * 1000)):
            del self._open[row.decision_id]
            if self.wanted.matches(row):
                table = self.table
                self._write(table.event(row, unconfirmed=True) if table else audit_lines.json_unconfirmed(row))


def unreadable(where: str, error: redis.RedisError) -> str:
    """Return why the trail at `where` cannot be read, with the next step where it is not there at all."""
    word = fault_word(error)
    hint = ""
    if word in {"unreachable", "timeout"}:
        hint = (
            "; the Valkey of `rankgate up` runs only while the gate does"
            if where.startswith("unix:")
            else "; see that it runs and that the URL is right"
        )
    return f"the trail at {where} cannot be read: {word}{hint}"
