"""What is written down: the audit trail and the filters' logs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from rankgate.settings.base import Name, Section, address, is_loopback

__all__ = ["AuditSettings", "LogSettings"]


class AuditSettings(Section):
    """The audit trail: a local file first, then Redis Streams."""

    directory: Path = Field(description="Folder of the local logs; must survive a restart of the process.")
    cap_bytes: int = Field(
        2_147_483_648,
        ge=1_048_576,
        description="Size of unshipped local records at which requests are refused, in bytes.",
    )
    redis_url: str | None = Field(
        None, description="Where events are shipped: redis://, rediss:// or unix://; unset: kept local."
    )
    redis_user: str | None = Field(None, description="Redis user.")
    redis_password_file: Path | None = Field(None, description="File with the Redis password.")
    redis_ca_file: Path | None = Field(None, description="PEM bundle for rediss.")
    pod_uid: Name = Field("local", description="Names this pod's logs, with the role and number of the process.")
    event_bytes: int = Field(
        65_536, ge=4096, le=1_048_576, description="Budget of captured texts in one event, in bytes."
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.redis_url is None:
            if self.redis_user or self.redis_password_file or self.redis_ca_file:
                raise ValueError("audit.redis_* settings have no effect without audit.redis_url")
            return self
        parts = address("audit.redis_url", self.redis_url)
        if parts.scheme not in {"redis", "rediss", "unix"}:
            raise ValueError("audit.redis_url must be redis://, rediss:// or unix://")
        if not (parts.path.strip("/") if parts.scheme == "unix" else parts.hostname):
            raise ValueError(
                "audit.redis_url names no server; use redis://host:port, rediss://host:port or unix:///path"
            )
        if parts.password or parts.username:
            raise ValueError(
                "audit.redis_url must not hold a user or password; use audit.redis_user and audit.redis_password_file"
            )
        if parts.scheme == "redis" and not is_loopback(parts.hostname or ""):
            raise ValueError(
                "audit.redis_url over plain redis:// is accepted on loopback only; use rediss:// or unix://"
            )
        if self.redis_ca_file and parts.scheme != "rediss":
            raise ValueError("audit.redis_ca_file has no effect without rediss://")
        if self.redis_user and not self.redis_password_file:
            raise ValueError("audit.redis_user needs audit.redis_password_file")
        return self


class LogSettings(Section):
    """The filters' own logs."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level written.")
    format: Literal["json", "console"] = Field("json", description="`json` lines or `console` text, on standard error.")
