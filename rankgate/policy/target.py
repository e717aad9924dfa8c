"""The request target as a policy reads it: `parsed_path` and `parsed_query` of opa-envoy-plugin."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from rankgate.errors import GateError, Reason

__all__ = ["parse_path", "parse_query"]

_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def parse_path(path: str) -> list[str]:
    """Return the segments of `path`: percent-decoded first, all leading slashes dropped, then split.

    Decoding first makes `%2F` a separator, as in opa-envoy-plugin: Envoy refuses escaped slashes, so that policy
    and upstream agree. Never a URI parser: `//admin/x` must keep `admin`. Raises GateError(PATH_UNKNOWN).
    """
    return _decode(path, Reason.PATH_UNKNOWN).lstrip("/").split("/")


def parse_query(query: str) -> dict[str, list[str]]:
    """Return name -> values of a form-encoded query, values in order; raises GateError(QUERY_PARAMETER_REFUSED)."""
    parsed: dict[str, list[str]] = {}
    for pair in query.split("&"):
        if not pair:
            continue
        if ";" in pair:
            # Some servers split here, some do not; what is read differently is not passed on.
            raise GateError(Reason.QUERY_PARAMETER_REFUSED, "semicolon in the query")
        name, _, value = pair.replace("+", " ").partition("=")
        decoded = _decode(name, Reason.QUERY_PARAMETER_REFUSED)
        parsed.setdefault(decoded, []).append(_decode(value, Reason.QUERY_PARAMETER_REFUSED))
    return parsed


def _decode(text: str, reason: Reason) -> str:
    if "%" not in text:
        return text
    if _BROKEN_ESCAPE.search(text):
        raise GateError(reason, "broken percent escape")
    try:
        return unquote_to_bytes(text).decode("utf-8")
    except UnicodeError:
        raise GateError(reason, "percent escapes are not UTF-8") from None
