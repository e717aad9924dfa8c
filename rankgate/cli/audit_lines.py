"""One event -> one line, for a program (JSON) or a person (columns). Nothing in it can command a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

import click

from rankgate.audit.entry import Row
from rankgate.audit.text import dump, printable
from rankgate.clients.trail import Item

__all__ = ["HEADING", "Line", "json_event", "json_mismatch", "json_unconfirmed", "table_event", "table_mismatch"]

Line = bytes

_COLUMNS = (("TIME", 24), ("EVENT", 11), ("REASON", 20), ("SUBJECT", 28), ("TENANT", 12), ("ROUTE", 14))
HEADING = ("  ".join(f"{name:<{width}}" for name, width in _COLUMNS) + "  DOCS  FOUND  RECEIPT\n").encode()
_COLOURS = {"allow": "green", "deny": "red", "unconfirmed": "yellow", "alarm": "yellow", "mismatch": "red"}


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
    told = {"rankgate": "unconfirmed", "decision_id": row.decision_id, "time": row.time, "receipt": row.receipt}
    return dump(told | {"subject": row.subject, "tenant": row.tenant, "route": row.route}) + b"\n"


def table_event(row: Row, style: Callable[..., str] = click.style, *, unconfirmed: bool = False) -> Line:
    """Return one row of the table; `style` colours a text, or leaves it."""
    event = "unconfirmed" if unconfirmed else row.decision or row.outcome or row.what
    reason = "no completion" if unconfirmed else row.reason or row.word
    moment = datetime.fromtimestamp(row.time // 1000, UTC)
    texts = (f"{moment:%Y-%m-%dT%H:%M:%S}.{row.time % 1000:03d}Z", event, reason, row.subject, row.tenant, row.route)
    cells = [_cell(text, width) for text, (_, width) in zip(texts, _COLUMNS, strict=True)]
    cells[1] = style(cells[1], fg=_COLOURS.get(event))
    documents = "" if row.documents is None else str(row.documents)
    findings = str(row.findings) if row.kind == "decision" else ""
    return f"{'  '.join(cells)}  {documents:>4}  {findings:>5}  {printable(row.receipt)}\n".encode()


def table_mismatch(item: Item, names: tuple[str, ...], style: Callable[..., str] = click.style) -> Line:
    """Return a line that names what does not agree in an entry."""
    word = style(_cell("mismatch", _COLUMNS[1][1]), fg=_COLOURS["mismatch"])
    where = printable(f"{item.key} {item.id}")
    return f"{'':24}  {word}  {', '.join(map(printable, names))} differ from the body in {where}\n".encode()


def _cell(text: str, width: int) -> str:
    safe = printable(text)
    return f"{safe if len(safe) <= width else safe[: width - 1] + '…':<{width}}"
