"""`rankgate approvals login` and `logout`: a token for one console, obtained with a browser anywhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rankgate.audit.text import printable
from rankgate.cli.approvals_session import EXIT_CODES, console_options, ending, token_file

if TYPE_CHECKING:
    from rankgate.clients.console import OpenId
    from rankgate.clients.console_token import KeptToken
    from rankgate.clients.device import Prompt

__all__ = ["login", "logout"]

# Where the issuer does not say how long its token is valid (RFC 6749 section 5.1 only recommends it).
UNKNOWN_S = 300.0


@click.command(epilog=EXIT_CODES)
@console_options
@click.option("--issuer", help="The only issuer to log in at; without it the one the console names.")
@click.option("--audience", help="The only audience of the token; without it the one the console names.")
@click.pass_context
def login(ctx: click.Context, url: str | None, ca_file: Path | None, issuer: str | None, audience: str | None) -> None:
    """Log in to a console: prints an address and a code to type there, and waits.

    The token is kept in $XDG_STATE_HOME/rankgate/console-token, readable by you alone, and sent to this console alone.
    No refresh token is kept. A console that names another issuer or audience than at the last login is refused until
    you log out.
    """
    import time

    from rankgate.clients.console import ConsoleClient
    from rankgate.clients.console_token import KeptToken
    from rankgate.clients.device import device_login

    with ending(ctx):
        file = token_file()
        kept = file.read()
        address = url or (kept.console if kept else None)
        if not address:
            raise click.UsageError("give --console URL")
        with ConsoleClient(address, ca_file=ca_file) as console:
            openid = console.openid()
            _pinned(openid, console.url, kept, issuer, audience)
            click.echo(
                f"Logging in to {printable(console.url)} at {printable(openid.issuer)}, "
                f"with a token for {printable(openid.audience)}.",
                err=True,
            )
        signed = device_login(openid, _show, ca_file=ca_file)
        with ConsoleClient(console.url, signed.token, ca_file=ca_file) as console:
            me = console.me()
        expires = time.time() + (signed.expires_s or UNKNOWN_S)
        file.write(KeptToken(console.url, openid.issuer, openid.audience, expires, signed.token))
    name = me.get("name") or me.get("person") or "somebody the console does not name"
    minutes = max(1, round((signed.expires_s or UNKNOWN_S) / 60))
    click.echo(f"Logged in as {printable(str(name))}, for {minutes} min.", err=True)


@click.command(epilog=EXIT_CODES)
@click.pass_context
def logout(ctx: click.Context) -> None:
    """Forget the token, and which issuer and audience belong to the console."""
    with ending(ctx):
        gone = token_file().remove()
    click.echo("Logged out." if gone else "You were not logged in.", err=True)
    if os.environ.get("RANKGATE_CONSOLE_TOKEN"):
        click.echo("RANKGATE_CONSOLE_TOKEN is still set.", err=True)


def _pinned(openid: OpenId, url: str, kept: KeptToken | None, issuer: str | None, audience: str | None) -> None:
    """Refuse a console that wants a token of another issuer, or for somebody else, than is agreed."""
    from rankgate.clients.device import DeviceError

    if (issuer or openid.issuer) != openid.issuer or (audience or openid.audience) != openid.audience:
        raise DeviceError(f"the console names the issuer {openid.issuer} and the audience {openid.audience}")
    if kept and kept.console == url and (kept.issuer, kept.audience) != (openid.issuer, openid.audience):
        raise DeviceError(
            f"the console names another issuer or audience than before ({openid.issuer}, {openid.audience}); "
            "if that is meant, run `rankgate approvals logout` first"
        )


def _show(prompt: Prompt) -> None:
    click.echo(f"\n  Open   {printable(prompt.url)}\n  Code   {printable(prompt.code)}\n", err=True)
    if prompt.complete:
        click.echo(f"  or open {printable(prompt.complete)}\n", err=True)
    click.echo(f"Waiting for you, for {max(1, round(prompt.expires_s / 60))} min ...", err=True)
