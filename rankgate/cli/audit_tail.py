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
from rankgate.clients.audit_redis import fault_word
from rankgate.clients.trail import Item, Trail

__all__ = ["Group", "Tail"]

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
    """One run. `mismatches` counts entries whose fields, place or body do not agree."""

    trail: Trail
    wanted: Filter
    output: str
    out: BinaryIO
    style: Callable[..., str]
    unconfirmed_after_s: float
    mismatches: int = 0
    _open: dict[str, Row] = field(default_factory=dict)
    _completed: dict[str, None] = field(default_factory=dict)

    def read(self, since: StreamId | None, *, follow: bool) -> None:
        """Write what is there from `since` on, and with `follow` what comes; without `since` a follower starts now."""
        keys = self.trail.discover()
        if since is None and follow:
            behind = {key: self.trail.end(key) for key in keys}
            self._head()
        else:
            behind = {key: StreamId(0, 0) for key in keys}
            self._head()
            for item in self.trail.past({key: since or StreamId(0, 0) for key in keys}):
                self._show([item])
                behind[item.key] = item.id
        self._overdue()
        self.out.flush()
        if follow:
            self._forever(lambda: self._follow(behind))

    def consume(self, group: Group, since: StreamId | None, *, follow: bool) -> None:
        """Write what the group has not acknowledged; acknowledge each entry after it was written out."""
        keys = self._join(group, since)
        self._head()
        self._write_and_acknowledge(self.trail.left_behind(keys, group.name, group.consumer), group)
        while keys and (items := self.trail.take(keys, group.name, group.consumer, None)):
            self._write_and_acknowledge(items, group)
        if follow:
            self._forever(lambda: self._consume_on(group, keys, since))

    def _follow(self, behind: dict[str, StreamId]) -> None:
        discover_at = time.monotonic() + DISCOVER_S
        while True:
            if behind:
                items = self.trail.next(behind, BLOCK_MS)
                self._show(items)
                for item in items:
                    behind[item.key] = item.id
            else:
                time.sleep(BLOCK_MS / 1000)
            self._overdue()
            self.out.flush()
            if time.monotonic() >= discover_at:
                behind |= dict.fromkeys(self.trail.discover(), StreamId(0, 0))
                discover_at = time.monotonic() + DISCOVER_S

    def _consume_on(self, group: Group, keys: list[str], since: StreamId | None) -> None:
        discover_at = time.monotonic() + DISCOVER_S
        while True:
            if keys:
                items = self.trail.take(keys, group.name, group.consumer, BLOCK_MS)
                self._write_and_acknowledge(items, group)
            else:
                time.sleep(BLOCK_MS / 1000)
            if time.monotonic() >= discover_at:
                keys += self._join(group, since)
                self._write_and_acknowledge(self.trail.left_behind(keys, group.name, group.consumer), group)
                discover_at = time.monotonic() + DISCOVER_S

    def _join(self, group: Group, since: StreamId | None) -> list[str]:
        keys = self.trail.discover()
        self.trail.join(keys, group.name, since or StreamId(0, 0))
        return keys

    def _forever(self, step: Callable[[], None]) -> None:
        """Go on through outages; entries are in the stream when it is back."""
        while True:
            try:
                step()
            except redis.RedisError as error:
                click.echo(f"the trail cannot be read now ({fault_word(error)}); trying again", err=True)
                time.sleep(RETRY_S)

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
        if self.output == "table":
            self.out.write(audit_lines.HEADING)

    def _show(self, items: Iterable[Item]) -> None:
        for item in items:
            names = differing(item.fields, item.body, item.key, str(item.id))
            if names:
                self.mismatches += 1
                if self.output == "table":
                    self.out.write(audit_lines.table_mismatch(item, names, self.style))
                else:
                    self.out.write(audit_lines.json_mismatch(item, names))
                continue
            row = read_body(item.body)
            self._note(row)
            if self.wanted.matches(row):
                table = self.output == "table"
                self.out.write(audit_lines.table_event(row, self.style) if table else audit_lines.json_event(item))

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
                table = self.output == "table"
                line = audit_lines.table_event(row, self.style, unconfirmed=True)
                self.out.write(line if table else audit_lines.json_unconfirmed(row))
