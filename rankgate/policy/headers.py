"""Which headers a policy never sees and which it may never touch."""

from __future__ import annotations

import re
from functools import lru_cache

from rankgate.settings.headers import RESERVED_HEADERS, RESERVED_PREFIXES

__all__ = ["HEADER_VALUE", "is_secret", "is_untouchable"]

# What may travel in a header value (RFC 9110 section 5.5, without obs-text).
HEADER_VALUE = re.compile(r"[\x20-\x7e\t]*")

_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,128}")
_SECRET = re.compile(
    r"authorization|proxy-authorization|cookie|dpop"
    r"|.*api[-_]?key.*|.*auth[-_]token|.*security[-_]token|.*subscription[-_]key|x-amz-.*token"
)
_UNTOUCHABLE = re.compile(
    r"host|content-.*|transfer-encoding|connection|proxy-connection|keep-alive|te|trailer|upgrade|expect"
    r"|http2-settings|grpc-.*|x-forwarded-.*"
)


def is_secret(name: str) -> bool:
    """Tell whether the header `name` (lower case) carries a credential and stays out of the question."""
    # Callers choose names: what is remembered of them stays small.
    return _is_secret(name) if len(name) <= 64 else _is_secret.__wrapped__(name)


@lru_cache(maxsize=512)
def _is_secret(name: str) -> bool:
    return _SECRET.fullmatch(_plain(name)) is not None


def is_untouchable(name: str, credential_header: str) -> bool:
    """Tell whether a policy may not set or remove the header `name` (lower case).

    True for what is no header name at all (RFC 9110 section 5.6.2; pseudo-headers among them), for credentials,
    for what frames or routes the message, for the gate's and Envoy's own, and for every name that Envoy takes from
    callers because servers believe it.
    """
    plain = _plain(name)
    return (
        _NAME.fullmatch(name) is None
        or plain == _plain(credential_header.lower())
        or is_secret(plain)
        or plain in RESERVED_HEADERS
        or plain.startswith(RESERVED_PREFIXES)
        or _UNTOUCHABLE.fullmatch(plain) is not None
    )


def _plain(name: str) -> str:
    # CGI and WSGI servers read both as one name (RFC 3875 section 4.1.18).
    return name.replace("_", "-")
