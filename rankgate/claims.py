"""From an unverified token to verified claims: one issuer's terms, every check spelled out, one signature.

python-jose answers a single question here, whether one prebuilt key made this signature with this one
algorithm. Its own claim checks are not used: they accept a missing `exp`, strings for times, and `exp == now`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Self, TypeGuard

from rankgate.bearer import UnverifiedToken
from rankgate.errors import GateError, Reason, SettingsError
from rankgate.keyset import KeySet
from rankgate.settings import IssuerSettings

__all__ = ["ClaimPath", "Claims", "IssuerTerms", "UnknownKeyError", "check_times", "is_name", "signed_with", "verify"]

SUBJECT_CHARS = 256
TOKEN_ID_CHARS = 256

# What only an ID token (OIDC Core 1.0 sections 2 and 3.3.2.11), a logout token or another security event
# token (OIDC Back-Channel Logout 1.0 section 2.4, RFC 8417) carries. A logout token without `sub` fails anyway.
_FOREIGN_CLAIMS = frozenset({"nonce", "at_hash", "c_hash", "s_hash", "events"})
# Claims by which issuers name the kind of token: `typ` (Keycloak: Bearer, ID, Refresh, Logout) and
# `token_use` (Amazon Cognito: access, id). Any other value is not an access token.
_KIND_CLAIMS = {"typ": frozenset({"bearer", "at+jwt"}), "token_use": frozenset({"access"})}

ClaimPath = tuple[str, ...]


class UnknownKeyError(GateError):
    """The token is fine so far, but no key of its id is known: the issuer may have rotated its keys."""

    def __init__(self) -> None:
        super().__init__(Reason.TOKEN_INVALID, "key unknown")


@dataclass(frozen=True, slots=True)
class IssuerTerms:
    """On what terms one issuer's tokens are accepted: its settings, checked and ready for use.

    `revision` changes with any setting of the issuer; times are in seconds.
    """

    issuer: str
    audiences: frozenset[str]
    algorithms: frozenset[str]
    types: frozenset[str]
    leeway_s: int
    max_lifetime_s: int
    default_tenant: str
    subject: ClaimPath
    tenant: ClaimPath | None
    groups: ClaimPath
    scopes: ClaimPath
    revision: str

    @classmethod
    def of(cls, settings: IssuerSettings) -> Self:
        """Build the terms; raises SettingsError for a claim path that names nothing."""
        claims = settings.claims
        return cls(
            issuer=settings.issuer,
            audiences=frozenset(settings.audiences),
            algorithms=frozenset(settings.algorithms),
            types=frozenset(_media_type(kind) for kind in settings.typ),
            leeway_s=settings.leeway_s,
            max_lifetime_s=settings.max_lifetime_s,
            default_tenant=settings.tenant,
            subject=_path("subject", claims.subject),
            tenant=None if claims.tenant is None else _path("tenant", claims.tenant),
            groups=_path("groups", claims.groups),
            scopes=_path("scopes", claims.scopes),
            revision=hashlib.sha256(settings.model_dump_json().encode()).hexdigest(),
        )

    def accepted_audiences(self, route: tuple[str, ...]) -> frozenset[str]:
        """Return the audiences good for this issuer on a route: the route's own narrow the issuer's."""
        return self.audiences.intersection(route) if route else self.audiences


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a verified token. Nothing but `verify` makes one."""

    payload: dict[str, Any] = field(repr=False)
    issuer: str
    expires: int
    token_id: str | None
    key_thumbprint: str


def verify(token: UnverifiedToken, keys: KeySet, terms: IssuerTerms, audiences: tuple[str, ...], now: float) -> Claims:
    """Verify a token of the issuer of `terms` at `now` (seconds since 1970) and return its claims.

    `audiences` are the route's; empty means the issuer's. Raises GateError(TOKEN_INVALID), as UnknownKeyError where
    a fresher key set might help: the signature comes last, so a token that is hopeless anyway causes no fetch.
    """
    _check_header(token, terms)
    payload = token.payload
    if token.issuer != terms.issuer:
        raise _refused("issuer")
    _check_kind(payload)
    expires = check_times(payload, leeway_s=terms.leeway_s, max_lifetime_s=terms.max_lifetime_s, now=now)
    _check_audience(payload, terms.accepted_audiences(audiences))
    if not is_name(payload.get("sub"), SUBJECT_CHARS):
        raise _refused("subject")
    token_id = payload.get("jti")
    if "jti" in payload and not is_name(token_id, TOKEN_ID_CHARS):
        raise _refused("token id")

    thumbprint = signed_with(token, keys)
    return Claims(
        payload=payload,
        issuer=terms.issuer,
        expires=expires,
        token_id=token_id,
        key_thumbprint=thumbprint,
    )


