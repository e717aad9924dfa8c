"""`rankgate audit keys`: the key that signs checkpoints, made, shown or followed by another."""

from __future__ import annotations

import os
from pathlib import Path

import click

__all__ = ["keys"]

NAME = "signing.pem"


@click.command()
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help=f"Folder that holds, or is to hold, {NAME}; made private where absent.",
)
@click.option(
    "--deployment", envvar="RANKGATE_DEPLOYMENT", default="default", show_default=True, help="Whose key: its name."
)
@click.option("--rotate", is_flag=True, help="Make a new key that the one there hands over to.")
def keys(directory: Path, deployment: str, rotate: bool) -> None:
    """Make the key that signs checkpoints, and print its verifier key.

    A key that is there is kept, and its verifier key printed again. The file is for `audit.signing_key_file`; the
    verifier key (name+id+key, as of signed notes) is for `rankgate audit verify --key`, and belongs where the trail's
    keepers cannot change it.

    With --rotate the new key comes first in the file and signs, the old one behind it hands over: each process records
    that at its next start, signed by both. Once all have started, cut the old key out of the file.

    Exits 1 where the folder or the key cannot be used.
    """
    from rankgate.audit.note import new_signing_key, signers
    from rankgate.clients.signing import read_signers

    path = directory / NAME
    try:
        signers(new_signing_key(), deployment)
    except ValueError as error:
        raise click.UsageError(f"--deployment: {error}") from None
    if path.exists() or rotate:
        pem = path.read_bytes() if path.exists() else b""
        found = read_signers(path, deployment)
        if rotate:
            _write(path, new_signing_key() + pem)
            found = read_signers(path, deployment)
    else:
        _write(path, new_signing_key())
        found = read_signers(path, deployment)
    click.echo(str(found[0].verifier))
    for older in found[1:]:
        click.echo(f"before it: {older.verifier}", err=True)


def _write(path: Path, pem: bytes) -> None:
    """Put the keys into a private file, all of them or none."""
    fresh = path.with_name(f"{path.name}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "wb") as out:
            out.write(pem)
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(path)
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}") from None
