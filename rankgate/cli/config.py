"""`rankgate config`: check a settings file, show what is in effect, describe every setting, print public keys."""

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
    """Check FILE and the environment, and every file they name: the policies load, the keys are long enough.

    Exits 0 if a gate would start with them, 1 otherwise, with one line a fault.
    """
    from rankgate.cli.settings_files import file_faults
    from rankgate.errors import SettingsError
    from rankgate.settings import load

    settings = load(file)
    faults = file_faults(settings)
    if faults:
        raise SettingsError("\n".join(faults))
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
@click.option("--config", "file", type=FILE, required=True, help="Settings file (TOML).")
def jwks(file: Path) -> None:
    """Print the public keys of the tokens that a gate mints, as a JWK set, for engines that read a file.

    Of the keys in `credentials.minted.key_file`, the private parts are never shown.
    """
    from rankgate.clients.minting import read_minting_keys
    from rankgate.errors import SettingsError
    from rankgate.settings import load

    minted = load(file).credentials.minted
    if minted is None:
        raise SettingsError("credentials.broker is not minted; a gate with these settings signs nothing")
    click.echo(read_minting_keys(minted.key_file).jwks)


@config.command()
def schema() -> None:
    """Print the JSON Schema of the settings file."""
    from rankgate.settings import Settings

    click.echo(json.dumps(Settings.model_json_schema(), indent=2))


@config.command()
@click.option("--console", is_flag=True, help="Print the console's instead (docs/console-settings.md).")
def docs(console: bool) -> None:
    """Print the reference page of every setting (docs/settings.md)."""
    from rankgate.cli.settings_page import CONSOLE, page

    if not console:
        click.echo(page(), nl=False)
        return
    from rankgate.cli.console import installed

    installed()
    from rankgate.console.settings import ConsoleSettings

    click.echo(page(ConsoleSettings, CONSOLE), nl=False)


@config.command()
@click.argument("file", type=FILE)
@click.option("--admin-socket", type=FILE, required=True, help="Unix socket of Envoy's admin interface.")
@click.option("--authz-slots", type=click.IntRange(1, 64), default=1, help="Number of ext_authz processes.")
@click.option("--proc-slots", type=click.IntRange(1, 64), default=1, help="Number of ext_proc processes.")
@click.option(
    "--secrets",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the files that let Envoy take renewed certificates while it runs; it reads them there.",
)
@click.option("--output", type=FILE, help="Write it to this file instead.")
def envoy(
    file: Path, admin_socket: Path, authz_slots: int, proc_slots: int, secrets: Path | None, output: Path | None
) -> None:
    """Print Envoy's configuration for the settings in FILE."""
    from rankgate.envoyconfig import render, secret_files
    from rankgate.resources import envoy_template
    from rankgate.settings import load

    settings = load(file)
    text = render(
        settings,
        envoy_template(),
        admin_socket=admin_socket,
        authz_slots=authz_slots,
        proc_slots=proc_slots,
        secrets=secrets and secrets.absolute(),
    )
    files = secret_files(settings, secrets) if secrets else {}
    if output is None:
        click.echo(text, nl=False)
    else:
        files[output] = text
    for path, content in files.items():
        try:
            path.write_text(content, encoding="utf-8")
        except OSError as error:
            raise click.ClickException(f"cannot write {path}: {error.strerror}") from None
