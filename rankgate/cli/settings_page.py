"""The reference page of every setting, written from the schema itself."""

from __future__ import annotations

import inspect
import json
import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from rankgate.settings import Settings

__all__ = ["CONSOLE", "GATE", "Row", "page", "rows"]

GATE = """\
# Settings

This page is printed by `rankgate config docs`; a test compares the two.

Settings come from a TOML file (`--config FILE`), then from the environment, which wins over the file and over the
options of `rankgate up`. The variable of a setting is `RANKGATE_` and its name in capitals with two underscores for
each dot: `listen.port` is `RANKGATE_LISTEN__PORT`. Lists and tables are given as JSON there; a `RANKGATE_` variable
that is no setting is refused. `[]` marks each entry of a list, `<name>` each named entry of a table.
A secret is never a setting: a setting names the file that holds it.

`rankgate config check FILE` tells whether a gate would start; what contradicts itself or can have no effect is refused
with the setting's name and the remedy.

The console has settings of its own: [console-settings.md](console-settings.md).
"""
CONSOLE = """\
# Settings of the console

This page is printed by `rankgate config docs --console`; a test compares the two.

`rankgate console` has a TOML file of its own (`--config FILE`); the environment wins over it. The variable of a setting
is `RANKGATE_CONSOLE_` and its name in capitals with two underscores for each dot: `listen.port` is
`RANKGATE_CONSOLE_LISTEN__PORT`. Lists are given as JSON there. A secret is never a setting: a setting names the file
that holds it.

`rankgate console check --config FILE` tells whether a console would start. What belongs into the gates' settings is in
[settings.md](settings.md#approvals); [approvals.md](approvals.md#setting-it-up) has both side by side.
"""


TOP = "top level"


@dataclass(frozen=True, slots=True)
class Row:
    """One setting: its dotted name, type, default (`required` where there is none) and description."""

    name: str
    kind: str
    default: str
    description: str


def rows(section: type[BaseModel] = Settings, prefix: str = "") -> Iterator[Row]:
    """Yield every setting of `section` and the sections below it, in the order of the schema."""
    for field, info in section.model_fields.items():
        name = prefix + field
        inner, suffix = _section(info.annotation)
        if inner is None:
            yield Row(name, _kind(info.annotation), _default(info), info.description or "")
            continue
        if suffix:
            yield Row(
                name, "list of tables" if suffix == "[]" else "tables by name", _default(info), info.description or ""
            )
        yield from rows(inner, f"{name}{suffix}.")


def page(settings: type[BaseModel] = Settings, introduction: str = GATE) -> str:
    """Return the page of `settings`, in Markdown, ending with a newline."""
    parts = [introduction]
    group = None
    for row in rows(settings):
        head, about = _head(settings, row.name)
        if head != group:
            group = head
            parts.append(f"\n## {head}\n\n{about}| setting | type | default | description |\n|---|---|---|---|\n")
        parts.append(f"| `{row.name}` | {row.kind} | {row.default} | {row.description} |\n")
    return "".join(parts)


def _head(settings: type[BaseModel], name: str) -> tuple[str, str]:
    """Return the heading that a setting stands under, and what is said there; those of no section share one."""
    head = re.split(r"[.\[]", name)[0]
    inner, _ = _section(settings.model_fields[head].annotation)
    return (TOP, "") if inner is None else (head, f"{inspect.cleandoc(inner.__doc__ or '')}\n\n")


def _section(annotation: object) -> tuple[type[BaseModel] | None, str]:
    """Return the section inside `annotation`, and how its entries are named: as themselves, `[]` or `.<name>`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) in {typing.Union, UnionType} and NoneType in arguments:
        return _section(next(item for item in arguments if item is not NoneType))
    for suffix, origin, at in (("[]", tuple, 0), (".<name>", dict, 1)):
        inner = arguments[at] if typing.get_origin(annotation) is origin else None
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            return inner, suffix
    return None, ""


def _kind(annotation: object) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _kind(arguments[0])
    if origin is typing.Literal:
        return "one of " + ", ".join(f"`{value}`" for value in arguments)
    if origin in {typing.Union, UnionType}:
        return _kind(next(item for item in arguments if item is not NoneType))
    if origin is tuple:
        return f"list of {_kind(arguments[0])}".replace("of one of", "of")
    if origin is dict:
        return f"table of {_kind(arguments[1])}".replace("of one of", "of")
    names: dict[object, str] = {str: "text", int: "integer", float: "number", bool: "boolean", Path: "path"}
    return names[annotation]


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True, validated_data={})
    assert value is not PydanticUndefined
    if value is None:
        return "unset"
    if isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
        return "; ".join(f"`{json.dumps(item.model_dump(exclude_unset=True))}`" for item in value)
    if isinstance(value, dict) and value:
        entries = {key: item.model_dump(exclude_unset=True) for key, item in value.items()}
        return f"`{json.dumps(entries)}`"
    return f"`{json.dumps(value, default=_plain)}`"


def _plain(value: object) -> object:
    return value.value if isinstance(value, Enum) else str(value)
