"""`rankgate audit`: read the audit trail, and prove it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from rankgate.audit.text import printable
from rankgate.cli.audit_export import export, show
from rankgate.cli.audit_keys import keys
from rankgate.cli.audit_verify import verify

if TYPE_CHECKING:
    from rankgate.clients.trail import Trail

__all__ = ["audit"]

FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.group()
def audit() -> None:
    """Read the audit trail, and prove it."""


for command in (keys, export, show, verify):
    audit.add_command(command)


@audit.command()
@click.option("--config", "file", type=FILE, help="Settings file (TOML) of a gate: its Redis and its deployment.")
@click.option("--redis", "url", envvar="RANKGATE_AUDIT__REDIS_URL", help="redis://, rediss:// or unix:// URL.")
@click.option("--redis-user", envvar="RANKGATE_AUDIT__REDIS_USER", help="Redis user.")
@click.option("--redis-password-file", type=FILE, help="File with the password.")
@click.option("--redis-ca-file", type=FILE, help="PEM bundle for rediss.")
@click.option(
    "--deployment", envvar="RANKGATE_DEPLOYMENT", help="Whose trail; without it that of --config, or `default`."
)
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
    from rankgate.clients.audit_redis import connect
    from rankgate.clients.trail import Trail
    from rankgate.settings import load

    if consumer and not group:
        raise click.UsageError("--consumer has no effect without --group")
    if file is not None:
        settings = load(file)
        url = url or settings.audit.redis_url
        redis_user = redis_user or settings.audit.redis_user
        redis_password_file = redis_password_file or settings.audit.redis_password_file
        redis_ca_file = redis_ca_file or settings.audit.redis_ca_file
        deployment = deployment or settings.deployment
    if not url:
        raise click.UsageError("give --redis URL, or --config FILE with audit.redis_url in it")
    try:
        wanted = Filter.parse(terms)
        start = parse_since(since, time.time_ns() // 1_000_000) if since else None
        client = connect(url, user=redis_user, password_file=redis_password_file, ca_file=redis_ca_file)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    after = 0.0 if group else unconfirmed_after
    # A buffer of our own: sys.stdout.buffer is none where Python was told not to buffer.
    out = open(sys.stdout.fileno(), "wb", closefd=False)  # noqa: SIM115 - a descriptor, flushed below
    deployment, where = deployment or "default", _where(url)
    trail = Trail(client, deployment, log)
    table = Table(_style(), _width()) if output == "table" else None
    run = Tail(trail, wanted, table, out, where, after)
    with _ending_cleanly(ctx, out):
        try:
            missing = _missing(trail, deployment, log)
            if missing and not follow:
                raise click.ClickException(missing)
            if missing:
                click.echo(f"{missing}; waiting for it", err=True)
            if group:
                run.consume(Group(group, consumer or socket.gethostname()), start, follow=follow)
            else:
                run.read(start, follow=follow)
        except redis.RedisError as error:
            raise click.ClickException(unreadable(where, error)) from None
        out.flush()
    if not run.shown:
        click.echo("no events" if not (terms or since or group) else "no events for what was asked", err=True)
    if run.mismatches:
        raise click.ClickException(f"{run.mismatches} entries do not agree with their body")


def _where(url: str) -> str:
    """Return `url` without what may be a user and password."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _missing(trail: Trail, deployment: str, log: str | None) -> str:
    """Return which deployments or logs there are, where those asked for are not among them; else nothing."""
    deployments, logs = trail.known()
    if deployments and deployment not in deployments:
        return f"there is no trail of deployment {printable(deployment)}; known are {_some(deployments)}"
    if log is not None and logs and not any(name.startswith(log) for name in logs):
        return f"no log begins with {printable(log)}; known are {_some(logs)}"
    return ""


def _some(names: list[str], limit: int = 20) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return printable(", ".join(names[:limit])) + more


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
