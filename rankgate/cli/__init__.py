"""The `rankgate` command: one file a command, imported only when it is used.

Exit codes: 0 done, 1 refused or failed (one line says why), 2 wrong usage, 130 interrupted before it was done.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import click

from rankgate.errors import SettingsError

__all__ = ["main"]

# name: where it lives, and its line in --help, which thereby needs no import.
COMMANDS = {
    "demo": ("rankgate.cli.demo:demo", "Start everything and tell the story of a request."),
    "up": ("rankgate.cli.up:up", "Guard your own reranker."),
    "policy": ("rankgate.cli.policy:policy", "Check, test, evaluate and replay policies."),
    "approvals": ("rankgate.cli.approvals:approvals", "See what waits for a person, and decide it."),
    "audit": ("rankgate.cli.audit:audit", "Read the audit trail, and prove it."),
    "console": ("rankgate.cli.console:console", "Serve the approvals console."),
    "config": ("rankgate.cli.config:config", "Check and describe settings."),
    "version": ("rankgate.cli.version:version", "Print the versions of rankgate and its engines."),
}


class LazyGroup(click.Group):
    """A group that knows its commands' names and help, and imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import and return the command `cmd_name`, None where there is none."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; settings that can never work end in one line each, not in a traceback."""
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            raise click.ClickException(str(error).replace("\n", "\nError: ")) from None


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"rankgate {version('rankgate')}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted before it was done.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version and exit.",
)
def root() -> None:
    """rankgate guards rerankers: verified machine identities, Rego policies, masked bodies, a durable trail."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line `args`, the process's own where None; exits the process."""
    root.main(args=args, prog_name="rankgate")
