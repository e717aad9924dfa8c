"""The console's settings, read once: a TOML file, then RANKGATE_CONSOLE_* environment variables over it.

As with a gate's: secrets are never settings, and what can never work is refused here, with its name and the remedy.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as SourceError

from rankgate.console.webhook import EVENTS
from rankgate.errors import SettingsError
from rankgate.settings import IssuerSettings, LogSettings
from rankgate.settings.base import Name, NonEmpty, Section, address, is_loopback
from rankgate.settings.faults import told
from rankgate.settings.issuers import ASYMMETRIC
from rankgate.settings.redis import RedisSettings

__all__ = [
    "ConsoleSettings",
    "HealthSettings",
    "JournalSettings",
    "ListenSettings",
    "LoginSettings",
    "RoleSettings",
    "StateSettings",
    "TrailSettings",
    "WebhookSettings",
    "load",
]

PREFIX = "RANKGATE_CONSOLE_"


class ListenSettings(Section):
    """Where the console listens."""

    address: NonEmpty = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8090, ge=0, le=65535, description="Port; 0 takes any free one.")
    certificate_file: Path | None = Field(None, description="PEM certificate chain; unset: plaintext.")
    key_file: Path | None = Field(None, description="PEM private key of the certificate.")
    insecure_plaintext: bool = Field(
        False, description="Allow plaintext off loopback, behind a proxy that speaks TLS to people."
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("listen.certificate_file and listen.key_file belong together; set both or neither")
        if self.certificate_file is None and not is_loopback(self.address) and not self.insecure_plaintext:
            raise ValueError(
                "listen.address off loopback needs listen.certificate_file and listen.key_file, "
                "or listen.insecure_plaintext = true behind a proxy that speaks TLS"
            )
        return self


class StateSettings(RedisSettings):
    """The Redis that approvals are kept in: the gates' `approvals.redis_url`."""

    section: ClassVar[str] = "state"

    redis_url: str = Field(description="Where approvals are kept: redis://, rediss:// or unix://.")


class TrailSettings(RedisSettings):
    """The Redis that the gates ship their trail to, for the receipt page; the user needs to read streams only."""

    section: ClassVar[str] = "audit"


class LoginSettings(Section):
    """Whose word the console takes on who somebody is: one OIDC issuer, for the browser and for tokens at the API."""

    issuer: NonEmpty = Field(description="Exact `iss` value and discovery base.")
    client_id: NonEmpty = Field(description="The console's own client at the issuer.")
    client_secret_file: Path | None = Field(None, description="File with the client's secret; unset: a public client.")
    cli_client_id: NonEmpty | None = Field(
        None, description="Public client that the command line logs in with (device flow); unset: `client_id`."
    )
    scopes: tuple[NonEmpty, ...] = Field(
        ("openid", "profile", "email", "groups"), description="Scopes asked for at login; must hold `openid`."
    )
    audience: NonEmpty = Field(
        description="`aud` of access tokens at the API; one that no gate accepts, and not `client_id`."
    )
    algorithms: tuple[str, ...] = Field(("RS256", "ES256"), min_length=1, description="Accepted asymmetric algorithms.")
    groups: str = Field("groups", description="Claim with a list of groups.")
    person_claim: NonEmpty | None = Field(
        None, description="Claim that tells people apart for good; unset: issuer and subject."
    )
    name_claims: tuple[NonEmpty, ...] = Field(
        ("email", "preferred_username", "upn"),
        description="Claims that name a person as well; the first there is is shown, all count as the person.",
    )
    people_claim: NonEmpty | None = Field(
        None, description="Claim that only people's access tokens have; unset: any of `name_claims`, or `auth_time`."
    )
    userinfo: bool = Field(False, description="Ask the issuer for what the ID token lacks of groups and names.")
    acr_values: tuple[NonEmpty, ...] = Field(
        (), description="Accepted `acr` of logins and tokens, for a second factor; unset: any."
    )
    trusted_hosts: tuple[NonEmpty, ...] = Field((), description="Further hosts of the issuer's endpoints and keys.")
    insecure_http: bool = Field(False, description="Allow plain http for this issuer, on loopback only.")
    ca_file: Path | None = Field(None, description="PEM bundle for the issuer's TLS; unset: the system's.")
    token_s: int = Field(3600, ge=60, le=86400, description="Longest `exp - iat` of accepted tokens, in seconds.")
    leeway_s: int = Field(30, ge=0, le=60, description="Clock difference tolerated, in seconds.")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        wrong = [name for name in self.algorithms if name not in ASYMMETRIC]
        if wrong:
            raise ValueError(
                f"login.algorithms has {', '.join(wrong)}; only {', '.join(sorted(ASYMMETRIC))} are accepted"
            )
        parts = address("login.issuer", self.issuer)
        plain = parts.scheme == "http" and self.insecure_http and is_loopback(parts.hostname or "")
        if not plain and (parts.scheme != "https" or not parts.hostname):
            raise ValueError("login.issuer must be https (plain http only on loopback with insecure_http = true)")
        if "openid" not in self.scopes:
            raise ValueError("login.scopes must hold openid, or the issuer says nothing about who logged in")
        if self.audience == self.client_id:
            raise ValueError(
                "login.audience must differ from login.client_id: else an ID token would pass for an access token"
            )
        return self

    def token_issuer(self) -> IssuerSettings:
        """Return on what terms the issuer's access tokens are accepted at the API."""
        return IssuerSettings.model_validate(
            {
                "issuer": self.issuer, "audiences": (self.audience,), "algorithms": self.algorithms,
                "trusted_hosts": self.trusted_hosts, "insecure_http": self.insecure_http, "ca_file": self.ca_file,
                "claims": {"groups": self.groups}, "leeway_s": self.leeway_s, "max_lifetime_s": self.token_s,
            }
        )  # fmt: skip


