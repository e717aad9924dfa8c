"""Bodies of any dialect, written from plain texts."""

from __future__ import annotations

from typing import Any

from rankgate import dialects
from rankgate.dialects import RequestShape
from rankgate.dialects.forms import STRING, TEXT_OBJECT, Form

__all__ = ["call", "shape", "with_top_n", "written"]

with_top_n = [name for name in dialects.NAMES if dialects.by_name(name).requests[0].top_n]


def shape(name: str) -> RequestShape:
    """Return the first shape of a dialect's requests."""
    return dialects.by_name(name).requests[0]


def written(text: str, form: Form) -> Any:
    """Return `text` as `form` writes it."""
    if form is STRING:
        return text
    return {"text": text} if form is TEXT_OBJECT else {"content": [{"type": "text", "text": text}]}


def call(name: str, documents: Any = ("a", "b"), query: Any = "q", **more: Any) -> dict[str, Any]:
    """Return a request body; strings are written as the dialect writes them first, anything else stays."""
    of = shape(name)
    listed = [written(item, of.document_forms[0]) if isinstance(item, str) else item for item in documents]
    asked = written(query, of.query_forms[0]) if isinstance(query, str) else query
    return {of.query: asked, of.documents: listed, **more}
