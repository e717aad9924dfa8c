"""Where `rankgate policy replay` takes recorded questions from: an export or Redis, with a bar for who watches."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO

import click
import redis

from rankgate.audit.names import StreamId
from rankgate.audit.reading import parse_since
from rankgate.cli.policy_replay import Replay, bodies, of_items
from rankgate.cli.trail_options import Place, missing
from rankgate.clients.trail import Trail

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["asked_again", "moments"]

# A bar is drawn some times a second, whatever the speed.
EVERY = 200


def moments(since: str | None, until: str | None) -> tuple[int | None, int | None]:
    """Return both ends of a time, in milliseconds since 1970, None for an open one; raises UsageError."""
    now = time.time_ns() // 1_000_000
    try:
        first, last = (parse_since(text, now).ms if text else None for text in (since, until))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if first is not None and last is not None and first > last:
        raise click.UsageError("--since is later than --until")
    return first, last


def asked_again(run: Replay, source: BinaryIO | Place) -> None:
    """Let `run` ask what `source` holds. Raises ClickException where it cannot be read."""
    with _bar() as bar:
        if isinstance(source, Place):
            _from_redis(run, source, bar)
        else:
            _from_export(run, source, bar)


def _from_export(run: Replay, export: BinaryIO, bar: Progress | None) -> None:
    size = None
    with contextlib.suppress(OSError, ValueError):
        size = os.fstat(export.fileno()).st_size or None
    try:
        run.run(bodies(export, _counting(bar, size)))
    except OSError as error:
        raise click.ClickException(f"the export cannot be read: {error.strerror}") from None


def _from_redis(run: Replay, at: Place, bar: Progress | None) -> None:
    from rankgate.cli.audit_tail import unreadable

    trail = Trail(at.client, at.deployment)
    step = _counting(bar, None)
    try:
        if absent := missing(trail, at.deployment, None):
            raise click.ClickException(absent)
        since = StreamId(run.wanted.since or 0, 0)
        items = trail.past(dict.fromkeys(trail.discover(), since))
        run.run(of_items(items, run.wanted.until), lambda: step(1))
    except redis.RedisError as error:
        raise click.ClickException(unreadable(at.where, error)) from None


@contextlib.contextmanager
def _bar() -> Iterator[Progress | None]:
    """Hold a bar on standard error where that is a terminal, else None; it leaves nothing behind."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        yield bar


def _counting(bar: Progress | None, total: int | None) -> Callable[[int], object]:
    if bar is None:
        return lambda _size: None
    task = bar.add_task("asking again", total=total)
    waiting = steps = 0

    def step(size: int) -> None:
        nonlocal waiting, steps
        waiting, steps = waiting + size, steps + 1
        if steps % EVERY == 0:
            bar.update(task, advance=waiting)
            waiting = 0

    return step
