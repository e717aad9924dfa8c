"""What is written down: the audit trail and the filters' logs."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from rankgate.settings.base import Name, Section
from rankgate.settings.redis import RedisSettings

__all__ = ["AuditSettings", "LogSettings"]


class AuditSettings(RedisSettings):
    """The audit trail: a local file first, then Redis Streams."""

    section: ClassVar[str] = "audit"

    directory: Path = Field(description="Folder of the local logs; must survive a restart of the process.")
    cap_bytes: int = Field(
        2_147_483_648,
        ge=1_048_576,
        description="Size of unshipped local records at which requests are refused, in bytes.",
    )
    redis_url: str | None = Field(
        None, description="Where events are shipped: redis://, rediss:// or unix://; unset: kept local."
    )
    pod_uid: Name = Field("local", description="Names this pod's logs, with the role and number of the process.")
    event_bytes: int = Field(
        65_536, ge=4096, le=1_048_576, description="Budget of captured texts in one event, in bytes."
    )


class LogSettings(Section):
    """What a process writes of itself."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level written.")
    format: Literal["json", "console"] = Field("json", description="`json` lines or `console` text, on standard error.")
