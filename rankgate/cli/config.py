"""`rankgate config`: check a settings file, show what is in effect, describe every setting."""

from __future__ import annotations

import json
from pathlib import Path

import click

__all__ = ["config"]

FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def config() -> None:
    """Check and describe settings."""


@config.command()
@click.argument("file", type=FILE)
def check(file: Path) -> None:
    """Check FILE and the environment, and that every file they name is there.

    Exits 0 if a gate would start with them, 1 otherwise, with one line a fault.
    """
    from rankgate.cli.settings_files import missing_files
    from rankgate.settings import load

    settings = load(file)
    faults = missing_files(settings)
    if faults:
        raise click.ClickException("\n".join(faults))
    click.echo(f"{file}: ok, {len(settings.routes)} routes, {len(settings.issuers)} issuers")


@config.command()
@click.option("--config", "file", type=FILE, help="Settings file (TOML); without it the environment alone.")
def show(file: Path | None) -> None:
    """Print the settings in effect as JSON: file, environment and defaults together.

    Secrets are never settings, so nothing here is secret: a setting names the file that holds one.
    """
    from rankgate.settings import load

    click.echo(load(file).model_dump_json(indent=2))


@config.command()
def schema() -> None:
    """Print the JSON Schema of the settings file."""
    from rankgate.settings import Settings

    click.echo(json.dumps(Settings.model_json_schema(), indent=2))


@config.command()
def docs() -> None:
    """Print the reference page of every setting (docs/settings.md)."""
    from rankgate.cli.settings_page import page

    click.echo(page(), nl=False)
