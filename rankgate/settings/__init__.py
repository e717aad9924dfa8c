"""Every setting, read once: a TOML file, then RANKGATE_* environment variables over it.

Secrets are never settings: a setting names the file that holds one. Constructors are handed their own section,
never the environment. What can never work is refused here, with the setting's name and the remedy.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as SourceError

from rankgate.errors import SettingsError
from rankgate.settings.approvals import ApprovalSettings, BreakGlassSettings, OwnerSettings
from rankgate.settings.base import Name, Operator, Section
from rankgate.settings.edge import (
    DECISION_SHARE,
    EnvoySettings,
    LimitSettings,
    ListenSettings,
    SocketSettings,
    UpstreamSettings,
)
from rankgate.settings.environment import PREFIX, unknown_variables
from rankgate.settings.faults import told
from rankgate.settings.guard import (
    STRUCTURED_TYPES,
    MaskingSettings,
    PolicySettings,
    ProfileSettings,
    RouteSettings,
)
from rankgate.settings.headers import CREDENTIALS
from rankgate.settings.issuers import ClaimSettings, IssuerSettings
from rankgate.settings.lending import CredentialSettings, ExchangeSettings, MintedSettings
from rankgate.settings.trail import AuditSettings, LogSettings, SecondRedisSettings
from rankgate.settings.watching import HealthSettings, TraceSettings

__all__ = [
    "STRUCTURED_TYPES",
    "ApprovalSettings",
    "AuditSettings",
    "BreakGlassSettings",
    "ClaimSettings",
    "CredentialSettings",
    "EnvoySettings",
    "ExchangeSettings",
    "HealthSettings",
    "IssuerSettings",
    "LimitSettings",
    "ListenSettings",
    "LogSettings",
    "MaskingSettings",
    "MintedSettings",
    "Operator",
    "OwnerSettings",
    "PolicySettings",
    "ProfileSettings",
    "RouteSettings",
    "SecondRedisSettings",
    "Section",
    "Settings",
    "SocketSettings",
    "TraceSettings",
    "UpstreamSettings",
    "load",
]


# Four calls of the largest size, each buffered once and once more on its way to a filter.
BODIES_IN_HEAP = 8


class Settings(BaseSettings):
    """The whole configuration of one gate."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, env_ignore_empty=True
    )

    deployment: Name = Field("default", description="Names the deployment in streams, keys and events.")
    listen: ListenSettings = Field(default_factory=lambda: ListenSettings.model_validate({}), description="Listener.")
    upstream: UpstreamSettings = Field(description="Reranker.")
    issuers: tuple[IssuerSettings, ...] = Field(min_length=1, description="Accepted issuers.")
    routes: tuple[RouteSettings, ...] = Field(
        (
            RouteSettings.model_validate({"name": "cohere-v2", "path": "/v2/rerank", "dialect": "cohere.v2"}),
            RouteSettings.model_validate({"name": "cohere-v1", "path": "/v1/rerank", "dialect": "cohere.v1"}),
            RouteSettings.model_validate({"name": "rerank", "path": "/rerank"}),
        ),
        min_length=1,
        description="Served paths.",
    )
    limits: LimitSettings = Field(default_factory=lambda: LimitSettings.model_validate({}), description="Limits.")
    masking: MaskingSettings = Field(description="Masking.")
    policy: PolicySettings = Field(default_factory=lambda: PolicySettings.model_validate({}), description="Policy.")
    credentials: CredentialSettings = Field(
        default_factory=lambda: CredentialSettings.model_validate({}), description="Credential."
    )
    approvals: ApprovalSettings = Field(
        default_factory=lambda: ApprovalSettings.model_validate({}), description="Approvals."
    )
    audit: AuditSettings = Field(description="Audit trail.")
    sockets: SocketSettings = Field(description="Filter sockets.")
    envoy: EnvoySettings = Field(default_factory=lambda: EnvoySettings.model_validate({}), description="Envoy.")
    log: LogSettings = Field(default_factory=lambda: LogSettings.model_validate({}), description="Logs.")
    health: HealthSettings = Field(
        default_factory=lambda: HealthSettings.model_validate({}), description="Probes and metrics."
    )
    traces: TraceSettings = Field(default_factory=lambda: TraceSettings.model_validate({}), description="Traces.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file, which arrives as init arguments."""
        return env_settings, init_settings

    @model_validator(mode="after")
    def _nothing_twice(self) -> Self:
        for what, seen in (("name", [r.name for r in self.routes]), ("path", [r.path for r in self.routes])):
            twice = sorted({value for value in seen if seen.count(value) > 1})
            if twice:
                raise ValueError(f"routes.{what} {', '.join(twice)} is used twice; every route needs its own")
        issuers = [issuer.issuer for issuer in self.issuers]
        if len(set(issuers)) != len(issuers):
            raise ValueError("issuers.issuer is listed twice; merge the two entries")
        # Callers of two issuers would share pseudonyms and caches without anybody having said so.
        unnamed = [
            one.issuer for one in self.issuers if one.claims.tenant is None and "tenant" not in one.model_fields_set
        ]
        if len(unnamed) > 1:
            raise ValueError(
                "issuers.tenant is unset for more than one issuer; name each one's tenant, or the claim that does"
            )
        return self

    @model_validator(mode="after")
    def _routes_fit(self) -> Self:
        accepted = {audience for issuer in self.issuers for audience in issuer.audiences}
        for route in self.routes:
            if route.profile not in self.masking.profiles:
                raise ValueError(
                    f"routes.profile {route.profile} of {route.name} is not in masking.profiles; add it or name another"
                )
            unknown = sorted(set(route.audiences) - accepted)
            if unknown:
                raise ValueError(
                    f"routes.audiences {', '.join(unknown)} of {route.name} is accepted by no issuer; add it to issuers.audiences"
                )
            if self.credentials.header in route.request_headers:
                raise ValueError(
                    f"routes.request_headers of {route.name} lists credentials.header; the caller's value would reach the reranker"
                )
            if self.credentials.header in route.response_headers:
                raise ValueError(
                    f"routes.response_headers of {route.name} lists credentials.header, which is kept from callers; remove it"
                )
        return self

    @model_validator(mode="after")
    def _sizes_and_times_fit(self) -> Self:
        if self.limits.masked_body_bytes < self.limits.body_bytes:
            raise ValueError("limits.masked_body_bytes must be at least limits.body_bytes")
        if self.policy.timeout_s >= self.limits.decision_s:
            raise ValueError(
                f"policy.timeout_s must be shorter than {DECISION_SHARE:g} of limits.check_timeout_s, the time of a whole "
                "decision, or it never takes effect"
            )
        if self.envoy.heap_bytes < BODIES_IN_HEAP * self.envoy_body_bytes:
            raise ValueError(
                f"envoy.heap_bytes must hold {BODIES_IN_HEAP} buffers of {self.envoy_body_bytes} bytes, which the body limits "
                f"make: at least {BODIES_IN_HEAP * self.envoy_body_bytes}; raise it or lower limits.*_bytes"
            )
        if self.waiters(1) >= min(self.limits.requests, self.limits.connections):
            raise ValueError(
                "approvals.waiters must be fewer than limits.requests and limits.connections, or waiting calls keep others out"
            )
        if self.audit.event_bytes * 4 > self.audit.cap_bytes:
            raise ValueError("audit.cap_bytes must hold several events of audit.event_bytes")
        return self

    def waiters(self, processes: int) -> int:
        """Return the most callers that wait at once where so many processes decide."""
        return self.approvals.waiters * processes if self.approvals.enabled else 0

    @property
    def envoy_body_bytes(self) -> int:
        """Return Envoy's buffer limit: above our own, so that we answer 413 with identity and a record."""
        return max(2 * self.limits.body_bytes, self.limits.masked_body_bytes, self.limits.response_bytes) + 65_536

    @property
    def grpc_message_bytes(self) -> int:
        """Return the filters' gRPC receive limit: Envoy's buffer limit plus room for headers."""
        return self.envoy_body_bytes + 1_048_576

    @property
    def hidden_headers(self) -> tuple[str, ...]:
        """Return the headers that Envoy keeps out of the ext_proc stream: credentials of either side."""
        return (*CREDENTIALS, *({self.credentials.header} - set(CREDENTIALS)))

    @property
    def check_s(self) -> float:
        """Return the longest time that Envoy waits for a decision, people's included, in seconds.

        Who was kept waiting is decided about once more.
        """
        limits, approvals = self.limits, self.approvals
        return limits.check_timeout_s + (approvals.hold_s + limits.decision_s if approvals.enabled else 0.0)

    @property
    def deadline_s(self) -> float:
        """Return the longest time a call may take from its first byte to the last of its answer, in seconds."""
        limits = self.limits
        filters_s = self.check_s + 2 * limits.process_timeout_s
        return limits.request_timeout_s + filters_s + self.upstream.timeout_s + 5.0

    def route(self, name: str) -> RouteSettings | None:
        """Return the route named `name`."""
        return next((route for route in self.routes if route.name == name), None)


def load(path: Path | None, **override: Any) -> Settings:
    """Read the settings from the TOML file `path`, then `override` (whole sections as dicts), then the environment.

    The environment wins over both, setting by setting: what an operator sets for a process holds, whoever starts it.
    Raises SettingsError with one line a fault, each naming its setting; never echoes a value.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError(f"cannot read settings file {path}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"settings file {path} is not valid TOML: {error}") from None
    if unknown := unknown_variables(os.environ, Settings.model_fields):
        raise SettingsError(
            "\n".join(f"{name}: no setting has this name; `rankgate config docs` lists them" for name in unknown)
        )
    try:
        return Settings(**{**values, **override})
    except ValidationError as error:
        raise SettingsError("\n".join(told(error.errors(include_input=False, include_url=False), Settings))) from None
    except SourceError as error:
        name = next((name for name in Settings.model_fields if f'"{name}"' in str(error)), "")
        raise SettingsError(
            f"{PREFIX}{name.upper()}: must be JSON, as lists and tables are in the environment"
        ) from None
