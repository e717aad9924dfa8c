"""Where a command reads the trail: the options that name its Redis, and the connection they lead to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rankgate.audit.text import printable

if TYPE_CHECKING:
    import redis

    from rankgate.clients.trail import Trail

__all__ = ["FILE", "Place", "missing", "place", "trail_options"]

FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--config", "file", type=FILE, help="Settings file (TOML) of a gate: its Redis and its deployment."),
    click.option("--redis", "url", envvar="RANKGATE_AUDIT__REDIS_URL", help="redis://, rediss:// or unix:// URL."),
    click.option("--redis-user", envvar="RANKGATE_AUDIT__REDIS_USER", help="Redis user."),
    click.option("--redis-password-file", type=FILE, help="File with the password."),
    click.option("--redis-ca-file", type=FILE, help="PEM bundle for rediss."),
    click.option(
        "--deployment", envvar="RANKGATE_DEPLOYMENT", help="Whose trail; without it that of --config, or `default`."
    ),
)


@dataclass(frozen=True, slots=True)
class Place:
    """A trail: its Redis, not yet connected, the deployment, and the server's name in messages."""

    client: redis.Redis
    deployment: str
    where: str


def trail_options(command: Command) -> Command:
    """Add the options to `command`, which takes them by the names that `place` has."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def place(
    file: Path | None,
    url: str | None,
    redis_user: str | None,
    redis_password_file: Path | None,
    redis_ca_file: Path | None,
    deployment: str | None,
) -> Place:
    """Return where the options lead: what they leave open is that of the settings in `file`. Raises UsageError."""
    from rankgate.clients.audit_redis import connect
    from rankgate.settings import load

    if file is not None:
        settings = load(file)
        url = url or settings.audit.redis_url
        redis_user = redis_user or settings.audit.redis_user
        redis_password_file = redis_password_file or settings.audit.redis_password_file
        redis_ca_file = redis_ca_file or settings.audit.redis_ca_file
        deployment = deployment or settings.deployment
    if not url:
        raise click.UsageError("give --redis URL, or --config FILE with audit.redis_url in it")
    try:
        client = connect(url, user=redis_user, password_file=redis_password_file, ca_file=redis_ca_file)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    scheme, _, rest = url.partition("://")
    # Before an @ there may be a user and a password.
    return Place(client, deployment or "default", f"{scheme}://{rest.rpartition('@')[2]}")


def missing(trail: Trail, deployment: str, log: str | None) -> str:
    """Return which deployments or logs there are, where those asked for are not among them; else nothing."""
    deployments, logs = trail.known()
    if deployments and deployment not in deployments:
        return f"there is no trail of deployment {printable(deployment)}; known are {_some(deployments)}"
    if log is not None and logs and not any(name.startswith(log) for name in logs):
        return f"no log begins with {printable(log)}; known are {_some(logs)}"
    return ""


def _some(names: list[str], limit: int = 20) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return printable(", ".join(names[:limit])) + more
