"""Findings of texts seen before: one table per partition, bounded in bytes over all of them.

The key is the text itself, so no digest can collide, and a partition never sees another's entries. Who needs
room gives up its own oldest entries first; only the largest table gives way to a smaller one.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from rankgate.detect.finding import Finding

__all__ = ["Cache"]

_ENTRY = 200
_FINDING = 120

Findings = tuple[Finding, ...]


class _Table:
    __slots__ = ("entries", "size")

    def __init__(self) -> None:
        self.entries: OrderedDict[str, Findings] = OrderedDict()
        self.size = 0


class Cache:
    """A least-recently-used cache of at most `limit` bytes; 0 keeps nothing. Safe to share between threads."""

    __slots__ = ("_limit", "_lock", "_size", "_tables", "hits", "misses")

    def __init__(self, limit: int) -> None:
        self.hits = 0
        self.misses = 0
        self._limit = limit
        self._size = 0
        self._tables: dict[str, _Table] = {}
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """The bytes all entries are accounted with."""
        return self._size

    def get(self, partition: str, text: str) -> Findings | None:
        """Return what was put for `text` in `partition`."""
        with self._lock:
            table = self._tables.get(partition)
            found = table.entries.get(text) if table is not None else None
            if table is None or found is None:
                self.misses += 1
                return None
            self.hits += 1
            table.entries.move_to_end(text)
            return found

    def get_all(self, partition: str, texts: Sequence[str]) -> list[Findings | None]:
        """Return what `get` would for each of `texts`."""
        with self._lock:
            table = self._tables.get(partition)
            if table is None:
                self.misses += len(texts)
                return [None] * len(texts)
            found = list(map(table.entries.get, texts))
            for text, known in zip(texts, found, strict=True):
                if known is not None:
                    table.entries.move_to_end(text)
            missing = found.count(None)
            self.misses += missing
            self.hits += len(found) - missing
            return found

    def unknown_chars(self, partition: str, texts: Iterable[str]) -> int:
        """Return the characters of the different `texts` for which nothing was put, without counting it as use."""
        with self._lock:
            table = self._tables.get(partition)
            known = table.entries if table is not None else ()
            return sum([len(text) for text in {*texts} if text not in known])

    def put(self, partition: str, text: str, findings: Findings) -> None:
        """Keep `findings`; a text of more than an eighth of the limit is not kept."""
        cost = _cost(text, findings)
        if cost * 8 > self._limit:
            return
        with self._lock:
            table = self._tables.get(partition)
            if table is None:
                table = self._tables[partition] = _Table()
            if text in table.entries:
                return
            table.entries[text] = findings
            table.size += cost
            self._size += cost
            while self._size > self._limit:
                self._evict(table)

    def _evict(self, table: _Table) -> None:
        """Drop one entry: the newcomer's own oldest if its table holds a fair share, else the largest table's."""
        fair = self._limit // len(self._tables)
        if table.size <= fair or len(table.entries) == 1:
            table = max(self._tables.values(), key=lambda one: one.size)
        text, findings = table.entries.popitem(last=False)
        cost = _cost(text, findings)
        table.size -= cost
        self._size -= cost
        if not table.entries:
            self._tables = {name: one for name, one in self._tables.items() if one.entries}


def _cost(text: str, findings: Findings) -> int:
    return sys.getsizeof(text) + _ENTRY + _FINDING * len(findings)
