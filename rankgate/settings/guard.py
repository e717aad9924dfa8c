"""What a request must meet: routes, masking, policy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from rankgate.settings.base import HeaderName, Name, NonEmpty, Operator, Section, address, is_loopback
from rankgate.settings.headers import (
    DEFAULT_REQUEST_HEADERS,
    DEFAULT_RESPONSE_HEADERS,
    unfit_for_request,
    unfit_for_response,
)

__all__ = [
    "HEALTH_PATH",
    "STRUCTURED_TYPES",
    "MaskingSettings",
    "PolicySettings",
    "ProfileSettings",
    "RouteSettings",
]

# Envoy answers it itself.
HEALTH_PATH = "/healthz"

STRUCTURED_TYPES = (
    "API_KEY",
    "CREDIT_CARD",
    "DATE_OF_BIRTH",
    "DE_TAX_ID",
    "EMAIL_ADDRESS",
    "ES_NIF",
    "IBAN_CODE",
    "IN_AADHAAR",
    "IP_ADDRESS",
    "IT_FISCAL_CODE",
    "JWT",
    "MAC_ADDRESS",
    "PHONE_NUMBER",
    "PL_PESEL",
    "PRIVATE_KEY",
    "UK_NHS",
    "URL_CREDENTIALS",
    "US_SSN",
)


class RouteSettings(Section):
    """One exact path callers may use."""

    name: Name = Field(description="Name in events, metrics and policy input.")
    path: str = Field(pattern=r"^/[A-Za-z0-9._~/-]*$", description="Exact path.")
    methods: tuple[Literal["POST", "PUT"], ...] = Field(("POST",), min_length=1, description="Accepted methods.")
    dialect: Literal[
        "auto",
        "cohere.v1",
        "cohere.v2",
        "tei",
        "jina",
        "voyage",
        "vllm.rerank",
        "vllm.score",
        "nvidia.ranking",
        "generic",
    ] = Field("auto", description="The rerank API spoken here; `auto` decides by path, then by body keys.")
    audiences: tuple[NonEmpty, ...] = Field((), description="Audiences accepted here; empty: the issuer's.")
    query_parameters: tuple[NonEmpty, ...] = Field((), description="Query parameters let through.")
    request_headers: tuple[HeaderName, ...] = Field(
        DEFAULT_REQUEST_HEADERS, description="Request headers the reranker receives."
    )
    response_headers: tuple[HeaderName, ...] = Field(
        DEFAULT_RESPONSE_HEADERS, description="Response headers the caller receives."
    )
    profile: Name = Field("default", description="Masking profile, both directions.")
    may_relax: bool = Field(False, description="Let a ruling mask less than the profile; each use is audited.")
    drop_mode: Literal["auto", "omit", "floor"] = Field("auto", description="How dropped documents show in the answer.")
    capture: Literal["none", "masked"] = Field("masked", description="What of the texts the decision event holds.")
    capture_question: bool = Field(
        False,
        description="Keep the policy's question in the decision event, so that it can be asked again; needs `capture`.",
    )
    policy_inputs: tuple[Literal["documents_text", "parsed_body", "raw_body", "authorization"], ...] = Field(
        (), description="Opt-in policy inputs."
    )

    @field_validator("path")
    @classmethod
    def _reachable(cls, path: str) -> str:
        if path == HEALTH_PATH:
            raise ValueError(f"routes.path {path} is Envoy's own health check; choose another path")
        if "//" in path or {".", ".."} & set(path.split("/")):
            raise ValueError(
                f"routes.path {path} is no path after Envoy's normalisation; write it without //, . and .."
            )
        return path

    @model_validator(mode="after")
    def _mode_exists(self) -> Self:
        if self.dialect == "vllm.score" and self.drop_mode == "omit":
            raise ValueError(
                f"routes.drop_mode omit of {self.name} has no effect with vllm.score, whose scores are joined by place; "
                "use auto or floor"
            )
        if self.capture_question and self.capture == "none" and not self.may_relax:
            raise ValueError(
                f"routes.capture_question of {self.name} has no effect with capture none, which keeps no text; "
                "remove one of them"
            )
        return self

    @field_validator("request_headers")
    @classmethod
    def _passed_on(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        bad = sorted(filter(unfit_for_request, names))
        if bad:
            raise ValueError(
                f"routes.request_headers must not list {', '.join(bad)}: no reranker receives a caller's; "
                "use [credentials] for the upstream's own"
            )
        return names

    @field_validator("response_headers")
    @classmethod
    def _passed_back(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        bad = sorted(filter(unfit_for_response, names))
        if bad:
            raise ValueError(f"routes.response_headers must not list {', '.join(bad)}: no caller receives a reranker's")
        return names


class ProfileSettings(Section):
    """What is masked, and how. Every entity type is named explicitly."""

    types: tuple[str, ...] = Field(min_length=1, description="Entity types to mask.")
    operator: Operator = Field("pseudonym", description="Operator for the types.")
    operators: dict[str, Operator] = Field(default_factory=dict, description="Operator of single types.")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        extra = sorted(set(self.operators) - set(self.types))
        if extra:
            raise ValueError(
                f"masking.profiles.operators names {', '.join(extra)}, which types does not list; they would have no effect"
            )
        return self


class MaskingSettings(Section):
    """Masking keys and profiles."""

    key_file: Path = Field(description="File with the deployment's masking key: at least 32 random bytes.")
    epoch: Name = Field("1", description="Key epoch; a new one gives every value a new pseudonym.")
    phone_regions: tuple[str, ...] = Field(
        ("US", "GB", "DE", "FR", "ES", "IT", "IN"),
        description="Regions for phone numbers without a country code.",
    )
    profiles: dict[Name, ProfileSettings] = Field(
        default_factory=lambda: {"default": ProfileSettings.model_validate({"types": STRUCTURED_TYPES})},
        min_length=1,
        description="Profiles by name.",
    )
    cache_bytes: int = Field(33_554_432, ge=0, le=1_073_741_824, description="Bound of the detection cache, in bytes.")

    @property
    def everything(self) -> ProfileSettings:
        """Return a profile of every type there is: what is searched for, and what errors are masked with."""
        types = {*STRUCTURED_TYPES, *(kind for profile in self.profiles.values() for kind in profile.types)}
        return ProfileSettings.model_validate({"types": sorted(types)})

    @field_validator("profiles")
    @classmethod
    def _reserved(cls, profiles: dict[str, ProfileSettings]) -> dict[str, ProfileSettings]:
        if "none" in profiles:
            raise ValueError("masking.profiles.none is reserved for 'mask nothing'; choose another name")
        return profiles


class PolicySettings(Section):
    """The policy engine."""

    engine: Literal["embedded", "opa"] = Field("embedded", description="`embedded` (regorus) or an `opa` server.")
    directory: Path | None = Field(
        None, description="Folder of .rego and data.json files, for `embedded`; unset: the shipped policy."
    )
    url: str | None = Field(
        None, description="OPA's address, for `opa`: http://host:port, https://host:port or unix:///path."
    )
    ca_file: Path | None = Field(None, description="PEM bundle for an https OPA.")
    path: str = Field(
        "rankgate/decision",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*$",
        description="Path of the decision below `data`.",
    )
    timeout_s: float = Field(0.2, ge=0.01, le=5, description="Longest time for one policy decision, in seconds.")
    shadow_directory: Path | None = Field(
        None,
        description="Folder of a candidate policy, decided by the embedded engine beside the live one, without effect.",
    )
    shadow_events_per_s: int = Field(
        10,
        ge=0,
        le=1000,
        description="Most differences of the candidate that are recorded in a second; all are counted.",
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.engine == "opa" and not self.url:
            raise ValueError("policy.engine opa needs policy.url")
        if self.engine == "opa" and self.directory is not None:
            raise ValueError("policy.directory has no effect with engine opa; load the policies into OPA and remove it")
        if self.engine == "embedded" and (self.url or self.ca_file):
            raise ValueError(
                'policy.url and policy.ca_file have no effect with engine embedded; remove them or set engine = "opa"'
            )
        if self.shadow_directory is None and "shadow_events_per_s" in self.model_fields_set:
            raise ValueError("policy.shadow_events_per_s has no effect without policy.shadow_directory")
        if self.url:
            self._check_url(self.url)
        return self

    @staticmethod
    def _check_url(url: str) -> None:
        parts = address("policy.url", url)
        form = r"unix:///[^?#]+" if parts.scheme == "unix" else r"https?://[^/?#@]+/?"
        if not re.fullmatch(form, url) or not (parts.hostname or parts.scheme == "unix"):
            raise ValueError("policy.url must be http://host:port, https://host:port or unix:///path")
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            raise ValueError("policy.url over plain http is accepted on loopback only; use https or a unix socket")
