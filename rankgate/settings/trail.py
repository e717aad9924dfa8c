"""What is written down: the audit trail and the filters' logs."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from rankgate.settings.base import Name, Section
from rankgate.settings.redis import RedisSettings

__all__ = ["AuditSettings", "LogSettings", "SecondRedisSettings"]


class SecondRedisSettings(RedisSettings):
    """A second Redis for checkpoints, which whoever can change the first cannot change."""

    section: ClassVar[str] = "audit.second_redis"

    redis_url: str | None = Field(None, description="Where checkpoints are sent too: redis://, rediss:// or unix://.")

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.redis_url is None:
            raise ValueError("audit.second_redis has no effect without audit.second_redis.redis_url")
        return self


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
    signing_key_file: Path | None = Field(
        None, description="PEM file of the deployment's Ed25519 key that signs checkpoints; unset: nothing is signed."
    )
    second_place: Path | None = Field(
        None, description="Folder on another volume that checkpoints are appended to as well; made where absent."
    )
    second_redis: SecondRedisSettings | None = Field(None, description="Second Redis for checkpoints.")

    @model_validator(mode="after")
    def _second_is_another(self) -> Self:
        for name in ("second_place", "second_redis"):
            if getattr(self, name) is not None and self.signing_key_file is None:
                raise ValueError(f"audit.{name} has no effect without audit.signing_key_file")
        if self.second_place is not None:
            own, second = self.directory.absolute(), self.second_place.absolute()
            if second == own or own in second.parents:
                raise ValueError(
                    "audit.second_place is inside audit.directory, where whoever changes the one changes the other; "
                    "name a folder on another volume"
                )
        second_redis = self.second_redis
        if second_redis is not None and self.redis_url == second_redis.redis_url:
            raise ValueError(
                "audit.second_redis.redis_url is audit.redis_url, where whoever changes the one changes the other; "
                "name another server"
            )
        return self


class LogSettings(Section):
    """What a process writes of itself."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level written.")
    format: Literal["json", "console"] = Field("json", description="`json` lines or `console` text, on standard error.")
