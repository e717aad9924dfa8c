"""`rankgate demo`: everything on this machine, and the story of a request told with real calls."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import click

__all__ = ["demo"]


@click.command()
@click.option("--keep", is_flag=True, help="Leave it running afterwards, with tokens and commands to copy.")
@click.pass_context
def demo(ctx: click.Context, keep: bool) -> None:
    """Start everything and tell the story of a request.

    Valkey, Envoy, both filters, a development issuer and a BM25 reranker run on this machine until the story is
    told. Exits 0 only if every step came out as told, 130 where Ctrl-C ended the story before. With --keep Ctrl-C is
    the way to end it, and exits 0. NO_COLOR turns colours off.
    """
    started = time.monotonic()
    from rankgate.cli.running import forget_environment, run
    from rankgate.clients.state import StateDirectory
    from rankgate.demo.leftovers import PREFIX, remove_leftovers
    from rankgate.demo.show import show
    from rankgate.demo.telling import Teller

    forget_environment()
    remove_leftovers(Path(tempfile.gettempdir()))
    # A short name: a path of a unix socket holds about a hundred bytes.
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
        state = StateDirectory(Path(folder))
        with state.locked():
            as_told = run(show(state, Teller(), keep=keep, started=started))
    if as_told is None:
        click.echo("stopped; its folder is removed")
        ctx.exit(0 if keep else 130)
    ctx.exit(0 if as_told else 1)
