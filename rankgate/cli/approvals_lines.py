"""Approvals and reviews as people read them in a terminal. Nothing in them can command it, or is taken for markup."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import click
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rankgate.audit.text import printable
from rankgate.cli.approvals_session import OBJECTIONS

__all__ = ["details", "list_of_approvals", "list_of_reviews", "outcome"]

_STYLES = {
    "pending": "yellow", "approved": "green", "denied": "red", "expired": "dim", "cancelled": "dim", "consumed": "cyan",
    "open": "yellow", "closed": "dim",
}  # fmt: skip
# In a pipe nothing is cut: grep must find what a terminal would have no room for.
_PIPE = 10_000
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(\.\d+)?(Z|\+00:00)")


def list_of_approvals(items: Sequence[Mapping[str, Any]]) -> None:
    """Print one row an approval on stdout."""
    table = _table("ID", "STATE", "OPENED", "EXPIRES", "SUBJECT", "TENANT", "ROUTE", "DOCS", "FOUND", "RISK", "NEEDED")
    for item in items:
        caller = _mapping(item.get("caller"))
        table.add_row(
            _text(item.get("id")), _state(item.get("state")), _when(item.get("opened")), _when(item.get("expires")),
            _text(caller.get("subject")), _text(caller.get("tenant")), _text(item.get("route")),
            _text(item.get("document_count")), _text(sum(_counts(item.get("findings")).values())),
            _text(item.get("risk")), _text(item.get("needed")),
        )  # fmt: skip
    _print(table, stderr=False)


def list_of_reviews(items: Sequence[Mapping[str, Any]]) -> None:
    """Print one row a review item on stdout."""
    table = _table("ID", "OPENED", "SUBJECT", "TENANT", "ROUTE", "DOCS", "FOUND", "REASON", "CLOSED BY")
    for item in items:
        caller = _mapping(item.get("caller"))
        table.add_row(
            _text(item.get("id")), _when(item.get("opened")), _text(caller.get("subject")),
            _text(caller.get("tenant")), _text(item.get("route")), _text(item.get("document_count")),
            _text(sum(_counts(item.get("findings")).values())), _text(item.get("reason")), _text(item.get("closed_by")),
        )  # fmt: skip
    _print(table, stderr=False)


def details(item: Mapping[str, Any], *, stderr: bool = False) -> None:
    """Print everything about one approval: who asks, for what, what was found, what will be done, who decided what."""
    caller, requirement = _mapping(item.get("caller")), _mapping(item.get("requirement"))
    rows: list[tuple[str, Text]] = [
        ("approval", _text(item.get("id"))),
        ("state", _state(item.get("state"))),
        ("who", _joined([caller.get("subject"), "of", caller.get("tenant"), f"({_plain(caller.get('issuer'))})"])),
        ("asks", _joined([item.get("dialect"), item.get("path"), "on", item.get("upstream")])),
        ("model", _text(item.get("model"))),
        ("documents", _text(f"{_plain(item.get('document_count'))}, {_plain(item.get('total_chars'))} characters")),
        ("found", _text(_findings(item.get("findings")))),
        ("risk", _text(item.get("risk"))),
        ("because", _text("; ".join(_plain(reason) for reason in _list(item.get("reasons"))))),
        ("plan", _text(_plan(_mapping(item.get("plan"))))),
        ("needs", _text(_needs(requirement, item.get("needed")))),
        ("opened", _when(item.get("opened"))),
        ("expires", _when(item.get("expires"))),
        ("receipt", _text(item.get("decision_id"))),
        ("used by", _text(item.get("used_by"))),
        ("note", _text(item.get("note"))),
    ]
    rows += [("vote", _vote(_mapping(vote))) for vote in _list(item.get("votes"))]
    if objection := item.get("objection"):
        rows.append(("you", _text(OBJECTIONS.get(str(objection), objection))))
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        if value.plain:
            table.add_row(Text(name), value)
    _print(table, *_preview(_mapping(item.get("preview"))), stderr=stderr)


def outcome(item: Mapping[str, Any], approval: str) -> None:
    """Print what became of one approval, on one line of stdout."""
    needed = item.get("needed")
    more = f", {needed} more needed" if isinstance(needed, int) and needed > 0 else ""
    _print(Text.assemble(_text(item.get("id") or approval), "  ", _state(item.get("state")), more), stderr=False)


def _preview(preview: Mapping[str, Any]) -> Iterator[RenderableType]:
    texts = [("query", preview.get("query")), ("instruction", preview.get("instruction"))]
    for document in _list(preview.get("documents")):
        position, text = document if isinstance(document, list) and len(document) == 2 else ("?", document)
        texts.append((f"document {_plain(position)}", text))
    for name, text in texts:
        if isinstance(text, str) and text:
            yield Text(f"\n{printable(name)}", style="bold")
            # Lines of a text stay lines; whatever else moves a cursor is written out.
            lines = Text("\n").join(Text(printable(line)) for line in text.split("\n"))
            yield Padding(lines, (0, 0, 0, 2), expand=False)
    if preview.get("cut"):
        yield Text("\n(The preview is cut short.)", style="dim")


def _plan(plan: Mapping[str, Any]) -> str:
    dropped = _list(plan.get("dropped"))
    request, response = (_plain(plan.get(name)) or "none" for name in ("mask_request", "mask_response"))
    said = [
        f"mask request {request}, response {response}",
        f"drop {len(dropped)} ({', '.join(_plain(place) for place in dropped[:12])}), rank {_plain(plan.get('kept'))}"
        if dropped
        else "drop nothing",
        f"lend credential {_plain(plan.get('credential'))}" if plan.get("credential") else "lend no credential",
    ]
    if plan.get("relaxed"):
        said.append("MASKING IS RELAXED")
    return "; ".join(said)


def _needs(requirement: Mapping[str, Any], needed: object) -> str:
    groups = " or ".join(_plain(group) for group in _list(requirement.get("groups")))
    missing = f", {needed} more needed" if isinstance(needed, int) and needed > 0 else ""
    return f"{_plain(requirement.get('quorum'))} of {groups}{missing}" if groups else ""


def _vote(vote: Mapping[str, Any]) -> Text:
    told = Text.assemble(_joined([vote.get("choice"), "by", vote.get("person")]), ", ", _when(vote.get("time")))
    reason = _plain(vote.get("reason"))
    return told.append(f": {reason}") if reason else told


def _findings(found: object) -> str:
    counts = sorted(_counts(found).items(), key=lambda one: (-one[1], one[0]))
    return ", ".join(f"{count} {printable(name)}" for name, count in counts) or "nothing"


def _counts(found: object) -> dict[str, int]:
    return {name: count for name, count in _mapping(found).items() if isinstance(count, int)}


def _state(state: object) -> Text:
    return Text(_plain(state), style=_STYLES.get(str(state), ""))


def _when(moment: object) -> Text:
    text = _plain(moment)
    match = _MOMENT.fullmatch(text)
    return Text(f"{match[1]} {match[2]}Z" if match else text)


def _joined(parts: Iterable[object]) -> Text:
    return Text(" ".join(filter(None, map(_plain, parts))))


def _text(value: object) -> Text:
    # Text, never a plain string: rich would read markup, links and emoji out of a string.
    return Text(_plain(value))


def _plain(value: object) -> str:
    return "" if value is None else printable(str(value))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _table(*names: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in names:
        # An id is there to be copied.
        table.add_column(name, no_wrap=True, justify="right" if name in {"DOCS", "FOUND", "NEEDED"} else "left",
                         min_width=30 if name == "ID" else None)  # fmt: skip
    return table


def _print(*values: RenderableType, stderr: bool) -> None:
    stream = sys.stderr if stderr else sys.stdout
    if stream.isatty():
        Console(file=stream, highlight=False, markup=False, emoji=False).print(*values, sep="\n")
        return
    # Where no terminal is, nothing is coloured, cut or filled up with spaces.
    console = Console(file=stream, width=_PIPE, color_system=None, highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(*values, sep="\n")
    for line in capture.get().splitlines():
        click.echo(line.rstrip(), err=stderr)
