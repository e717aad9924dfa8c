"""How an API writes a query or a document: a string, an object with a text, or parts of content.

Images, audio, video, token ids and embeddings cannot be inspected. A form that an engine might read them from lists
the members it may have, so that a new kind of content is refused until it is understood here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["OBJECT", "PARTS", "STRING", "TEXT_OBJECT", "Form", "is_opaque"]

# What policy and clients attach to a document, beside what is ranked.
_CLAIMS = frozenset({"id", "labels"})
_OPAQUE_MEMBERS = frozenset(
    {"audio", "audio_url", "bytes", "embedding", "embeddings", "image", "image_embeds", "image_url", "input_audio"}
    | {"prompt_token_ids", "token_ids", "video", "video_url"}
)


# Compared by identity: this is asked for every string of a body.
@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """One way to write a text; `one` and `many` name it in a refusal.

    `read` returns the texts of a value, or None where the value is not of this form.
    """

    one: str
    many: str
    read: Callable[[Any], tuple[str, ...] | None]


def is_opaque(value: Any) -> bool:
    """Tell whether `value` looks like content that is no text: for the words of a refusal, not for admission."""
    if isinstance(value, list):
        return bool(value) and all(type(item) is int or type(item) is float for item in value)
    if not isinstance(value, dict):
        return False
    return not _OPAQUE_MEMBERS.isdisjoint(value) or _has_opaque_part(value)


def _has_opaque_part(value: dict[str, Any]) -> bool:
    content = value.get("content")
    return isinstance(content, list) and any(isinstance(part, dict) and not _is_text_part(part) for part in content)


def _is_text_part(part: Any) -> bool:
    return (
        isinstance(part, dict)
        and part.keys() == {"type", "text"}
        and part["type"] == "text"
        and isinstance(part["text"], str)
    )


def _string(value: Any) -> tuple[str, ...] | None:
    return (value,) if isinstance(value, str) else None


def _object(value: Any) -> tuple[str, ...] | None:
    # Engines that know content parts serve the same paths as those that take any object.
    return () if isinstance(value, dict) and not _has_opaque_part(value) else None


def _text_object(value: Any) -> tuple[str, ...] | None:
    if not isinstance(value, dict) or value.keys() - _CLAIMS != {"text"} or not isinstance(value["text"], str):
        return None
    return (value["text"],)


def _parts(value: Any) -> tuple[str, ...] | None:
    if not isinstance(value, dict) or value.keys() - _CLAIMS != {"content"}:
        return None
    content = value["content"]
    if not isinstance(content, list) or not content or not all(map(_is_text_part, content)):
        return None
    return tuple(part["text"] for part in content)


STRING = Form("a non-empty string", "strings", _string)
OBJECT = Form("an object", "objects", _object)
"""Any object; every string in it belongs to the document."""
TEXT_OBJECT = Form("an object with nothing but a 'text'", "objects with nothing but a 'text'", _text_object)
PARTS = Form("an object with 'content' of text parts alone", "objects with 'content' of text parts alone", _parts)
"""`{"content": [{"type": "text", "text": ...}]}`, as vLLM takes it."""
