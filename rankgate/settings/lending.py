"""The credential that an allowed request is sent to the reranker with, and who makes it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from rankgate.settings.base import HeaderName, NonEmpty, Section, address, is_loopback
from rankgate.settings.headers import carries_no_credential

__all__ = ["CredentialSettings", "ExchangeSettings", "MintedSettings"]

# RFC 6749 appendix A.4: what a scope token is made of.
ScopeToken = Annotated[str, StringConstraints(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]{1,256}$")]


class MintedSettings(Section):
    """A token that the gate signs for each allowed request (ES256, RFC 7518 section 3.4)."""

    issuer: NonEmpty = Field(description="`iss` of the tokens: what engines know this deployment by, usually a URL.")
    audience: NonEmpty = Field(description="`aud` of the tokens: what the engine accepts.")
    key_file: Path = Field(
        description="PEM file of P-256 keys: the first, a private one, signs, all are published; re-read when it changes."
    )
    lifetime_s: int = Field(30, ge=5, le=60, description="Time from `iat` to `exp`, in seconds.")


class ExchangeSettings(Section):
    """A token that a token endpoint gives for the caller's (RFC 8693)."""

    token_url: str = Field(description="Token endpoint, https.")
    insecure_http: bool = Field(False, description="Allow a plain http token endpoint, on loopback only.")
    ca_file: Path | None = Field(None, description="PEM bundle for the endpoint's TLS; unset: the system's.")
    client_id: NonEmpty = Field(description="The gate's own client id there.")
    client_secret_file: Path | None = Field(
        None, description="File with the client secret, for client_secret_basic; re-read when it changes."
    )
    client_key_file: Path | None = Field(
        None, description="PEM file with a P-256 private key, for private_key_jwt (ES256); re-read when it changes."
    )
    audiences: tuple[NonEmpty, ...] = Field((), description="`audience` parameters: names of whom the token is for.")
    resources: tuple[NonEmpty, ...] = Field(
        (), description="`resource` parameters: URIs of where it is used (RFC 8707)."
    )
    scopes: tuple[ScopeToken, ...] = Field((), description="Scopes asked for; a token with any other is not used.")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        parts = address("credentials.exchange.token_url", self.token_url)
        plain = parts.scheme == "http" and self.insecure_http and is_loopback(parts.hostname or "")
        if not (plain or parts.scheme == "https") or not parts.hostname:
            raise ValueError(
                "credentials.exchange.token_url must be https (plain http only on loopback with insecure_http = true)"
            )
        if parts.username is not None or parts.fragment:
            raise ValueError(
                "credentials.exchange.token_url must not have a user or a fragment; the client's secret belongs into "
                "client_secret_file"
            )
        if self.ca_file is not None and parts.scheme != "https":
            raise ValueError("credentials.exchange.ca_file has no effect on a plain http endpoint; remove it")
        if (self.client_secret_file is None) == (self.client_key_file is None):
            raise ValueError(
                "credentials.exchange needs one of client_secret_file and client_key_file: how the gate proves who it is"
            )
        if not self.audiences and not self.resources:
            raise ValueError(
                "credentials.exchange needs audiences or resources; a token for nobody in particular may open anything"
            )
        return self


class CredentialSettings(Section):
    """The upstream credential lent to allowed requests; [docs/credentials.md](credentials.md) says which is for what."""

    broker: Literal["none", "file", "minted", "exchange"] = Field(
        "none",
        description="`none`: the reranker needs no credential; `file`: a key from `file`; `minted`: a token that the gate signs; `exchange`: a token for the caller's.",
    )
    file: Path | None = Field(None, description="File with the upstream key, for `file`; re-read when it changes.")
    header: HeaderName = Field("authorization", description="Header that carries the credential.")
    scheme: str = Field(
        "Bearer", pattern=r"^[A-Za-z0-9-]{0,32}$", description="Word before the credential; empty for none."
    )
    minted: MintedSettings | None = Field(None, description="For broker `minted`.")
    exchange: ExchangeSettings | None = Field(None, description="For broker `exchange`.")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        for name in ("file", "minted", "exchange"):
            if (self.broker == name) != (getattr(self, name) is not None):
                raise ValueError(f"credentials.broker {name} and credentials.{name} belong together")
        if carries_no_credential(self.header):
            raise ValueError(
                f"credentials.header {self.header} cannot carry a credential; use authorization or an api-key header"
            )
        if self.broker == "none" and (self.header, self.scheme) != ("authorization", "Bearer"):
            raise ValueError(
                "credentials.header and credentials.scheme have no effect with broker none; "
                'remove them, or set broker = "file" and credentials.file'
            )
        return self
