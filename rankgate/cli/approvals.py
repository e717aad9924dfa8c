"""`rankgate approvals`: see what waits for a person, agree or refuse, and wait for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from rankgate.cli.approvals_login import login, logout
from rankgate.cli.approvals_session import (
    DECIDED_AGAINST,
    DURATION,
    EXIT_CODES,
    OBJECTIONS,
    Reason,
    asks_people,
    code_of,
    console_options,
    output_option,
    print_json,
    reason_option,
    session,
    warn,
)

if TYPE_CHECKING:
    from rankgate.clients.console import ConsoleClient

__all__ = ["approvals"]

STATES = ("pending", "approved", "denied", "expired", "cancelled", "consumed", "open", "all")
PAGE = 100
# What is granted stays granted where the gate has used it meanwhile.
_GRANTED = frozenset({"approved", "consumed"})


@click.group(epilog=EXIT_CODES)
def approvals() -> None:
    """See what waits for a person, and decide it.

    The token is the one `rankgate approvals login` obtained, or RANKGATE_CONSOLE_TOKEN.
    """


approvals.add_command(login)
approvals.add_command(logout)


@approvals.command("list", epilog=EXIT_CODES)
@console_options
@click.option("--state", type=click.Choice(STATES), default="pending", show_default=True, help="Which are listed.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Most that are listed.")
@click.option("--before", metavar="ID", help="Only those older than this one.")
@output_option
@click.pass_context
def list_(
    ctx: click.Context, url: str | None, ca_file: Path | None, state: str, limit: int, before: str | None, output: str
) -> None:
    """List approvals, newest first, without previews."""
    with session(ctx, url, ca_file) as console:
        found: list[dict[str, Any]] = []
        last = before or ""
        while len(found) < limit:
            wanted = min(PAGE, limit - len(found))
            page = console.listing(state, wanted, last)
            found += page
            if len(page) < wanted or str(page[-1].get("id")) == last:
                break
            last = str(page[-1].get("id"))
    if output == "json":
        for item in found:
            print_json(item)
        return
    if not found:
        click.echo("nothing waits for a person" if state == "pending" else "none", err=True)
        return
    from rankgate.cli.approvals_lines import list_of_approvals

    list_of_approvals(found)


@approvals.command(epilog=EXIT_CODES)
@click.argument("approval", metavar="ID")
@console_options
@click.option("--wait", is_flag=True, help="Wait until it is decided.")
@click.option("--timeout", type=DURATION, help="How long to wait, as 10m; without it for good.")
@output_option
@click.pass_context
def show(
    ctx: click.Context, approval: str, url: str | None, ca_file: Path | None, wait: bool, timeout: int | None,
    output: str,
) -> None:  # fmt: skip
    """Show one approval: who asks for what, what was found, what will be done, and who decided what.

    The console writes down who looked at a preview. Without --wait the state does not change the exit code.
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout has no effect without --wait")
    with session(ctx, url, ca_file) as console:
        item = console.wait(approval, timeout) if wait else console.show(approval)
    if output == "json":
        print_json(item)
    else:
        from rankgate.cli.approvals_lines import details

        details(item)
    if wait and item.get("state") not in _GRANTED:
        ctx.exit(DECIDED_AGAINST)


@approvals.command(epilog=EXIT_CODES)
@click.argument("approval", metavar="ID")
@console_options
@click.option("--timeout", type=DURATION, help="How long to wait, as 10m; without it for good.")
@output_option
@click.pass_context
def wait(
    ctx: click.Context, approval: str, url: str | None, ca_file: Path | None, timeout: int | None, output: str
) -> None:
    """Wait until one approval is decided, and say how: exits 0 if it is approved or used, 3 if not."""
    with session(ctx, url, ca_file) as console:
        item = console.wait(approval, timeout)
    _print_outcome(item, approval, output)
    if item.get("state") not in _GRANTED:
        ctx.exit(DECIDED_AGAINST)


@approvals.command(epilog=EXIT_CODES)
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@console_options
@reason_option
@click.option("--use-within", type=DURATION, help="Let it be used only so long, as 10m.")
@click.option("--yes", is_flag=True, help="Do not ask; needed where there is no terminal.")
@output_option
@click.pass_context
def approve(
    ctx: click.Context, ids: tuple[str, ...], url: str | None, ca_file: Path | None, reason: str | None,
    use_within: int | None, yes: bool, output: str,
) -> None:  # fmt: skip
    """Agree to what is shown: to exactly these bytes, and to what will be done with them.

    Of several ids each is shown and asked about; the exit code is that of the first that failed.
    """
    if not yes and not asks_people():
        raise click.UsageError("there is no terminal to ask on; give --yes to approve what you have looked at")

    def decide(console: ConsoleClient, approval: str) -> dict[str, Any] | None:
        item = _shown(console, approval)
        if (objection := item.get("objection")) is not None:
            raise _refused(str(objection))
        if not yes and not click.confirm(f"Approve {_safe(approval)}?", err=True):
            return None
        return console.vote(approval, "approve", str(item.get("record", "")), told(), use_within)

    told = Reason(reason)
    with session(ctx, url, ca_file) as console:
        _each(ctx, console, ids, decide, output)


