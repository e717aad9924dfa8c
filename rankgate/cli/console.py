"""`rankgate console`: serve the approvals console, make its keys, check its settings."""

from __future__ import annotations

import os
from pathlib import Path

import click

__all__ = ["console", "installed"]

FILE = click.Path(path_type=Path, dir_okay=False)
EXTRA = ("starlette", "uvicorn", "sse_starlette", "python_multipart", "stamina", "standardwebhooks")
PRIVATE, PUBLIC, PREVIEW = "vote-key.pem", "vote-key.pub.pem", "preview-key.txt"


@click.group(invoke_without_command=True)
@click.option("--config", "file", type=FILE, help="Settings file (TOML); RANKGATE_CONSOLE_* variables win over it.")
@click.pass_context
def console(ctx: click.Context, file: Path | None) -> None:
    """Serve the approvals console.

    There people agree to risky requests, or refuse them. Ends in order on SIGTERM and Ctrl-C.
    """
    if ctx.invoked_subcommand is not None:
        if file is not None:
            raise click.UsageError(f"put --config behind {ctx.invoked_subcommand}")
        return
    installed()
    import asyncio

    from rankgate.clients.logs import configure
    from rankgate.console.serving import serve
    from rankgate.console.settings import load

    settings = load(file)
    configure(settings.log)
    asyncio.run(serve(settings))


@console.command()
@click.option("--config", "file", type=FILE, help="Settings file (TOML).")
def check(file: Path | None) -> None:
    """Check the settings and the files they name.

    Exits 0 if a console would start with them, 1 otherwise, with one line a fault. Nothing is connected to.
    """
    installed()
    from rankgate.clients.openid import read_secret
    from rankgate.console.serving import check_certificate, keys_of
    from rankgate.console.settings import load
    from rankgate.errors import SettingsError

    settings = load(file)
    keys = keys_of(settings)
    check_certificate(settings.listen)
    if settings.login.client_secret_file is not None:
        read_secret(settings.login.client_secret_file)
    if not os.access(settings.journal.directory, os.W_OK) and settings.journal.directory.exists():
        raise SettingsError("journal.directory cannot be written to; change its owner or mode, or name another")
    click.echo(f"ok, {settings.origin} signs votes with key {keys.signer.key_id}")


@console.command()
@click.option(
    "--directory", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for the three files."
)
def keys(directory: Path) -> None:
    """Make the console's keys, and print the two settings that its gates need.

    Never replaces a key: votes that were signed with it would count no more.
    """
    from rankgate.console.keys import make_keys

    made = make_keys(directory)
    click.echo("# The console's settings:", err=True)
    click.echo(f'#   vote_key_file = "{made.private}"', err=True)
    click.echo(f'#   preview_key_file = "{made.preview}"', err=True)
    click.echo("# Every gate's settings, with the public key copied to it:", err=True)
    click.echo("[approvals]")
    click.echo(f'vote_keys = ["{made.public}"]')
    click.echo(f'preview_recipient = "{made.recipient}"')


def installed() -> None:
    """Raise ClickException where the console's extra is not installed."""
    from importlib.util import find_spec

    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise click.ClickException("the console is not installed; install it with: pip install 'rankgate[console]'")
