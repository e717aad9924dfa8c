"""How a gate is watched from outside: probes, metrics and traces."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from rankgate.settings.base import Section, address

__all__ = ["HealthSettings", "TraceSettings"]

# The most processes of one filter that Envoy's configuration is rendered for.
SLOTS = 64


class HealthSettings(Section):
    """Probes and metrics over HTTP: `/livez`, `/readyz` and `/metrics` of each filter process, `/metrics` of Envoy.

    With broker `minted` the ext_authz processes also serve the public keys, at `/.well-known/jwks.json`.

    Unset ports serve nothing. The process with slot n has its filter's port plus n; port 0 is any free one, which the
    log names. There is no TLS and no login, and nothing about callers: open it to probes and Prometheus only.
    """

    address: str = Field("127.0.0.1", min_length=1, description="Address that probes and metrics are served on.")
    ext_authz_port: int | None = Field(None, ge=0, le=65535, description="First port of the ext_authz processes.")
    ext_proc_port: int | None = Field(None, ge=0, le=65535, description="First port of the ext_proc processes.")

    envoy_port: int | None = Field(None, ge=1, le=65535, description="Port of Envoy's metrics.")

    @model_validator(mode="after")
    def _apart(self) -> Self:
        first, second, envoy = self.ext_authz_port, self.ext_proc_port, self.envoy_port
        if first and second and abs(first - second) < SLOTS:
            raise ValueError(
                f"health.ext_authz_port and health.ext_proc_port must be {SLOTS} or more apart: each process takes the next"
            )
        if envoy and any(base and base <= envoy < base + SLOTS for base in (first, second)):
            raise ValueError(
                f"health.envoy_port must not be one of the {SLOTS} ports from health.ext_authz_port or health.ext_proc_port on"
            )
        return self

    def port(self, role: str, slot: int) -> int | None:
        """Return the port of one process; 0 for any, None for none."""
        base = {"ext_authz": self.ext_authz_port, "ext_proc": self.ext_proc_port}.get(role)
        return base + slot if base else base


class TraceSettings(Section):
    """Spans, exported by OTLP over gRPC; needs `pip install rankgate[otel]`.

    A span holds the decision id, route, reason and outcome: no text, no caller.
    """

    endpoint: str | None = Field(
        None, description="OTLP collector, http://host:port or https://host:port; unset: no spans."
    )
    ca_file: Path | None = Field(None, description="PEM bundle for an https collector; unset: the system's.")
    ratio: float = Field(
        1.0, ge=0, le=1, description="Share of calls traced where the caller does not say; its `sampled` flag wins."
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.endpoint is None:
            if self.model_fields_set - {"endpoint"}:
                raise ValueError("traces.* settings have no effect without traces.endpoint")
            return self
        parts = address("traces.endpoint", self.endpoint)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
            raise ValueError("traces.endpoint must be http://host:port or https://host:port")
        if parts.path not in {"", "/"} or parts.query or parts.fragment:
            raise ValueError("traces.endpoint must not have a path: OTLP over gRPC has none")
        if self.ca_file is not None and parts.scheme != "https":
            raise ValueError("traces.ca_file has no effect on an http collector; use https or remove it")
        return self