class RoleSettings(Section):
    """Groups with rights that no approval names. Approvers need none."""

    view: tuple[NonEmpty, ...] = Field((), description="Groups that see everything.")
    operate: tuple[NonEmpty, ...] = Field((), description="Groups that see everything, cancel, revoke, close reviews.")


class JournalSettings(Section):
    """The console's own record of logins, votes and everything else that people did."""

    directory: Path = Field(description="Folder of the journal; must survive a restart of the console.")
    cap_bytes: int = Field(
        1_073_741_824,
        ge=1_048_576,
        description="Size at which the journal is full and nothing is done any more, in bytes.",
    )


class WebhookSettings(Section):
    """Where others are told what happens, signed as in Standard Webhooks."""

    url: str | None = Field(None, description="Where events are sent; unset: nowhere.")
    secret_file: Path | None = Field(None, description="File with the signing secret (`whsec_...`).")
    insecure_http: bool = Field(False, description="Allow plain http, on loopback only.")
    events: tuple[NonEmpty, ...] = Field(
        ("opened", "approved", "denied", "expired", "cancelled", "consumed", "review_opened"),
        min_length=1,
        description="Kinds of events that are sent.",
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.url is None:
            if self.model_fields_set:
                raise ValueError(f"webhook.{min(self.model_fields_set)} has no effect without webhook.url")
            return self
        parts = address("webhook.url", self.url)
        plain = parts.scheme == "http" and self.insecure_http and is_loopback(parts.hostname or "")
        if not plain and (parts.scheme != "https" or not parts.hostname):
            raise ValueError("webhook.url must be https (plain http only on loopback with insecure_http = true)")
        if self.secret_file is None:
            raise ValueError("webhook.url needs webhook.secret_file, or nobody could tell our messages from others'")
        if unknown := sorted(set(self.events) - set(EVENTS)):
            raise ValueError(f"webhook.events has {', '.join(unknown)}; known are {', '.join(sorted(EVENTS))}")
        return self


class HealthSettings(Section):
    """Probes and metrics on a port of their own: `/livez`, `/readyz` and `/metrics`.

    There is no TLS and no login, and nothing about people or approvals: open it to probes and Prometheus only. The
    listener itself answers `/livez` and `/readyz` too.
    """

    address: NonEmpty = Field("127.0.0.1", description="Address that probes and metrics are served on.")
    port: int | None = Field(
        None, ge=0, le=65535, description="Port of probes and metrics; unset: none; 0 takes any free one."
    )


class ConsoleSettings(BaseSettings):
    """The whole configuration of one console."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, env_ignore_empty=True
    )

    deployment: Name = Field("default", description="Names the deployment, as in the gates' settings.")
    public_url: NonEmpty = Field(description="Origin that people use, as https://console.example; no path.")
    vote_key_file: Path = Field(description="PEM file of the private key (Ed25519) that votes are signed with.")
    vote_keys: tuple[Path, ...] = Field((), description="PEM files of public keys that votes were signed with before.")
    preview_key_file: Path | None = Field(
        None, description="File with the age identity that previews are sealed to; unset: there are none."
    )
    history_s: int = Field(
        2_592_000, ge=3600, le=31_536_000, description="How long what became of an approval is kept, in seconds."
    )
    session_s: int = Field(28_800, ge=300, le=28_800, description="Longest session, in seconds.")
    idle_s: int = Field(
        3600, ge=60, le=28_800, description="Longest time between two requests of a session, in seconds."
    )
    vote_fresh_s: int = Field(3600, ge=60, le=28_800, description="Oldest login that may vote, in seconds.")
    listen: ListenSettings = Field(default_factory=lambda: ListenSettings.model_validate({}), description="Listener.")
    state: StateSettings = Field(description="Approvals.")
    audit: TrailSettings = Field(default_factory=lambda: TrailSettings.model_validate({}), description="Trail.")
    login: LoginSettings = Field(description="Login.")
    roles: RoleSettings = Field(default_factory=lambda: RoleSettings.model_validate({}), description="Roles.")
    journal: JournalSettings = Field(description="Journal.")
    webhook: WebhookSettings = Field(default_factory=lambda: WebhookSettings.model_validate({}), description="Webhook.")
    health: HealthSettings = Field(
        default_factory=lambda: HealthSettings.model_validate({}), description="Probes and metrics."
    )
    log: LogSettings = Field(default_factory=lambda: LogSettings.model_validate({}), description="Logs.")

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
    def _whole(self) -> Self:
        parts = address("public_url", self.public_url)
        if not parts.hostname or parts.scheme not in {"https", "http"}:
            raise ValueError("public_url must be an origin such as https://console.example")
        if parts.path not in {"", "/"} or parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError("public_url must be an origin alone; remove path, query and user")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise ValueError(
                "public_url must be https (plain http only on loopback): cookies would travel in the clear"
            )
        if parts.scheme == "http" and self.listen.certificate_file is not None:
            raise ValueError("public_url must be https where listen.certificate_file is set")
        return self

    @property
    def origin(self) -> str:
        """Return the origin as browsers write it: lower case, without a default port."""
        parts = urlsplit(self.public_url)
        return f"{parts.scheme}://{self.host}"

    @property
    def host(self) -> str:
        """Return what the Host header must be."""
        parts = urlsplit(self.public_url)
        name = (parts.hostname or "").lower()
        name = f"[{name}]" if ":" in name else name
        default = {"https": 443, "http": 80}[parts.scheme]
        return name if parts.port in {None, default} else f"{name}:{parts.port}"

    @property
    def scheme(self) -> Literal["https", "http"]:
        """Return the scheme that people use."""
        return "https" if self.public_url.lower().startswith("https:") else "http"


def load(path: Path | None, **override: Any) -> ConsoleSettings:
    """Read the settings from the TOML file `path`, then `override`, then the environment, which wins.

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
    unknown = [
        name
        for name, value in sorted(os.environ.items())
        if value
        and name.upper().startswith(PREFIX)
        and name.upper().removeprefix(PREFIX).partition("__")[0].lower() not in ConsoleSettings.model_fields
    ]
    if unknown:
        raise SettingsError("\n".join(f"{name}: no setting of the console has this name" for name in unknown))
    try:
        return ConsoleSettings(**{**values, **override})
    except ValidationError as error:
        faults = told(error.errors(include_input=False, include_url=False), ConsoleSettings)
        raise SettingsError("\n".join(faults)) from None
    except SourceError as error:
        name = next((name for name in ConsoleSettings.model_fields if f'"{name}"' in str(error)), "")
        raise SettingsError(
            f"{PREFIX}{name.upper()}: must be JSON, as lists and tables are in the environment"
        ) from None
