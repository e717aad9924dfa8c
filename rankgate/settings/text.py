"""Settings values as TOML text, to be read back by `load`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["to_toml"]


def to_toml(values: Mapping[str, Any]) -> str:
    """Return `values` as TOML: one table a section, deeper ones inline; None is left out.

    Values are text, numbers, booleans, paths, lists and mappings with text keys.
    """
    scalars = [f"{_key(name)} = {_value(value)}\n" for name, value in values.items() if _is_scalar(value)]
    tables = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            tables.append(f"\n[{_key(name)}]\n{_members(value)}")
        elif _is_list_of_tables(value):
            tables += [f"\n[[{_key(name)}]]\n{_members(item)}" for item in value]
    return "".join((*scalars, *tables)).lstrip("\n")


def _is_list_of_tables(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _is_scalar(value: object) -> bool:
    return value is not None and not isinstance(value, Mapping) and not _is_list_of_tables(value)


def _members(table: Mapping[str, Any]) -> str:
    return "".join(f"{_key(name)} = {_value(value)}\n" for name, value in table.items() if value is not None)


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        pairs = (f"{_key(name)} = {_value(item)}" for name, item in value.items() if item is not None)
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(item) for item in value)}]"
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, str | Path):
        return _text(str(value))
    raise TypeError(f"{type(value).__name__} is no settings value")


def _key(name: str) -> str:
    return name if name.isascii() and name.replace("_", "").replace("-", "").isalnum() else _text(name)


def _text(text: str) -> str:
    # JSON's escapes are TOML's too; only DEL, which JSON leaves alone, has to be escaped as well.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
