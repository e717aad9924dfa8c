"""Where a Redis is, and how to be let in: the same for the trail and for approvals, each with a user of its own."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator

from rankgate.settings.base import Section, address, is_loopback

__all__ = ["RedisSettings"]


class RedisSettings(Section):
    """A Redis or Valkey. `section` names the settings in what is refused."""

    section: ClassVar[str]

    redis_url: str | None = Field(None, description="redis://, rediss:// or unix:// URL.")
    redis_user: str | None = Field(None, description="Redis user.")
    redis_password_file: Path | None = Field(None, description="File with the Redis password.")
    redis_ca_file: Path | None = Field(None, description="PEM bundle for rediss.")

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        at = self.section
        if self.redis_url is None:
            if self.redis_user or self.redis_password_file or self.redis_ca_file:
                raise ValueError(f"{at}.redis_* settings have no effect without {at}.redis_url")
            return self
        parts = address(f"{at}.redis_url", self.redis_url)
        if parts.scheme not in {"redis", "rediss", "unix"}:
            raise ValueError(f"{at}.redis_url must be redis://, rediss:// or unix://")
        if not (parts.path.strip("/") if parts.scheme == "unix" else parts.hostname):
            raise ValueError(
                f"{at}.redis_url names no server; use redis://host:port, rediss://host:port or unix:///path"
            )
        if parts.password or parts.username:
            raise ValueError(
                f"{at}.redis_url must not hold a user or password; use {at}.redis_user and {at}.redis_password_file"
            )
        if parts.scheme == "redis" and not is_loopback(parts.hostname or ""):
            raise ValueError(
                f"{at}.redis_url over plain redis:// is accepted on loopback only; use rediss:// or unix://"
            )
        if self.redis_ca_file and parts.scheme != "rediss":
            raise ValueError(f"{at}.redis_ca_file has no effect without rediss://")
        if self.redis_user and not self.redis_password_file:
            raise ValueError(f"{at}.redis_user needs {at}.redis_password_file")
        return self