@approvals.command(epilog=EXIT_CODES)
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@console_options
@reason_option
@output_option
@click.pass_context
def deny(
    ctx: click.Context, ids: tuple[str, ...], url: str | None, ca_file: Path | None, reason: str | None, output: str
) -> None:
    """Refuse what is shown. One refusal is enough, and it is final."""

    def decide(console: ConsoleClient, approval: str) -> dict[str, Any]:
        item = _shown(console, approval)
        return console.vote(approval, "deny", str(item.get("record", "")), told())

    told = Reason(reason)
    with session(ctx, url, ca_file) as console:
        _each(ctx, console, ids, decide, output)


@approvals.command(epilog=EXIT_CODES)
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@console_options
@output_option
@click.pass_context
def withdraw(ctx: click.Context, ids: tuple[str, ...], url: str | None, ca_file: Path | None, output: str) -> None:
    """Take your own vote back, while the approval is open."""

    def decide(console: ConsoleClient, approval: str) -> dict[str, Any]:
        return console.withdraw(approval, str(console.show(approval).get("record", "")))

    with session(ctx, url, ca_file) as console:
        _each(ctx, console, ids, decide, output)


@approvals.command(epilog=EXIT_CODES)
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@console_options
@reason_option
@output_option
@click.pass_context
def cancel(
    ctx: click.Context, ids: tuple[str, ...], url: str | None, ca_file: Path | None, reason: str | None, output: str
) -> None:
    """Close open approvals without a decision; needs the console's role `operate`."""
    told = Reason(reason)
    with session(ctx, url, ca_file) as console:
        _each(ctx, console, ids, lambda client, approval: client.cancel(approval, told()), output)


@approvals.command(epilog=EXIT_CODES)
@click.argument("person")
@console_options
@reason_option
@output_option
@click.pass_context
def revoke(
    ctx: click.Context, person: str, url: str | None, ca_file: Path | None, reason: str | None, output: str
) -> None:
    """Let no vote that PERSON cast until now count any more; needs the console's role `operate`.

    PERSON is one of the names the console knows them by, as a mail address.
    """
    told = Reason(reason)
    with session(ctx, url, ca_file) as console:
        done = console.revoke(person, told())
    if output == "json":
        print_json(done)
    else:
        open_ones = done.get("approvals")
        counted = f"; open approvals that changed: {open_ones}" if isinstance(open_ones, int) else ""
        click.echo(f"revoked the votes of {_safe(person)}{counted}")


@approvals.group(epilog=EXIT_CODES)
def reviews() -> None:
    """Look after calls that went ahead without an approval."""


@reviews.command("list", epilog=EXIT_CODES)
@console_options
@click.option("--state", type=click.Choice(["open", "closed"]), default="open", show_default=True, help="Which ones.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="Most that are listed.")
@output_option
@click.pass_context
def list_reviews(
    ctx: click.Context, url: str | None, ca_file: Path | None, state: Literal["open", "closed"], limit: int, output: str
) -> None:
    """List review items, newest first."""
    with session(ctx, url, ca_file) as console:
        found = console.reviews(state, limit)
    if output == "json":
        for item in found:
            print_json(item)
        return
    if not found:
        click.echo(f"no review is {state}", err=True)
        return
    from rankgate.cli.approvals_lines import list_of_reviews

    list_of_reviews(found)


@reviews.command(epilog=EXIT_CODES)
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@console_options
@reason_option
@output_option
@click.pass_context
def close(
    ctx: click.Context, ids: tuple[str, ...], url: str | None, ca_file: Path | None, reason: str | None, output: str
) -> None:
    """Say that you looked at what was done without an approval; needs the console's role `operate`."""

    def decide(console: ConsoleClient, review: str) -> dict[str, Any]:
        return {"id": review, "state": "closed"} | console.close_review(review, told())

    told = Reason(reason)
    with session(ctx, url, ca_file) as console:
        _each(ctx, console, ids, decide, output)


def _shown(console: ConsoleClient, approval: str) -> dict[str, Any]:
    """Return the approval after showing it on stderr: stdout is for what became of it."""
    from rankgate.cli.approvals_lines import details

    item = console.show(approval)
    details(item, stderr=True)
    return item


def _each(
    ctx: click.Context,
    console: ConsoleClient,
    ids: tuple[str, ...],
    decide: Callable[[ConsoleClient, str], dict[str, Any] | None],
    output: str,
) -> None:
    """Decide each of `ids`; one that fails does not keep the others from being decided, a login that ended does."""
    from rankgate.clients.console import ConsoleError

    code = 0
    for approval in dict.fromkeys(ids):
        try:
            done = decide(console, approval)
        except ConsoleError as error:
            if error.status == 401:
                raise
            warn(f"{approval}: {error}")
            code = code or code_of(error)
            continue
        if done is None:
            warn(f"{approval}: left as it is")
            code = code or 1
        else:
            _print_outcome(done, approval, output)
    ctx.exit(code)


def _print_outcome(item: dict[str, Any], approval: str, output: str) -> None:
    if output == "json":
        print_json(item)
        return
    from rankgate.cli.approvals_lines import outcome

    outcome(item, approval)


def _refused(objection: str) -> Exception:
    from rankgate.clients.console import ConsoleError

    return ConsoleError(objection, OBJECTIONS.get(objection, objection), 403)


def _safe(text: str) -> str:
    from rankgate.audit.text import printable

    return printable(text)
