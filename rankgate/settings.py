"""Every setting, read once: a TOML file, then RANKGATE_* environment variables over it.

Secrets are never settings: a setting names the file that holds one. Constructors are handed their own section,
never the environment. What can never work is refused here, with the setting's name and the remedy.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from rankgate.errors import SettingsError

__all__ = [
    "AuditSettings", "CredentialSettings", "EnvoySettings", "IssuerSettings", "LimitSettings", "ListenSettings",
    "LogSettings", "MaskingSettings", "PolicySettings", "ProfileSettings", "RouteSettings", "Settings",
    "SocketSettings", "UpstreamSettings", "load",
]

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$")]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9!#$%&'*+.^`|~-]{1,64}$")]
Operator = Literal["pseudonym", "redact", "partial", "hash"]
ASYMMETRIC = frozenset({"RS256", "RS384", "RS512", "ES256", "ES384", "ES512"})

DEFAULT_REQUEST_HEADERS = ("accept", "content-type", "content-length", "user-agent", "x-request-id", "traceparent", "tracestate")
DEFAULT_RESPONSE_HEADERS = (
    "content-type", "content-length", "date", "retry-after", "x-request-id",
    "x-compute-type", "x-compute-time", "x-total-time", "x-tokenization-time", "x-queue-time", "x-inference-time",
)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Section(BaseModel):
    """A group of settings: immutable, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ListenSettings(Section):
    """Where Envoy accepts callers."""

    address: str = Field("127.0.0.1", description="Address Envoy listens on.")
    port: int = Field(8080, ge=0, le=65535, description="Port Envoy listens on.")
    certificate_file: Path | None = Field(None, description="PEM certificate chain of the listener.")
    key_file: Path | None = Field(None, description="PEM private key of the listener.")
    insecure_plaintext: bool = Field(False, description="Accept plain HTTP on an address other than loopback.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("listen.certificate_file and listen.key_file belong together; set both or neither")
        if self.certificate_file is None and not _is_loopback(self.address) and not self.insecure_plaintext:
            raise ValueError(
                f"listen.address {self.address} is not loopback and has no certificate; set listen.certificate_file "
                "and listen.key_file, or listen.insecure_plaintext = true where something in front ends TLS"
            )
        if self.certificate_file is not None and self.insecure_plaintext:
            raise ValueError("listen.insecure_plaintext has no effect with a certificate; remove one of them")
        return self


class UpstreamSettings(Section):
    """The reranker."""

    url: str = Field(description="Base URL of the reranker, http or https, without a path.")
    trusted_ca: Path | None = Field(None, description="PEM bundle that the reranker's certificate must chain to.")
    timeout_s: float = Field(30.0, gt=0, le=3600, description="Longest time the reranker may take, in seconds.")
    connect_timeout_s: float = Field(1.0, gt=0, le=60, description="Longest time to connect, in seconds.")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("upstream.url must be http://host[:port] or https://host[:port]")
        if parts.path not in {"", "/"} or parts.query or parts.fragment or parts.username is not None:
            raise ValueError("upstream.url must not have a path, query, fragment or user; callers' paths go through as they are")
        if parts.scheme == "https" and self.trusted_ca is None:
            # Without a validation context Envoy hands the credential to any self-signed host.
            raise ValueError("upstream.trusted_ca is required for an https upstream; name the PEM bundle to trust")
        if parts.scheme == "http" and self.trusted_ca is not None:
            raise ValueError("upstream.trusted_ca has no effect on an http upstream; use https or remove it")
        return self

    @property
    def host(self) -> str:
        """Return the host name or address."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """Return the port, the scheme's default where the URL has none."""
        parts = urlsplit(self.url)
        return parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def tls(self) -> bool:
        """Tell whether the upstream is https."""
        return urlsplit(self.url).scheme == "https"


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
    issuer: str = Field(description="Exact `iss` value; for `oidc` also the discovery base.")
    audiences: tuple[str, ...] = Field(min_length=1, description="Accepted `aud` members.")
    algorithms: tuple[str, ...] = Field(("RS256", "ES256"), min_length=1, description="Accepted asymmetric algorithms.")
    typ: tuple[str, ...] = Field(
        ("at+jwt", "jwt"), description="Accepted `typ` headers, lower case; `\"\"` accepts a token without one."
    )
    jwks_uri: str | None = Field(None, description="Key set URL; unset: from discovery.")
    jwks_file: Path | None = Field(None, description="Key set file, for `static`; re-read when it changes.")
    trusted_hosts: tuple[str, ...] = Field((), description="Further hosts that `jwks_uri` may point to.")
    insecure_http: bool = Field(False, description="Allow plain http for this issuer, on loopback only.")
    ca_file: Path | None = Field(None, description="PEM bundle for the issuer's TLS; unset: the system's.")
    claims: ClaimSettings = Field(default_factory=ClaimSettings, description="Claim mapping.")
    tenant: str = Field("default", min_length=1, max_length=128, description="Tenant where no claim names one.")
    leeway_s: int = Field(30, ge=0, le=60, description="Clock difference tolerated, in seconds.")
    max_lifetime_s: int = Field(3600, ge=60, le=86400, description="Longest accepted `exp - iat`, in seconds.")
    refresh_s: int = Field(300, ge=10, le=86400, description="Key set refresh interval, in seconds.")
    cooldown_s: float = Field(30.0, ge=1, le=600, description="Shortest time between fetches for unknown key ids, in seconds.")
    stale_s: int = Field(86400, ge=0, le=604800, description="How long the last good key set serves an outage, in seconds.")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        wrong = [name for name in self.algorithms if name not in ASYMMETRIC]
        if wrong:
            raise ValueError(f"issuers.algorithms has {', '.join(wrong)}; only {', '.join(sorted(ASYMMETRIC))} are accepted")
        if self.preset == "static":
            if self.jwks_file is None:
                raise ValueError("issuers.preset static needs issuers.jwks_file")
            if self.jwks_uri or self.insecure_http or self.ca_file or self.trusted_hosts:
                raise ValueError("issuers.preset static fetches nothing; remove jwks_uri, trusted_hosts, insecure_http and ca_file")
            return self
        if self.jwks_file is not None:
            raise ValueError("issuers.jwks_file belongs to preset static; use jwks_uri or change the preset")
        for name, url in (("issuer", self.issuer), ("jwks_uri", self.jwks_uri)):
            if url is None:
                continue
            parts = urlsplit(url)
            if parts.scheme == "http" and self.insecure_http and _is_loopback(parts.hostname or ""):
                continue
            if parts.scheme != "https" or not parts.hostname:
                raise ValueError(f"issuers.{name} must be https (plain http only on loopback with insecure_http = true)")
        return self


class RouteSettings(Section):
    """One exact path callers may use."""

    name: Name = Field(description="Name in events, metrics and policy input.")
    path: str = Field(pattern=r"^/[A-Za-z0-9._~/-]*$", description="Exact path.")
    methods: tuple[Literal["POST", "PUT"], ...] = Field(("POST",), min_length=1, description="Accepted methods.")
    dialect: Literal["auto", "cohere.v1", "cohere.v2", "tei", "generic"] = Field(
        "auto", description="The rerank API spoken here; `auto` decides by path, then by body keys."
    )
    audiences: tuple[str, ...] = Field((), description="Audiences accepted here; empty: the issuer's.")
    query_parameters: tuple[str, ...] = Field((), description="Query parameters let through.")
    request_headers: tuple[HeaderName, ...] = Field(DEFAULT_REQUEST_HEADERS, description="Request headers the reranker receives.")
    response_headers: tuple[HeaderName, ...] = Field(DEFAULT_RESPONSE_HEADERS, description="Response headers the caller receives.")
    profile: Name = Field("default", description="Masking profile, both directions.")
    may_relax: bool = Field(False, description="Let a ruling mask less than the profile; each use is audited.")
    drop_mode: Literal["auto", "omit", "floor"] = Field("auto", description="How dropped documents show in the answer.")
    capture: Literal["none", "masked"] = Field("masked", description="What of the texts the decision event holds.")
    policy_inputs: tuple[Literal["documents_text", "parsed_body", "raw_body", "authorization"], ...] = Field(
        (), description="Opt-in policy inputs."
    )

    @field_validator("request_headers")
    @classmethod
    def _no_credentials(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        bad = sorted({"authorization", "cookie", "proxy-authorization", "connection", "te", "trailer", "upgrade", "host"} & set(names))
        if bad:
            raise ValueError(f"routes.request_headers must not list {', '.join(bad)}; use [credentials] for the upstream's")
        return names


class LimitSettings(Section):
    """Sizes and times."""

    body_bytes: int = Field(2_097_152, ge=1024, le=33_554_432, description="Largest request body, in bytes.")
    documents: int = Field(1000, ge=1, le=10_000, description="Most documents in one request.")
    masked_body_bytes: int = Field(4_194_304, ge=1024, le=67_108_864, description="Largest body after masking, in bytes.")
    response_bytes: int = Field(4_194_304, ge=1024, le=67_108_864, description="Largest reranker answer, in bytes.")
    check_timeout_s: float = Field(5.0, ge=0.1, le=600, description="Longest time for one decision, in seconds.")
    process_timeout_s: float = Field(5.0, ge=0.1, le=600, description="Longest time for one masking step, in seconds.")
    request_timeout_s: float = Field(15.0, ge=1, le=600, description="Longest time for a caller to send its request, in seconds.")
    connections: int = Field(1024, ge=1, le=1_000_000, description="Most open caller connections.")
    requests: int = Field(1024, ge=1, le=1_000_000, description="Most requests in flight per filter and upstream.")


class ProfileSettings(Section):
    """What is masked, and how. Every entity type is named explicitly."""

    types: tuple[str, ...] = Field(min_length=1, description="Entity types to mask.")
    operator: Operator = Field("pseudonym", description="Operator for the types.")
    operators: dict[str, Operator] = Field(default_factory=dict, description="Operator of single types.")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        extra = sorted(set(self.operators) - set(self.types))
        if extra:
            raise ValueError(f"masking.profiles.operators names {', '.join(extra)}, which types does not list; they would have no effect")
        return self


STRUCTURED_TYPES = (
    "API_KEY", "CREDIT_CARD", "DATE_OF_BIRTH", "DE_TAX_ID", "EMAIL_ADDRESS", "ES_NIF", "IBAN_CODE", "IN_AADHAAR", "IP_ADDRESS",
    "IT_FISCAL_CODE", "JWT", "MAC_ADDRESS", "PHONE_NUMBER", "PL_PESEL", "PRIVATE_KEY", "UK_NHS", "URL_CREDENTIALS", "US_SSN",
)


class MaskingSettings(Section):
    """Masking keys and profiles."""

    key_file: Path = Field(description="File with the deployment's masking key: at least 32 random bytes.")
    epoch: Name = Field("1", description="Key epoch; a new one gives every value a new pseudonym.")
    phone_regions: tuple[str, ...] = Field(("US", "GB", "DE", "FR", "ES", "IT", "IN"), description="Regions for phone numbers without a country code.")
    profiles: dict[Name, ProfileSettings] = Field(
        default_factory=lambda: {"default": ProfileSettings(types=STRUCTURED_TYPES)}, min_length=1, description="Profiles by name."
    )
    cache_bytes: int = Field(33_554_432, ge=0, le=1_073_741_824, description="Bound of the detection cache, in bytes.")

    @field_validator("profiles")
    @classmethod
    def _reserved(cls, profiles: dict[str, ProfileSettings]) -> dict[str, ProfileSettings]:
        if "none" in profiles:
            raise ValueError("masking.profiles.none is reserved for 'mask nothing'; choose another name")
        return profiles


class PolicySettings(Section):
    """The policy engine."""

    engine: Literal["embedded", "opa"] = Field("embedded", description="`embedded` (regorus) or an `opa` server.")
    directory: Path | None = Field(None, description="Folder of .rego and data.json files, for `embedded`; unset: the shipped policy.")
    url: str | None = Field(None, description="OPA's address, for `opa`: http://host:port, https://host:port or unix:///path.")
    ca_file: Path | None = Field(None, description="PEM bundle for an https OPA.")
    path: str = Field("rankgate/decision", pattern=r"^[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*$", description="Path of the decision below `data`.")
    timeout_s: float = Field(0.2, ge=0.01, le=5, description="Longest time for one policy decision, in seconds.")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.engine == "opa" and not self.url:
            raise ValueError("policy.engine opa needs policy.url")
        if self.engine == "opa" and self.directory is not None:
            raise ValueError("policy.directory has no effect with engine opa; load the policies into OPA and remove it")
        if self.engine == "embedded" and (self.url or self.ca_file):
            raise ValueError("policy.url and policy.ca_file have no effect with engine embedded; remove them or set engine = \"opa\"")
        if self.url and not re.match(r"^(https?://[^/?#@]+/?|unix:///[^?#]+)$", self.url):
            raise ValueError("policy.url must be http://host:port, https://host:port or unix:///path")
        if self.url and self.url.startswith("http://") and not _is_loopback(urlsplit(self.url).hostname or ""):
            raise ValueError("policy.url over plain http is accepted on loopback only; use https or a unix socket")
        return self


class CredentialSettings(Section):
    """The upstream credential lent to allowed requests."""

    broker: Literal["none", "file"] = Field("none", description="`none`: the reranker needs no credential; `file`: a key from `file`.")
    file: Path | None = Field(None, description="File with the upstream key; re-read when it changes.")
    header: HeaderName = Field("authorization", description="Header that carries the credential.")
    scheme: str = Field("Bearer", pattern=r"^[A-Za-z0-9-]{0,32}$", description="Word before the credential; empty for none.")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if (self.broker == "file") != (self.file is not None):
            raise ValueError("credentials.broker file and credentials.file belong together")
        if self.header in {"content-type", "content-length", "accept", "accept-encoding", "transfer-encoding", "connection", "te", "host"} or self.header.startswith(("x-envoy-", "x-rankgate-")):
            raise ValueError(f"credentials.header {self.header} cannot carry a credential; use authorization or an api-key header")
        return self


class AuditSettings(Section):
    """The audit trail: a local file first, then Redis Streams."""

    directory: Path = Field(description="Folder of the local logs; must survive a restart of the process.")
    cap_bytes: int = Field(2_147_483_648, ge=1_048_576, description="Size of unshipped local records at which requests are refused, in bytes.")
    redis_url: str | None = Field(None, description="Where events are shipped: redis://, rediss:// or unix://; unset: kept local.")
    redis_user: str | None = Field(None, description="Redis user.")
    redis_password_file: Path | None = Field(None, description="File with the Redis password.")
    redis_ca_file: Path | None = Field(None, description="PEM bundle for rediss.")
    pod_uid: Name = Field("local", description="Names this pod's logs, with the role and number of the process.")
    event_bytes: int = Field(65_536, ge=4096, le=1_048_576, description="Budget of captured texts in one event, in bytes.")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.redis_url is None:
            if self.redis_user or self.redis_password_file or self.redis_ca_file:
                raise ValueError("audit.redis_* settings have no effect without audit.redis_url")
            return self
        parts = urlsplit(self.redis_url)
        if parts.scheme not in {"redis", "rediss", "unix"}:
            raise ValueError("audit.redis_url must be redis://, rediss:// or unix://")
        if parts.password or parts.username:
            raise ValueError("audit.redis_url must not hold a user or password; use audit.redis_user and audit.redis_password_file")
        if parts.scheme == "redis" and not _is_loopback(parts.hostname or ""):
            raise ValueError("audit.redis_url over plain redis:// is accepted on loopback only; use rediss:// or unix://")
        if self.redis_ca_file and parts.scheme != "rediss":
            raise ValueError("audit.redis_ca_file has no effect without rediss://")
        if self.redis_user and not self.redis_password_file:
            raise ValueError("audit.redis_user needs audit.redis_password_file")
        return self


class SocketSettings(Section):
    """Where Envoy and the filters meet. Never mount this folder into the reranker."""

    directory: Path = Field(description="Private folder (0750) of the filters' unix sockets.")
    group: int | None = Field(None, description="Numeric group shared only with Envoy; unset: the process's own.")


class EnvoySettings(Section):
    """Envoy itself."""

    concurrency: int = Field(1, ge=1, le=64, description="Envoy worker threads.")
    log_level: Literal["info", "warning", "error", "critical"] = Field("warning", description="Envoy's log level; debug and trace would print tokens.")
    access_log: str = Field("/dev/stdout", description="File of the JSON access log.")


class LogSettings(Section):
    """The filters' own logs."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level written.")
    format: Literal["json", "console"] = Field("json", description="`json` lines or `console` text, on standard error.")


class Settings(BaseSettings):
    """The whole configuration of one gate."""

    model_config = SettingsConfigDict(
        env_prefix="RANKGATE_", env_nested_delimiter="__", extra="forbid", frozen=True, env_ignore_empty=True
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
        min_length=1, description="Served paths.",
    )
    limits: LimitSettings = Field(default_factory=lambda: LimitSettings.model_validate({}), description="Limits.")
    masking: MaskingSettings = Field(description="Masking.")
    policy: PolicySettings = Field(default_factory=lambda: PolicySettings.model_validate({}), description="Policy.")
    credentials: CredentialSettings = Field(default_factory=lambda: CredentialSettings.model_validate({}), description="Credential.")
    audit: AuditSettings = Field(description="Audit trail.")
    sockets: SocketSettings = Field(description="Filter sockets.")
    envoy: EnvoySettings = Field(default_factory=lambda: EnvoySettings.model_validate({}), description="Envoy.")
    log: LogSettings = Field(default_factory=lambda: LogSettings.model_validate({}), description="Logs.")

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        env_settings: PydanticBaseSettingsSource, dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file, which arrives as init arguments."""
        return env_settings, init_settings

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for what, seen in (("name", [r.name for r in self.routes]), ("path", [r.path for r in self.routes])):
            twice = sorted({value for value in seen if seen.count(value) > 1})
            if twice:
                raise ValueError(f"routes.{what} {', '.join(twice)} is used twice; every route needs its own")
        issuers = [issuer.issuer for issuer in self.issuers]
        if len(set(issuers)) != len(issuers):
            raise ValueError("issuers.issuer is listed twice; merge the two entries")
        accepted = {audience for issuer in self.issuers for audience in issuer.audiences}
        for route in self.routes:
            if route.profile not in self.masking.profiles:
                raise ValueError(f"routes.profile {route.profile} of {route.name} is not in masking.profiles; add it or name another")
            unknown = sorted(set(route.audiences) - accepted)
            if unknown:
                raise ValueError(f"routes.audiences {', '.join(unknown)} of {route.name} is accepted by no issuer; add it to issuers.audiences")
            if self.credentials.header in route.request_headers:
                raise ValueError(f"routes.request_headers of {route.name} lists credentials.header; the caller's value would reach the reranker")
        if self.limits.masked_body_bytes < self.limits.body_bytes:
            raise ValueError("limits.masked_body_bytes must be at least limits.body_bytes")
        if self.policy.timeout_s >= self.limits.check_timeout_s:
            raise ValueError("policy.timeout_s must be shorter than limits.check_timeout_s, or it never takes effect")
        if self.audit.event_bytes * 4 > self.audit.cap_bytes:
            raise ValueError("audit.cap_bytes must hold several events of audit.event_bytes")
        return self

    @property
    def envoy_body_bytes(self) -> int:
        """Return Envoy's buffer limit: above our own, so that we answer 413 with identity and a record."""
        return max(2 * self.limits.body_bytes, self.limits.masked_body_bytes, self.limits.response_bytes) + 65_536

    @property
    def grpc_message_bytes(self) -> int:
        """Return the filters' gRPC receive limit: Envoy's buffer limit plus room for headers."""
        return self.envoy_body_bytes + 1_048_576

    def route(self, name: str) -> RouteSettings | None:
        """Return the route named `name`."""
        return next((route for route in self.routes if route.name == name), None)


def load(path: Path | None, **override: Any) -> Settings:
    """Read the settings from the TOML file `path`, the environment, and `override` (sections as dicts).

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
    try:
        return Settings(**{**values, **override})
    except ValidationError as error:
        raise SettingsError("\n".join(_fault(fault) for fault in error.errors(include_input=False, include_url=False))) from None


def _fault(fault: Any) -> str:
    where = ".".join(str(part) for part in fault["loc"])
    text = str(fault["msg"]).removeprefix("Value error, ")
    return f"{where}: {text}" if where else text
