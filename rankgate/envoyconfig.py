"""Envoy's bootstrap, rendered from the settings: one template for the embedded run, Compose and Kubernetes."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from rankgate.decision import RECEIPT
from rankgate.errors import SettingsError
from rankgate.settings import Settings, UpstreamSettings
from rankgate.settings.headers import RESERVED_HEADERS, RESERVED_PREFIXES

__all__ = ["HEALTH_CHECK", "SOCKET_PATH_BYTES", "HealthCheck", "filter_socket", "render", "secret_files"]


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How Envoy learns which of a filter's processes take calls: how often it asks each, and how many bad answers or
    silences in a row count."""

    interval_s: float
    failures: int


HEALTH_CHECK = HealthCheck(interval_s=0.25, failures=2)

# RFC 6750 section 2.1, one space; anything else is answered before the body is read.
BEARER = r"[Bb][Ee][Aa][Rr][Ee][Rr] [A-Za-z0-9._~+/=-]+"

# What the access log says of a method; any other text is the caller's own.
METHODS = ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE")

# The details of Envoy's that end in a text of somebody else's, by their beginning.
DETAIL_WORDS = ("upstream_reset_before_response_started", "ext_proc_error", "codec_error")

# Carries the status of a local reply to the filter that undoes Envoy's gRPC form of it.
STATUS_HEADER = "x-rankgate-status"

LOCAL_REPLIES = (
    (400, "the request is not acceptable"),
    (401, "a bearer token is required"),
    (403, "the request is not allowed"),
    (404, "this path is not served"),
    (405, "this method is not accepted"),
    (408, "the request did not arrive in time"),
    (413, "the body is too large"),
    (426, "this protocol is not accepted"),
    (431, "the request headers are too large"),
    (500, "the gate could not process this request"),
    (502, "the reranker's answer could not be used"),
    (503, "the gate or the reranker is not available"),
    (504, "the answer did not come in time"),
)
OTHER_REPLY = "the gate could not answer this request"

_WATCHED = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

# sun_path holds 108 bytes on Linux and 104 on macOS, with a NUL at the end.
SOCKET_PATH_BYTES = 103


def filter_socket(directory: Path, role: str, slot: int) -> Path:
    """Return the unix socket that process `slot` of the filter `role` binds."""
    return directory / f"{role}-{slot}.sock"


def secret_files(settings: Settings, directory: Path) -> dict[Path, str]:
    """Return the files for `directory` that let Envoy take renewed certificates while it runs.

    Each names the files of the settings that hold a certificate, by their paths; no key is copied.
    """
    return {_secret_path(directory, name): json.dumps({"resources": [secret]}) for name, secret in _secrets(settings)}


def render(
    settings: Settings,
    template: str,
    *,
    admin_socket: Path,
    authz_slots: int = 1,
    proc_slots: int = 1,
    secrets: Path | None = None,
) -> str:
    """Return Envoy's YAML for `settings`, with `authz_slots` and `proc_slots` processes a filter.

    `secrets` is the folder in which Envoy finds the `secret_files`; without it certificates are read at a start alone.
    Raises SettingsError where a socket path is too long for a unix socket or callers that wait could keep all others
    out, and jinja2.TemplateError for a template that names what is not here.
    """
    if authz_slots < 1 or proc_slots < 1:
        raise SettingsError("every filter needs at least one process")
    if settings.approvals.enabled and authz_slots * settings.approvals.waiters >= settings.limits.requests:
        raise SettingsError(
            f"approvals.waiters of {authz_slots} ext_authz processes must be fewer than limits.requests together, or "
            "waiting calls keep others out; lower the one or raise the other"
        )
    directory = settings.sockets.directory
    authz = [str(filter_socket(directory, "ext_authz", slot)) for slot in range(authz_slots)]
    proc = [str(filter_socket(directory, "ext_proc", slot)) for slot in range(proc_slots)]
    for path in (str(admin_socket), *authz, *proc):
        if len(path.encode()) > SOCKET_PATH_BYTES:
            raise SettingsError(
                f"sockets.directory makes a socket path longer than {SOCKET_PATH_BYTES} bytes; choose a shorter one"
            )
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701
    return environment.from_string(template).render(
        listen=settings.listen,
        health=settings.health,
        health_check=HEALTH_CHECK,
        upstream=settings.upstream,
        upstream_is_address=_is_address(settings.upstream.host),
        authority=_authority(settings.upstream),
        limits=settings.limits,
        routes=settings.routes,
        body_bytes=settings.envoy_body_bytes,
        heap_bytes=settings.envoy.heap_bytes,
        access_log=settings.envoy.access_log,
        check_s=settings.check_s,
        deadline_s=settings.deadline_s,
        admin_socket=str(admin_socket),
        authz_sockets=authz,
        proc_sockets=proc,
        secrets={name: str(_secret_path(secrets, name)) for name, _ in _secrets(settings)} if secrets else {},
        bearer=BEARER,
        methods=list(METHODS),
        detail_words=DETAIL_WORDS,
        status_header=STATUS_HEADER,
        reserved_prefixes=RESERVED_PREFIXES,
        reserved_headers=RESERVED_HEADERS,
        hidden_headers=settings.hidden_headers,
        unwanted_answer_headers=[*settings.hidden_headers, RECEIPT],
        local_replies=LOCAL_REPLIES,
        other_reply=OTHER_REPLY,
    )


def _secrets(settings: Settings) -> Iterator[tuple[str, dict[str, Any]]]:
    listen, upstream = settings.listen, settings.upstream
    if listen.certificate_file is not None:
        files = {"certificate_chain": listen.certificate_file, "private_key": listen.key_file}
        certificate = {part: {"filename": str(path)} for part, path in files.items()}
        yield "listener", {"@type": _WATCHED, "name": "listener", "tls_certificate": certificate}
    if upstream.trusted_ca is not None:
        context = {"trusted_ca": {"filename": str(upstream.trusted_ca)}}
        yield "reranker", {"@type": _WATCHED, "name": "reranker", "validation_context": context}


def _secret_path(directory: Path, name: str) -> Path:
    return directory / f"{name}.secret.json"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _authority(upstream: UpstreamSettings) -> str:
    host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
    return host if upstream.port == (443 if upstream.tls else 80) else f"{host}:{upstream.port}"
