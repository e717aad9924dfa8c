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
    import pyrage
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    there = [directory / name for name in (PRIVATE, PUBLIC, PREVIEW) if (directory / name).exists()]
    if there:
        raise click.ClickException(f"{there[0]} is there already; keys are never replaced, choose another folder")
    key, identity = Ed25519PrivateKey.generate(), pyrage.x25519.Identity.generate()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(directory / PRIVATE, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
        _write(
            directory / PUBLIC, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), 0o644
        )
        _write(directory / PREVIEW, f"{identity}\n".encode(), 0o600)
    except OSError as error:
        raise click.ClickException(f"cannot write to {directory}: {error.strerror}") from None
    click.echo("# The console's settings:", err=True)
    click.echo(f'#   vote_key_file = "{directory / PRIVATE}"', err=True)
    click.echo(f'#   preview_key_file = "{directory / PREVIEW}"', err=True)
    click.echo("# Every gate's settings, with the public key copied to it:", err=True)
    click.echo("[approvals]")
    click.echo(f'vote_keys = ["{directory / PUBLIC}"]')
    click.echo(f'preview_recipient = "{identity.to_public()}"')


def _write(path: Path, data: bytes, mode: int) -> None:
    # O_EXCL: a key that appeared meanwhile is not replaced either.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def installed() -> None:
    """Raise ClickException where the console's extra is not installed."""
    from importlib.util import find_spec

    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise click.ClickException("the console is not installed; install it with: pip install 'rankgate[console]'")
