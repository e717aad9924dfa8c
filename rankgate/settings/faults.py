"""A fault that pydantic found -> one line with the setting's name as the reference page writes it, and the remedy."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

__all__ = ["told"]

_WORDS = {
    "missing": "is required",
    "tuple_type": "must be a list",
    "model_type": "must be a table",
    "dict_type": "must be a table",
    "string_type": "must be text",
    "int_type": "must be an integer",
    "int_parsing": "must be an integer",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
}


def told(faults: Iterable[Mapping[str, Any]], schema: type[BaseModel]) -> list[str]:
    """Return one line a fault of `ValidationError.errors()`; no line holds a value.

    A list whose entries are at fault seems too short to pydantic, which leaves them out: that is no fault of its own.
    """
    given = list(faults)
    places = [tuple(fault["loc"]) for fault in given]
    return [
        _line(fault, schema)
        for fault in given
        if not (fault["type"] == "too_short" and any(_below(place, tuple(fault["loc"])) for place in places))
    ]


def _below(place: Sequence[object], parent: Sequence[object]) -> bool:
    return len(place) > len(parent) and place[: len(parent)] == parent


def _line(fault: Mapping[str, Any], schema: type[BaseModel]) -> str:
    where = _name(fault["loc"])
    text = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        text = f"no setting has this name; {_remedy(fault['loc'], schema)}"
    elif fault["type"] == "too_short":
        text = f"needs {fault['ctx']['min_length']} or more"
    else:
        text = _WORDS.get(fault["type"], text)
    # A check of a whole section names the setting itself.
    return f"{where}: {text}" if where and not text.startswith(f"{where}.") else text


def _name(place: Iterable[str | int]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return "".join(parts).removeprefix(".")


def _remedy(place: Sequence[str | int], schema: type[BaseModel]) -> str:
    *parents, name = place
    section = _section(schema, parents)
    known = [] if section is None else list(section.model_fields)
    if near := difflib.get_close_matches(str(name), known, 1):
        return f"did you mean {_name([*parents, near[0]])}?"
    elsewhere = [f"{head}.{name}" for head in schema.model_fields if str(name) in _fields(_section(schema, [head]))]
    return f"did you mean {elsewhere[0]}?" if len(elsewhere) == 1 else "`rankgate config docs` lists them"


def _fields(section: type[BaseModel] | None) -> Collection[str]:
    return () if section is None else section.model_fields


def _section(schema: type[BaseModel], place: Iterable[str | int]) -> type[BaseModel] | None:
    """Return the section at `place`, where list positions and names of entries are passed over."""
    section: type[BaseModel] | None = schema
    inside = False
    for part in place:
        if inside:
            inside = False
            continue
        if section is None or part not in section.model_fields:
            return None
        annotation = section.model_fields[str(part)].annotation
        inside = typing.get_origin(annotation) in {tuple, dict}
        candidates = (annotation, *typing.get_args(annotation))
        section = next((item for item in candidates if isinstance(item, type) and issubclass(item, BaseModel)), None)
    return section
