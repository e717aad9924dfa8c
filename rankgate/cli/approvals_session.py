"""What every command about approvals needs: the console's address, a token for it, a reason, and how a failure ends."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rankgate.audit.text import dump, printable

if TYPE_CHECKING:
    from rankgate.clients.console import ConsoleClient, ConsoleError
    from rankgate.clients.console_token import KeptToken, TokenFile

__all__ = [
    "DECIDED_AGAINST",
    "DURATION",
    "EXIT_CODES",
    "NOT_FOUND",
    "NOT_SIGNED_IN",
    "OBJECTIONS",
    "TIMED_OUT",
    "Reason",
    "asks_people",
    "ca_option",
    "code_of",
    "console_options",
    "ending",
    "output_option",
    "print_json",
    "reason_option",
    "session",
    "token_file",
    "warn",
]

DECIDED_AGAINST, NOT_FOUND, NOT_SIGNED_IN, TIMED_OUT, INTERRUPTED = 3, 4, 5, 124, 130
EXIT_CODES = (
    "Exit codes: 0 done or approved, 1 refused or failed, 2 wrong usage, 3 denied, expired or cancelled while waited "
    "for, 4 not found, 5 not signed in or signed in too long ago, 124 nothing was decided in time, 130 interrupted."
)
TOKEN_VARIABLE = "RANKGATE_CONSOLE_TOKEN"  # noqa: S105 - its name, not its value
_DURATION = re.compile(r"([0-9]{1,9})(s|m|h|d)")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
REASON_CHARS = 1000
OBJECTIONS = {
    "self": "you asked for this yourself; somebody else has to decide",
    "owner": "you own the machine that asks; somebody else has to decide",
    "group": "you are in none of the groups that may decide this",
}
"""Why somebody may not vote, by the API's word."""

Command = TypeVar("Command", bound=Callable[..., Any])


class _Duration(click.ParamType[int]):
    """A duration like 45s, 10m, 2h or 1d; the value is in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the seconds that `value` says."""
        if isinstance(value, int):
            return value
        match = _DURATION.fullmatch(str(value))
        if match is None or int(match[1]) == 0:
            self.fail("give a duration like 45s, 10m, 2h or 1d", param, ctx)
        return int(match[1]) * _UNIT_S[match[2]]


DURATION = _Duration()


def console_options(command: Command) -> Command:
    """Add the options that say which console is asked."""
    command = click.option(
        "--console",
        "url",
        metavar="URL",
        envvar="RANKGATE_CONSOLE",
        help="Address of the console: https, or http on loopback; without it the one logged in to.",
    )(command)
    return ca_option(command)


def ca_option(command: Command) -> Command:
    """Add the option for certificates."""
    path = click.Path(path_type=Path, dir_okay=False, exists=True)
    return click.option("--ca-file", type=path, help="PEM bundle to trust; without it the system's.")(command)


def output_option(command: Command) -> Command:
    """Add the option that says for whom the output is."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="json: what the console's API gives, one object a line.",
    )(command)


def reason_option(command: Command) -> Command:
    """Add the option for the reason, which is asked for where somebody can answer."""
    return click.option("--reason", help="Why: 1 to 1000 characters; asked for on a terminal.")(command)


def asks_people() -> bool:
    """Tell whether there is somebody to ask: both ends of the conversation are a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


class Reason:
    """The reason for what is done: given, or asked for once, on a terminal, when it is needed.

    Raises UsageError where there is neither, and where it is empty or too long.
    """

    def __init__(self, given: str | None) -> None:
        if given is None and not asks_people():
            raise click.UsageError("give --reason")
        self._text = None if given is None else _sound(given)

    def __call__(self) -> str:
        """Return the reason."""
        if self._text is None:
            self._text = _sound(str(click.prompt("Reason", err=True)))
        return self._text


def _sound(reason: str) -> str:
    if not 1 <= len(reason.strip()) <= REASON_CHARS:
        raise click.UsageError(f"--reason must have 1 to {REASON_CHARS} characters")
    return reason.strip()


def token_file() -> TokenFile:
    """Return the file that a login leaves its token in."""
    from rankgate.clients.console_token import TokenFile

    return TokenFile.of(os.environ, Path.home())


@contextlib.contextmanager
def session(ctx: click.Context, url: str | None, ca_file: Path | None) -> Iterator[ConsoleClient]:
    """Hold a client with a token for the console; ends the process where one of its calls fails.

    The token is RANKGATE_CONSOLE_TOKEN where that is set, and `url` must then be too; else the one that was obtained
    for exactly this console.
    """
    from rankgate.clients.console import ConsoleClient

    with ending(ctx):
        given = os.environ.get(TOKEN_VARIABLE, "").strip()
        if given and not url:
            raise click.UsageError(f"{TOKEN_VARIABLE} is set; say with --console whom it is for")
        if given and url:
            token = given
        else:
            kept = _kept(url)
            url, token = kept.console, kept.token
        with ConsoleClient(url or "", token, ca_file=ca_file) as client:
            yield client


def _kept(url: str | None) -> KeptToken:
    """Return the kept token, if it is for the console at `url` and still valid; raises ConsoleError."""
    import time

    from rankgate.clients.asking import safe_address
    from rankgate.clients.console import ConsoleError

    wanted = None if not url else safe_address("--console", url)
    kept = token_file().read()
    if kept is None:
        if wanted is None:
            raise click.UsageError("give --console URL, or log in first: rankgate approvals login --console URL")
        raise ConsoleError("login_required", "you are not signed in; run: rankgate approvals login", 401)
    if wanted is not None and wanted != kept.console:
        raise ConsoleError("login_required", f"you are signed in to {kept.console}, not to {wanted}", 401)
    if kept.expires <= time.time():
        raise ConsoleError("login_required", "your login has expired; run: rankgate approvals login", 401)
    return kept


@contextlib.contextmanager
def ending(ctx: click.Context) -> Iterator[None]:
    """End the process with the documented code where the console or the issuer refuses, or nobody decides."""
    from rankgate.clients.console import ConsoleError, TimedOutError
    from rankgate.clients.console_token import TokenError
    from rankgate.clients.device import DeviceError

    try:
        yield
    except ConsoleError as error:
        warn(str(error))
        ctx.exit(code_of(error))
    except (TokenError, DeviceError) as error:
        warn(str(error))
        ctx.exit(NOT_SIGNED_IN)
    except TimedOutError:
        warn("nothing was decided in time")
        ctx.exit(TIMED_OUT)
    except (KeyboardInterrupt, click.Abort):
        click.echo(err=True)
        ctx.exit(INTERRUPTED)


def code_of(error: ConsoleError) -> int:
    """Return the exit code for what the console answered."""
    return {401: NOT_SIGNED_IN, 404: NOT_FOUND}.get(error.status, 1)


def warn(text: str) -> None:
    """Say on stderr, as click does, what went wrong; a text from outside commands no terminal."""
    click.echo(f"Error: {printable(text)}", err=True)


def print_json(value: Any) -> None:
    """Print one line of JSON."""
    click.echo(dump(value).decode())
