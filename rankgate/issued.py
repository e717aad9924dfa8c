"""What a token endpoint answers to a token exchange: its JSON -> a token that may be lent, and for how long."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from rankgate.credentials import Secret
from rankgate.strict import MalformedError, base64url, json_object

__all__ = ["ACCESS_TOKEN", "GRANT", "Issued", "UnfitError", "error_word", "read_issued"]

# RFC 8693 sections 2.1 and 3.
GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - the name of a kind
# RFC 6749 section 5.2, RFC 8693 section 2.2.2.
_ERRORS = frozenset({
    "invalid_client", "invalid_grant", "invalid_request", "invalid_scope", "invalid_target", "unauthorized_client",
    "unsupported_grant_type",
})  # fmt: skip
_JSON_DEPTH = 16
_JWT_PARTS = 3


class UnfitError(Exception):
    """An answer whose token must not be lent, with the word for why."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A token as it was issued. It ends at `expires`, in seconds since 1970; None where the endpoint does not say."""

    token: Secret
    expires: float | None


def read_issued(document: bytes, subject: Secret, scopes: Collection[str], now: float) -> Issued:
    """Read a successful answer (RFC 8693 section 2.2.1) to a request made at `now`, in seconds since 1970.

    `subject` is the token that was exchanged and `scopes` what was asked for. Raises UnfitError: not such an answer,
    no bearer access token, ended, with a scope that was not asked for, or the caller's own token given back.
    """
    try:
        answer = json_object(document, depth=_JSON_DEPTH)
    except MalformedError:
        raise UnfitError("malformed") from None
    token, kind, life, granted = (answer.get(n) for n in ("access_token", "token_type", "expires_in", "scope"))
    if not isinstance(token, str) or not isinstance(kind, str):
        raise UnfitError("malformed")
    if answer.get("issued_token_type") != ACCESS_TOKEN:
        raise UnfitError("issued_token_type")
    # `N_A` says that it is no access token (section 2.2.1); any other type wants a proof that we could not give.
    if kind.lower() != "bearer":
        raise UnfitError("token_type")
    if token == subject.reveal():
        raise UnfitError("same token")
    if life is not None and (not isinstance(life, int) or isinstance(life, bool)):
        raise UnfitError("malformed")
    if granted is not None and not isinstance(granted, str):
        raise UnfitError("malformed")
    # Left out, it is what was asked for (RFC 6749 section 5.1).
    if scopes and granted is not None and not set(granted.split()) <= set(scopes):
        raise UnfitError("scope")
    ends = [end for end in (None if life is None else now + life, _own_end(token)) if end is not None]
    expires = min(ends, default=None)
    if expires is not None and expires <= now:
        raise UnfitError("expired")
    return Issued(Secret(token), expires)


def error_word(document: bytes) -> str:
    """Return the error that an answer names (RFC 6749 section 5.2), where it is a known one; else an empty text."""
    try:
        word = json_object(document, depth=_JSON_DEPTH).get("error")
    except MalformedError:
        return ""
    return word if isinstance(word, str) and word in _ERRORS else ""


def _own_end(token: str) -> float | None:
    """Return the `exp` of a token that is a JWT. Nothing is verified: the endpoint is who we asked."""
    parts = token.split(".")
    if len(parts) != _JWT_PARTS:
        return None
    try:
        end: Any = json_object(base64url(parts[1]), depth=_JSON_DEPTH).get("exp")
    except MalformedError:
        return None
    return end if isinstance(end, int | float) and not isinstance(end, bool) else None
