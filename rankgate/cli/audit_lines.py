"""One event -> one line, for a program (JSON) or a person (columns). Nothing in it can command a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import click

from rankgate.audit.entry import Row
from rankgate.audit.text import dump, printable
from rankgate.clients.trail import Item

__all__ = ["Line", "Table", "json_event", "json_mismatch", "json_unconfirmed"]

Line = bytes

_ORDER = ("TIME", "EVENT", "REASON", "SUBJECT", "TENANT", "ROUTE", "DOCS", "FOUND", "RECEIPT")
_GAP = 2
# What is always there; REASON takes what is left over. A receipt is shown whole: it is there to be copied.
_ALWAYS = {"TIME": 8, "EVENT": 14, "REASON": 22, "RECEIPT": 30}
# Room for the longest reason word, or a word and a sentence of the policy, before more columns are added.
_REASON = 44
_MORE = {"SUBJECT": 16, "TENANT": 12, "ROUTE": 14, "DOCS": 4, "FOUND": 5}
_NUMBERS = frozenset({"DOCS", "FOUND"})
_FULL_TIME = 24
_COLOURS = {
    "allow": "green", "deny": "red", "refused": "red", "mismatch": "red", "upstream_error": "red",
    "aborted": "yellow", "local_reply": "yellow", "unconfirmed": "yellow", "alarm": "yellow",
}  # fmt: skip


def json_event(item: Item) -> Line:
    """Return the body as it is where it already is one safe line, else the same value written safely."""
    text = item.body.decode("utf-8")
    if printable(text) == text:
        return item.body + b"\n"
    return dump(json.loads(text)) + b"\n"


def json_mismatch(item: Item, names: tuple[str, ...]) -> Line:
    """Return an object that names what does not agree, and holds both sides."""
    told = {"rankgate": "mismatch", "stream": item.key, "id": str(item.id), "differs": list(names)}
    return dump(told | {"fields": dict(item.fields), "body": item.body.decode("utf-8", "replace")}) + b"\n"


def json_unconfirmed(row: Row) -> Line:
    """Return an object for an allow that no completion followed."""
    told = {"rankgate": "unconfirmed", "decision_id": row.decision_id, "time": row.time, "position": row.position}
    return dump(told | {"subject": row.subject, "tenant": row.tenant, "route": row.route}) + b"\n"


@dataclass(frozen=True, slots=True)
class Table:
    """Events as rows of at most `width` characters, of any length where None. `style` colours a text, or leaves it."""

    style: Callable[..., str] = click.style
    width: int | None = None

    def heading(self) -> Line:
        """Return the names of the columns."""
        return self._line({name: name for name in _ORDER})

    def event(self, row: Row, *, unconfirmed: bool = False) -> Line:
        """Return one row."""
        event = "unconfirmed" if unconfirmed else row.decision or row.outcome or row.what
        reason = "no completion" if unconfirmed else ": ".join(filter(None, [row.reason or row.word, row.note]))
        moment = datetime.fromtimestamp(row.time // 1000, UTC)
        short = self._columns()["TIME"] < _FULL_TIME
        return self._line({
            "TIME": f"{moment:%H:%M:%S}" if short else f"{moment:%Y-%m-%dT%H:%M:%S}.{row.time % 1000:03d}Z",
            "EVENT": event,
            "REASON": reason,
            "SUBJECT": row.subject,
            "TENANT": row.tenant,
            "ROUTE": row.route,
            "DOCS": "" if row.documents is None else str(row.documents),
            "FOUND": str(row.findings) if row.kind == "decision" else "",
            "RECEIPT": row.decision_id,
        })  # fmt: skip

    def mismatch(self, item: Item, names: tuple[str, ...]) -> Line:
        """Return a line, as long as it takes, that names what does not agree in an entry."""
        columns = self._columns()
        word = self._coloured(f"{'mismatch':<{columns['EVENT']}}", "mismatch")
        told = printable(f"{', '.join(names)} differ from the body in {item.key} {item.id}")
        return f"{'':{columns['TIME']}}  {word}  {told}\n".encode()

    def _columns(self) -> Mapping[str, int]:
        """Return the columns that fit and their widths, in order."""
        if self.width is None:
            return _sorted({**_ALWAYS, **_MORE, "TIME": _FULL_TIME, "REASON": _REASON})
        shown = dict(_ALWAYS)
        left = self.width - _taken(shown)
        for name, size in _MORE.items():
            if left - size - _GAP < _REASON - _ALWAYS["REASON"]:
                break
            shown[name] = size
            left -= size + _GAP
        if left - (_FULL_TIME - shown["TIME"]) >= _REASON - _ALWAYS["REASON"]:
            left -= _FULL_TIME - shown["TIME"]
            shown["TIME"] = _FULL_TIME
        shown["REASON"] += max(left, 0)
        return _sorted(shown)

    def _line(self, texts: Mapping[str, str]) -> Line:
        cells = []
        for name, width in self._columns().items():
            text = printable(texts[name])
            if self.width is not None and len(text) > width and name != "RECEIPT":
                text = f"{text[: width - 1]}…"
            cell = f"{text:>{width}}" if name in _NUMBERS else f"{text:<{width}}"
            cells.append(self._coloured(cell, text) if name == "EVENT" else cell)
        return f"{'  '.join(cells).rstrip()}\n".encode()

    def _coloured(self, cell: str, event: str) -> str:
        colour = _COLOURS.get(event)
        return cell if colour is None else self.style(cell, fg=colour)


def _taken(columns: Mapping[str, int]) -> int:
    return sum(columns.values()) + _GAP * (len(columns) - 1)


def _sorted(columns: Mapping[str, int]) -> Mapping[str, int]:
    return {name: columns[name] for name in _ORDER if name in columns}
