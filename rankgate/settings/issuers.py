"""Whose tokens are accepted (design: several issuers, each on its own terms)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from rankgate.settings.base import NonEmpty, Section, address, is_loopback

__all__ = ["ASYMMETRIC", "ClaimSettings", "IssuerSettings"]

ASYMMETRIC = frozenset({"RS256", "RS384", "RS512", "ES256", "ES384", "ES512"})


class ClaimSettings(Section):
    """Which claims hold what. A dot separates nested members; write `\\.` for a dot in a name."""

    subject: str = Field("sub", description="Claim that names the subject.")
    tenant: str | None = Field(None, description="Claim that names the tenant; unset: `tenant` of the issuer.")
    groups: str = Field("groups", description="Claim with a list of groups.")
    scopes: str = Field("scope", description="Claim with scopes: a space-separated string or a list.")


class IssuerSettings(Section):
    """One OIDC issuer whose tokens are accepted."""

    preset: Literal["oidc", "static"] = Field(
        "oidc", description="`oidc`: keys by discovery or `jwks_uri`; `static`: keys from `jwks_file`."
    )
    issuer: NonEmpty = Field(description="Exact `iss` value; for `oidc` also the discovery base.")
    audiences: tuple[NonEmpty, ...] = Field(min_length=1, description="Accepted `aud` members.")
    algorithms: tuple[str, ...] = Field(("RS256", "ES256"), min_length=1, description="Accepted asymmetric algorithms.")
    typ: tuple[str, ...] = Field(
        ("at+jwt", "jwt"), description='Accepted `typ` headers, lower case; `""` accepts a token without one.'
    )
    jwks_uri: str | None = Field(None, description="Key set URL; unset: from discovery.")
    jwks_file: Path | None = Field(None, description="Key set file, for `static`; re-read when it changes.")
    trusted_hosts: tuple[NonEmpty, ...] = Field((), description="Further hosts that `jwks_uri` may point to.")
    insecure_http: bool = Field(False, description="Allow plain http for this issuer, on loopback only.")
    ca_file: Path | None = Field(None, description="PEM bundle for the issuer's TLS; unset: the system's.")
    claims: ClaimSettings = Field(
        default_factory=lambda: ClaimSettings.model_validate({}), description="Claim mapping."
    )
    tenant: str = Field("default", min_length=1, max_length=128, description="Tenant where no claim names one.")
    leeway_s: int = Field(30, ge=0, le=60, description="Clock difference tolerated, in seconds.")
    max_lifetime_s: int = Field(3600, ge=60, le=86400, description="Longest accepted `exp - iat`, in seconds.")
    refresh_s: int = Field(300, ge=10, le=86400, description="Key set refresh interval, in seconds.")
    cooldown_s: float = Field(
        30.0, ge=1, le=600, description="Shortest time between fetches for unknown key ids, in seconds."
    )
    stale_s: int = Field(
        86400, ge=0, le=604800, description="How long the last good key set serves an outage, in seconds."
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        wrong = [name for name in self.algorithms if name not in ASYMMETRIC]
        if wrong:
            raise ValueError(
                f"issuers.algorithms has {', '.join(wrong)}; only {', '.join(sorted(ASYMMETRIC))} are accepted"
            )
        if self.preset == "static":
            if self.jwks_file is None:
                raise ValueError("issuers.preset static needs issuers.jwks_file")
            if self.jwks_uri or self.insecure_http or self.ca_file or self.trusted_hosts:
                raise ValueError(
                    "issuers.preset static fetches nothing; remove jwks_uri, trusted_hosts, insecure_http and ca_file"
                )
            idle = sorted({"refresh_s", "cooldown_s", "stale_s"} & self.model_fields_set)
            if idle:
                raise ValueError(f"issuers.{', issuers.'.join(idle)} has no effect with preset static; remove it")
            return self
        if self.jwks_file is not None:
            raise ValueError("issuers.jwks_file belongs to preset static; use jwks_uri or change the preset")
        for name, url in (("issuer", self.issuer), ("jwks_uri", self.jwks_uri)):
            if url is None:
                continue
            parts = address(f"issuers.{name}", url)
            if parts.scheme == "http" and self.insecure_http and is_loopback(parts.hostname or ""):
                continue
            if parts.scheme != "https" or not parts.hostname:
                raise ValueError(
                    f"issuers.{name} must be https (plain http only on loopback with insecure_http = true)"
                )
        return self
