"""Where commands that need whole logs read them: streams, the gate's own folder, or an export."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rankgate.audit.copies import LogCopy

__all__ = ["FILE", "PATH", "Source", "log_option", "source_options"]

FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
PATH = click.Path(path_type=Path, exists=True)


class Source:
    """What the options name; nothing is read, and nothing refused, before `read`."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self.online = False
        """Whether the logs that were read may have grown meanwhile."""
        self.wrong: list[str] = []
        """Lines of files that are neither entries nor checkpoints, one sentence each."""

    def read(self, deployment: str = "default") -> dict[str, LogCopy]:
        """Read the logs, those of `deployment` where the options name none.

        Raises UsageError where they name no source, ClickException where it cannot be read.
        """
        from rankgate.settings import load

        given = dict(self._options)
        path, config = given.pop("path"), given.pop("config")
        if path is None and config is not None:
            settings = load(config)
            for name in ("url", "user", "password_file", "ca_file"):
                given[name] = given[name] or getattr(settings.audit, f"redis_{name}")
            given["deployment"] = given["deployment"] or settings.deployment
            path = None if given["url"] else settings.audit.directory
        log = given.pop("log", None)
        if path is not None:
            return {name: copy for name, copy in self._from_path(path).items() if name.startswith(log or "")}
        if not given["url"]:
            raise click.UsageError("give --from PATH, --redis URL, or --config FILE")
        self.online = True
        return _from_redis(given.pop("url"), given.pop("deployment") or deployment, log, given)

    def _from_path(self, path: Path) -> dict[str, LogCopy]:
        from rankgate.clients import copying

        try:
            if copying.is_audit_folder(path):
                self.online = True
                return copying.from_disk(path)
            copies, self.wrong = copying.from_files(path)
        except OSError as error:
            raise click.ClickException(f"{path} cannot be read: {error.strerror}") from None
        return copies


def _from_redis(url: str, deployment: str, log: str | None, options: dict[str, Any]) -> dict[str, LogCopy]:
    import redis

    from rankgate.cli.audit_tail import unreadable
    from rankgate.clients.audit_redis import connect
    from rankgate.clients.copying import from_streams

    scheme, _, rest = url.partition("://")
    try:
        with connect(url, **options) as client:
            return from_streams(client, deployment, log)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except redis.RedisError as error:
        raise click.ClickException(unreadable(f"{scheme}://{rest.rpartition('@')[2]}", error)) from None


def source_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that name a source; the command gets it as `source`."""

    @click.option("--from", "path", type=PATH, help="An export, or the audit.directory of a gate.")
    @click.option("--config", type=FILE, help="Settings file (TOML) of a gate: its Redis, or its audit.directory.")
    @click.option("--redis", "url", help="redis://, rediss:// or unix:// URL.")
    @click.option("--redis-user", "user", help="Redis user.")
    @click.option("--redis-password-file", "password_file", type=FILE, help="File with the password.")
    @click.option("--redis-ca-file", "ca_file", type=FILE, help="PEM bundle for rediss.")
    @click.option("--deployment", envvar="RANKGATE_DEPLOYMENT", help="Whose trail in Redis, where not --config's.")
    @functools.wraps(command)
    def wrapper(**options: Any) -> None:
        source = Source({name: options.pop(name) for name in _NAMES if name in options})
        command(source=source, **options)

    return wrapper


_NAMES = ("path", "config", "url", "user", "password_file", "ca_file", "deployment", "log")
log_option = click.option("--log", help="Only logs whose name begins so, as local/ext_authz-0.")
