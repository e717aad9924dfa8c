"""`rankgate audit`: read the audit trail, and prove it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import click

from rankgate.cli.audit_export import export, show
from rankgate.cli.audit_keys import keys
from rankgate.cli.audit_verify import verify
from rankgate.cli.trail_options import missing, place, trail_options

__all__ = ["audit"]


@click.group()
def audit() -> None:
    """Read the audit trail, and prove it."""


for command in (keys, export, show, verify):
    audit.add_command(command)


@audit.command()
@trail_options
@click.option("--log", help="Only logs whose name begins so, as local/ext_authz-0.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes; new logs are picked up.")
@click.option("--since", help="A duration like 10m, an RFC 3339 time, or a stream id.")
@click.option(
    "--filter", "terms", multiple=True, metavar="KEY=VALUE", help="Show only these, as decision=deny; repeatable."
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="json: one event a line.",
)
@click.option("--group", help="Read in this consumer group, acknowledging what was written out.")
@click.option("--consumer", help="Name in the group; the host's where unset.")
@click.option(
    "--unconfirmed-after",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Seconds after which an allow without completion is shown; 0: never.",
)
@click.pass_context
def tail(
    ctx: click.Context,
    file: Path | None,
    url: str | None,
    redis_user: str | None,
    redis_password_file: Path | None,
    redis_ca_file: Path | None,
    deployment: str | None,
    log: str | None,
    follow: bool,
    since: str | None,
    terms: tuple[str, ...],
    output: str,
    group: str | None,
    consumer: str | None,
    unconfirmed_after: float,
) -> None:
    """Print the events of every log of a deployment, about in order of time: as they were written down.

    Without --since everything that is there, with --follow what comes from now on. Every event's fields are derived
    again from its body; what does not agree is shown as a mismatch, whatever the filter. `unconfirmed` marks an allow
    that no completion followed; in a group it is not derived, because a completion may go to another reader.

    Filter keys: type, decision (allow, deny), reason, outcome, status, issuer, subject, tenant, route, dialect, model,
    decision_id, log, what, word. A repeated key widens, another key narrows. The RECEIPT is the decision_id, which a
    caller gets with every answer.

    A table fits its terminal and is complete in a pipe. Exits 1 if the trail cannot be read, there is no such log or
    deployment, or an entry does not agree with its body; 130 at Ctrl-C.
    """
    import time

    import redis

    from rankgate.audit.reading import Filter, parse_since
    from rankgate.cli.audit_lines import Table
    from rankgate.cli.audit_tail import Group, Tail, unreadable
    from rankgate.clients.trail import Trail

    if consumer and not group:
        raise click.UsageError("--consumer has no effect without --group")
    at = place(file, url, redis_user, redis_password_file, redis_ca_file, deployment)
    try:
        wanted = Filter.parse(terms)
        start = parse_since(since, time.time_ns() // 1_000_000) if since else None
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    after = 0.0 if group else unconfirmed_after
    # A buffer of our own: sys.stdout.buffer is none where Python was told not to buffer.
    out = open(sys.stdout.fileno(), "wb", closefd=False)  # noqa: SIM115 - a descriptor, flushed below
    trail = Trail(at.client, at.deployment, log)
    table = Table(_style(), _width()) if output == "table" else None
    run = Tail(trail, wanted, table, out, at.where, after)
    with _ending_cleanly(ctx, out):
        try:
            absent = missing(trail, at.deployment, log)
            if absent and not follow:
                raise click.ClickException(absent)
            if absent:
                click.echo(f"{absent}; waiting for it", err=True)
            if group:
                run.consume(Group(group, consumer or socket.gethostname()), start, follow=follow)
            else:
                run.read(start, follow=follow)
        except redis.RedisError as error:
            raise click.ClickException(unreadable(at.where, error)) from None
        out.flush()
    if not run.shown:
        click.echo("no events" if not (terms or since or group) else "no events for what was asked", err=True)
    if run.mismatches:
        raise click.ClickException(f"{run.mismatches} entries do not agree with their body")


def _width() -> int | None:
    """Return the width of the terminal, None where the output goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _style() -> Callable[..., str]:
    """Return what colours a text: only on a terminal, and not where NO_COLOR is set."""
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        return click.style

    def plain(text: str, **_: Any) -> str:
        return text

    return plain


@contextlib.contextmanager
def _ending_cleanly(ctx: click.Context, out: BinaryIO) -> Iterator[None]:
    """End without a traceback where a person pressed Ctrl-C (130) or the reader of the output went away (0)."""
    try:
        yield
    except KeyboardInterrupt:
        with contextlib.suppress(BrokenPipeError):
            out.flush()
        ctx.exit(130)
    except BrokenPipeError:
        # The interpreter flushes once more when it ends; let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        ctx.exit(0)
