"""A folder of policies as OPA reads it: `.rego` modules, and `data.json` files merged by their folder."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankgate.errors import SettingsError

__all__ = ["PolicyFiles", "read_policies"]

MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PolicyFiles:
    """What a folder holds: `modules` and `tests` as (relative name, text), the merged `data`, and their digest.

    `revision` covers what takes part in a decision: modules and data, not tests.
    """

    modules: tuple[tuple[str, str], ...]
    tests: tuple[tuple[str, str], ...]
    data: dict[str, Any]
    revision: str


def read_policies(directory: Path) -> PolicyFiles:
    """Read `directory` and everything below it, hidden names left out.

    Raises SettingsError naming the file and the remedy: nothing readable, no module, JSON that is not strict, two
    values at one place, or a kind of data file that only OPA reads.
    """
    modules: list[tuple[str, str]] = []
    tests: list[tuple[str, str]] = []
    data: dict[str, Any] = {}
    digest = hashlib.sha256()
    for name, raw in _files(directory):
        text = _text(name, raw)
        if name.endswith("_test.rego"):
            tests.append((name, text))
            continue
        digest.update(f"{len(name)}:{name}:{len(raw)}:".encode() + raw)
        if name.endswith(".rego"):
            modules.append((name, text))
        else:
            _merge(data, name, _parse(name, text))
    if not modules:
        raise SettingsError(f"no .rego file in {directory}; put a policy there or name another folder")
    return PolicyFiles(tuple(modules), tuple(tests), data, f"sha256:{digest.hexdigest()}")


def _files(directory: Path) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    total = 0
    try:
        if not directory.is_dir():
            raise SettingsError(f"policy folder {directory} does not exist")
        # Links are followed and dot names skipped: that is what a mounted ConfigMap needs.
        for parent, folders, names in os.walk(directory, followlinks=True, onerror=_raise):
            folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
            for base in sorted(names):
                path = Path(parent, base)
                name = path.relative_to(directory).as_posix()
                if base in {"data.yaml", "data.yml"}:
                    raise SettingsError(f"{name}: the embedded engine reads data.json only; convert the file")
                if base.startswith(".") or not (base == "data.json" or base.endswith(".rego")):
                    continue
                found.append((name, path.read_bytes()))
                total += len(found[-1][1])
                if total > MAX_BYTES:
                    raise SettingsError(f"policy folder {directory} holds more than {MAX_BYTES} bytes")
    except OSError as error:
        raise SettingsError(f"cannot read policy folder {directory}: {error.strerror}") from None
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def _text(name: str, raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise SettingsError(f"{name}: not UTF-8") from None


def _parse(name: str, text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{name}: not strict JSON: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is given twice")
    return members


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON number")


def _merge(data: dict[str, Any], name: str, value: Any) -> None:
    for folder in reversed(name.split("/")[:-1]):
        value = {folder: value}
    if not isinstance(value, dict):
        raise SettingsError(f"{name}: must hold an object")
    _merge_at(data, value, name, ())


def _merge_at(into: dict[str, Any], value: dict[str, Any], name: str, at: tuple[str, ...]) -> None:
    for key, member in value.items():
        if key not in into:
            into[key] = member
        elif isinstance(into[key], dict) and isinstance(member, dict):
            _merge_at(into[key], member, name, (*at, key))
        else:
            raise SettingsError(f"{name}: data.{'.'.join((*at, key))} is already given by another file")