def signed_with(token: UnverifiedToken, keys: KeySet) -> str:
    """Return the thumbprint of the key of `keys` that signed `token`.

    Raises GateError(TOKEN_INVALID), as UnknownKeyError where a fresher set might hold the key.
    """
    if token.key_id is not None and not keys.knows(token.key_id):
        raise UnknownKeyError
    key = keys.select(token.key_id, token.algorithm)
    if key is None:
        raise _refused("key")
    if not key.verifies(token.algorithm, token.signing_input, token.signature):
        raise _refused("signature")
    return key.thumbprint


def check_times(payload: dict[str, Any], *, leeway_s: int, max_lifetime_s: int, now: float) -> int:
    """Return `exp` of a token that is good at `now`: begun, not over, not longer than accepted; else GateError."""
    expires, issued = _time(payload, "exp"), _time(payload, "iat")
    not_before = _time(payload, "nbf") if "nbf" in payload else issued
    if not expires > now - leeway_s:
        raise _refused("expired")
    if not max(issued, not_before) <= now + leeway_s:
        raise _refused("not yet valid")
    if not 0 < expires - issued <= max_lifetime_s:
        raise _refused("lifetime")
    return expires


def is_name(value: Any, limit: int) -> TypeGuard[str]:
    """Tell whether `value` is a text of 1 to `limit` characters that is safe in a log line.

    Unprintable are control characters, line separators, bidirectional marks and surrogates.
    """
    return isinstance(value, str) and 0 < len(value) <= limit and value.isprintable()


def _check_header(token: UnverifiedToken, terms: IssuerTerms) -> None:
    if token.algorithm not in terms.algorithms:
        raise _refused("algorithm")
    kind = token.header.get("typ", "")
    if not isinstance(kind, str) or _media_type(kind) not in terms.types:
        raise _refused("type")


def _media_type(kind: str) -> str:
    # RFC 7515 section 4.1.9: case-insensitive, and "application/" may be left out.
    return kind.lower().removeprefix("application/")


def _check_kind(payload: dict[str, Any]) -> None:
    if not _FOREIGN_CLAIMS.isdisjoint(payload):
        raise _refused("kind")
    for name, accepted in _KIND_CLAIMS.items():
        if name not in payload:
            continue
        value = payload[name]
        if not isinstance(value, str) or value.lower() not in accepted:
            raise _refused("kind")


def _time(payload: dict[str, Any], name: str) -> int:
    value = payload.get(name)
    # `type`, not `isinstance`: True is an int to the latter. Floats are refused too.
    if type(value) is not int or value < 0:
        raise _refused(name)
    return value


def _check_audience(payload: dict[str, Any], accepted: frozenset[str]) -> None:
    audience = payload.get("aud")
    members = audience if isinstance(audience, list) else [audience]
    if not all(isinstance(member, str) for member in members) or accepted.isdisjoint(members):
        raise _refused("audience")


def _path(name: str, text: str) -> ClaimPath:
    parts, part, letters = [], "", iter(text)
    for letter in letters:
        if letter == ".":
            parts.append(part)
            part = ""
        elif letter == "\\":
            escaped = next(letters, "")
            if escaped not in {".", "\\"}:
                raise SettingsError(f"issuers.claims.{name} has a stray backslash; write \\. for a dot in a name")
            part += escaped
        else:
            part += letter
    parts.append(part)
    if not all(parts):
        raise SettingsError(f"issuers.claims.{name} has an empty part; write \\. for a dot in a claim's name")
    return tuple(parts)


def _refused(why: str) -> GateError:
    return GateError(Reason.TOKEN_INVALID, why)
