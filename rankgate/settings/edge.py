"""Envoy's sides: the listener, the reranker, the filter sockets, the limits between them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from rankgate.settings.base import Section, address, is_loopback

__all__ = ["EnvoySettings", "LimitSettings", "ListenSettings", "SocketSettings", "UpstreamSettings"]


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
        if self.certificate_file is None and not is_loopback(self.address) and not self.insecure_plaintext:
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
        parts = address("upstream.url", self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("upstream.url must be http://host[:port] or https://host[:port]")
        if parts.path not in {"", "/"} or parts.query or parts.fragment or parts.username is not None:
            raise ValueError(
                "upstream.url must not have a path, query, fragment or user; callers' paths go through as they are"
            )
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


# Of Envoy's time for a decision; the rest is for the record and the answer.
DECISION_SHARE = 0.8


class LimitSettings(Section):
    """Sizes and times.

    A filter that is told to end goes on until the longest call there can be is over: the request, one decision, two
    masking steps, `upstream.timeout_s` and 5 s more, 65 s as shipped; with approvals `approvals.hold_s` and a decision
    more, 94 s. That is longer than the 30 s that Kubernetes gives a pod by default; set its
    `terminationGracePeriodSeconds` 20 s above the sum.
    """

    body_bytes: int = Field(2_097_152, ge=1024, le=33_554_432, description="Largest request body, in bytes.")
    documents: int = Field(1000, ge=1, le=10_000, description="Most documents in one request.")
    masked_body_bytes: int = Field(
        4_194_304, ge=1024, le=67_108_864, description="Largest body after masking, in bytes."
    )
    response_bytes: int = Field(
        4_194_304, ge=1024, le=67_108_864, description="Largest reranker answer, in bytes; a larger one is refused."
    )
    check_timeout_s: float = Field(5.0, ge=0.1, le=600, description="Longest time for one decision, in seconds.")
    process_timeout_s: float = Field(5.0, ge=0.1, le=600, description="Longest time for one masking step, in seconds.")
    request_timeout_s: float = Field(
        15.0, ge=1, le=600, description="Longest time for a caller to send its request, in seconds."
    )
    connections: int = Field(1024, ge=1, le=1_000_000, description="Most open caller connections.")
    requests: int = Field(1024, ge=1, le=1_000_000, description="Most requests in flight per filter and upstream.")

    @property
    def decision_s(self) -> float:
        """Return the longest time from a Check's arrival to its decision, in seconds; then it is a denial."""
        return self.check_timeout_s * DECISION_SHARE


class SocketSettings(Section):
    """Where Envoy and the filters meet. Never mount this folder into the reranker."""

    directory: Path = Field(description="Private folder (0750) of the filters' unix sockets.")
    group: int | None = Field(None, description="Numeric group shared only with Envoy; unset: the process's own.")


class EnvoySettings(Section):
    """Envoy itself."""

    concurrency: int = Field(1, ge=1, le=64, description="Envoy worker threads.")
    log_level: Literal["info", "warning", "error", "critical"] = Field(
        "warning", description="Envoy's log level; debug and trace would print tokens."
    )
    access_log: str = Field("/dev/stdout", description="File of the JSON access log.")
    heap_bytes: int = Field(
        1_073_741_824,
        ge=134_217_728,
        le=68_719_476_736,
        description="Envoy's memory, in bytes; near it, requests are refused.",
    )
