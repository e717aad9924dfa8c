"""The files a configuration names: are they there, can they be read, and do they hold what they must."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from rankgate.credentials import MIN_CHARS
from rankgate.errors import SettingsError
from rankgate.settings import Settings

__all__ = ["file_faults"]

# A gate makes these itself, or they are devices.
MADE_AT_START = frozenset({"audit.directory", "audit.second_place", "sockets.directory", "envoy.access_log"})
KEY_BYTES = 32


def file_faults(settings: Settings) -> list[str]:
    """Return one line for everything named in `settings` that no gate could start with, with the remedy."""
    faults = [fault for name, path in _paths(settings, "") if (fault := _unreadable(name, path)) is not None]
    key = settings.masking.key_file
    if key.is_file() and key.stat().st_size < KEY_BYTES:
        faults.append(
            f"masking.key_file: {key} has fewer than {KEY_BYTES} bytes; write it with: head -c 32 /dev/urandom"
        )
    faults += _credential_faults(settings.credentials.file)
    if not faults:
        faults += _certificate_faults(settings) + _broker_faults(settings) + _signing_faults(settings)
    return faults or _policy_faults(settings)


def _credential_faults(file: Path | None) -> list[str]:
    if file is None or not file.is_file() or not os.access(file, os.R_OK):
        return []
    text = file.read_bytes().strip()
    if len(text) < MIN_CHARS:
        return [f"credentials.file: {file} is too short, {MIN_CHARS} or more characters"]
    if not all(0x21 <= byte <= 0x7E for byte in text):
        return [f"credentials.file: {file} must hold one line of visible ASCII characters without spaces"]
    return []


def _broker_faults(settings: Settings) -> list[str]:
    """Return what the broker itself would say at start."""
    from rankgate.clients.credentials import broker_for

    try:
        broker_for(settings.credentials, bytes(KEY_BYTES))
    except SettingsError as error:
        return [str(error)]
    return []


def _signing_faults(settings: Settings) -> list[str]:
    if settings.audit.signing_key_file is None:
        return []
    from rankgate.clients.signing import read_signers

    try:
        read_signers(settings.audit.signing_key_file, settings.deployment)
    except SettingsError as error:
        return [str(error)]
    return []


def _certificate_faults(settings: Settings) -> list[str]:
    """Return what Envoy could not use: it would start all the same, and then serve nobody."""
    listen, bundle = settings.listen, settings.upstream.trusted_ca
    faults = []
    if listen.certificate_file is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                # A key with a password is one fault more, and no question on the terminal.
                listen.certificate_file,
                listen.key_file,
                lambda: "none",
            )
        except ssl.SSLError:
            faults.append(
                f"listen.certificate_file: {listen.certificate_file} and listen.key_file are no PEM certificate chain "
                "and its key"
            )
    if bundle is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(bundle)
        except ssl.SSLError:
            faults.append(f"upstream.trusted_ca: {bundle} holds no PEM certificate")
    return faults


def _policy_faults(settings: Settings) -> list[str]:
    policy = settings.policy
    live = policy.directory if policy.engine == "embedded" else None
    found = [] if live is None else _load_faults(live, policy.path)
    if policy.shadow_directory is not None:
        found += [f"policy.shadow_directory: {fault}" for fault in _load_faults(policy.shadow_directory, policy.path)]
    return found


def _load_faults(directory: Path, path: str) -> list[str]:
    from rankgate.clients.policy_files import read_policies
    from rankgate.clients.rego import load_decision

    try:
        load_decision(read_policies(directory), path)
    except SettingsError as error:
        return str(error).splitlines()
    return []


def _unreadable(name: str, path: Path) -> str | None:
    if name in MADE_AT_START:
        return None
    kind = "folder" if name.endswith("directory") else "file"
    if not (path.is_dir() if kind == "folder" else path.exists()):
        return f"{name}: there is no {kind} {path}; create it or name another"
    if not os.access(path, os.R_OK):
        return f"{name}: {kind} {path} cannot be read; change its owner or mode"
    return None


def _paths(section: BaseModel, prefix: str) -> Iterator[tuple[str, Path]]:
    """Yield the dotted name, as the reference page and faults write it, and value of every path."""
    for field in type(section).model_fields:
        value = getattr(section, field)
        listed = isinstance(value, tuple)
        for position, item in enumerate(value if listed else (value,)):
            name = f"{prefix}{field}[{position}]" if listed else f"{prefix}{field}"
            if isinstance(item, BaseModel):
                yield from _paths(item, f"{name}.")
            elif isinstance(item, Path):
                yield name, item
