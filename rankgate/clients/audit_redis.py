"""How a Redis is connected to, for the trail and for approvals, and one word for whatever it fails with."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

__all__ = ["ANSWER_S", "connect", "connection_options", "fault_word", "server_text"]

CONNECT_S = 2.0
ANSWER_S = 5.0


class _PasswordFileError(redis.RedisError):
    """The password cannot be read. A fault of ours, which redis-py would take for one of the network."""


_BY_TYPE: tuple[tuple[type[Exception], str], ...] = (
    (_PasswordFileError, "password_file"),
    (redis.exceptions.AuthenticationError, "authentication"),
    (redis.exceptions.AuthorizationError, "authentication"),
    (redis.exceptions.NoPermissionError, "no_permission"),
    (redis.exceptions.OutOfMemoryError, "out_of_memory"),
    (redis.exceptions.ReadOnlyError, "read_only"),
    (redis.exceptions.BusyLoadingError, "loading"),
    (redis.exceptions.AskError, "moved"),
    (redis.exceptions.TimeoutError, "timeout"),
    (redis.exceptions.ConnectionError, "unreachable"),
    (OSError, "unreachable"),
)
# Redis 7.0, and all since: what a command within a script lacks has no code of its own.
_WITHIN_SCRIPTS = ("The user executing the script can't", "ACL failure in script")
_BY_CODE = {
    "WRONGTYPE": "wrong_type",
    "MISCONF": "misconfigured",
    "NOREPLICAS": "no_replicas",
    "NOAUTH": "authentication",
    "WRONGPASS": "authentication",
    "CLUSTERDOWN": "unreachable",
}


class _FromFile(redis.CredentialProvider):
    """User and password, the latter read again at every connection so that it can be rotated."""

    def __init__(self, user: str | None, password_file: Path) -> None:
        self._user = user
        self._password_file = password_file

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        try:
            password = self._password_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise _PasswordFileError from None
        return (self._user, password) if self._user else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return self.get_credentials()


def connect(
    url: str,
    *,
    user: str | None = None,
    password_file: Path | None = None,
    ca_file: Path | None = None,
    answer_s: float = ANSWER_S,
) -> redis.Redis:
    """Return a client for redis://, rediss:// or unix:// that never retries by itself; it connects when first used.

    A certificate is checked against `ca_file`, the system's where None. Raises ValueError on another scheme.
    """
    options = connection_options(url, user=user, password_file=password_file, ca_file=ca_file, answer_s=answer_s)
    return redis.Redis(retry=Retry(NoBackoff(), 0), **options)


def connection_options(
    url: str,
    *,
    user: str | None = None,
    password_file: Path | None = None,
    ca_file: Path | None = None,
    answer_s: float = ANSWER_S,
    connect_s: float = CONNECT_S,
) -> dict[str, Any]:
    """Return what a client of either kind, blocking or not, is made with; all but `retry`, of which each has its own.

    Raises ValueError on another scheme than redis, rediss or unix.
    """
    parts = urlsplit(url)
    options: dict[str, Any] = {
        "socket_timeout": answer_s,
        "socket_connect_timeout": connect_s,
        "protocol": 2,
        # Naming the library needs a permission that our users do not have.
        "driver_info": None,
    }
    if password_file is not None:
        options["credential_provider"] = _FromFile(user, password_file)
    if parts.scheme == "unix":
        return options | {"unix_socket_path": unquote(parts.path)}
    if parts.scheme not in {"redis", "rediss"}:
        raise ValueError("a Redis URL begins with redis://, rediss:// or unix://")
    if parts.scheme == "rediss":
        options |= {"ssl": True, "ssl_ca_certs": None if ca_file is None else str(ca_file)}
    database = parts.path.strip("/")
    return options | {
        "host": parts.hostname or "localhost",
        "port": parts.port or 6379,
        "db": int(database) if database.isdecimal() else 0,
    }


def server_text(error: Exception) -> str:
    """Return what the server said, without the command redis-py puts before it."""
    return str(error).rpartition("caused error: ")[2]


def fault_word(error: Exception) -> str:
    """Return one word for a failure. Its text never leaves here: redis-py puts whole commands into it."""
    # Over a unix socket the asynchronous client makes a failure to connect of whatever befell it after connecting.
    if type(error) is redis.ConnectionError and isinstance(error.__cause__, redis.RedisError):
        error = error.__cause__
    if any(words in str(error) for words in _WITHIN_SCRIPTS):
        return "no_permission"
    code = server_text(error).split(" ", 1)[0]
    if isinstance(error, redis.ResponseError) and code in _BY_CODE:
        return _BY_CODE[code]
    return next((word for kind, word in _BY_TYPE if isinstance(error, kind)), "refused")
