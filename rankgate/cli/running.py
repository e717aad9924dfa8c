"""Running a command that starts a gate: until it is done, interrupted or terminated."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

import click

from rankgate.clients.processes import StartError

__all__ = ["forget_environment", "run"]

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T | None:
    """Run `main` and return its result, None where Ctrl-C or SIGTERM ended it, after its own clean-up.

    A part that does not start ends the command with its name and the last lines of its log.
    """
    try:
        return asyncio.run(_until_terminated(main))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return None
    except StartError as error:
        raise click.ClickException(str(error)) from None


def forget_environment() -> None:
    """Remove RANKGATE_* from this process's environment, for a command that brings all its settings itself."""
    for name in [name for name in os.environ if name.startswith("RANKGATE_")]:
        del os.environ[name]


async def _until_terminated(main: Coroutine[Any, Any, T]) -> T:
    task = asyncio.ensure_future(main)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task
