"""`rankgate audit export` and `rankgate audit show`: whole logs as files, one decision as it was recorded."""

from __future__ import annotations

import json
from pathlib import Path

import click

from rankgate.cli.audit_source import Source, log_option, source_options

__all__ = ["export", "show"]


@click.command()
@source_options
@log_option
@click.option("--to", type=click.Path(path_type=Path), required=True, help="File, or folder for a file a log.")
def export(source: Source, to: Path) -> None:
    """Write logs with their checkpoints as NDJSON, for `rankgate audit verify --from`.

    A folder that is there gets a file a log, any other path is one file with all. From a second Redis, which holds
    checkpoints alone, it writes what `verify --anchor` takes.

    Exits 1 where logs cannot be read, there are none, or nothing can be written.
    """
    from rankgate.clients import copying

    copies = source.read()
    if not copies:
        raise click.ClickException("there are no logs")
    try:
        entries = copying.write(copies, to)
    except OSError as error:
        raise click.ClickException(f"{to} cannot be written: {error.strerror}") from None
    checkpoints = sum(len(copy.sealed) for copy in copies.values())
    click.echo(f"{len(copies)} logs, {entries} entries, {checkpoints} checkpoints")


@click.command()
@click.argument("receipt")
@source_options
@log_option
@click.option("--proof", is_flag=True, help="Print a proof for `rankgate audit verify --receipt` instead, in JSON.")
def show(source: Source, receipt: str, proof: bool) -> None:
    """Show the decision with this receipt and its completion, as they were recorded.

    With --proof the entries come with a path to a signed root, so that whoever has the verifier key can check that
    they are in the log without having the log.

    Exits 1 where there is no such decision, or no checkpoint covers it yet.
    """
    from rankgate.audit.receipts import find, prove_entry
    from rankgate.audit.text import dump, printable

    found = find(source.read().values(), receipt)
    if not found:
        raise click.ClickException(f"there is no decision {printable(receipt)}")
    if proof:
        try:
            entries = [prove_entry(one) for one in found]
        except ValueError as error:
            raise click.ClickException(str(error)) from None
        click.echo(dump({"receipt": receipt, "entries": entries}))
        return
    for one in found:
        click.echo(f"{one.kind}  {printable(one.copy.log)}#{one.place}")
        text = json.dumps(json.loads(one.body), indent=2, ensure_ascii=False)
        click.echo("\n".join(printable(line) for line in text.split("\n")))
    if not any(one.kind == "completion" for one in found) and b'"allowed":true' in found[0].body:
        click.echo("no completion: what became of the call is not known")
