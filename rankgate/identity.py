"""Who is calling: the machine identity a verified token stands for.

Reading order: `bearer` (header to unverified token), `keyset` (which keys are good), `claims` (every check and
the signature), and here what the claims say about the caller.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

from rankgate.bearer import read
from rankgate.claims import ClaimPath, Claims, IssuerTerms, UnknownKeyError, is_name, verify
from rankgate.errors import GateError, Reason

__all__ = ["Claims", "IssuerTerms", "Principal", "UnknownKeyError", "principal", "read", "verify"]

NAME_CHARS = 256
TENANT_CHARS = 128
LIST_ENTRIES = 256

_ABSENT: Final = object()


@dataclass(frozen=True, slots=True)
class Principal:
    """The verified caller of one request.

    `claims` are all verified claims, for the policy; shared between requests, so never changed. `expires` is in
    seconds since 1970. `bound` tells whether the caller proved possession of a key. Names hold no control
    characters, so they are safe in a log line.
    """

    issuer: str
    subject: str
    tenant: str
    groups: tuple[str, ...]
    scopes: tuple[str, ...]
    claims: dict[str, Any] = field(repr=False)
    expires: int
    token_id: str | None = None
    kind: Literal["service", "user"] = "service"
    bound: bool = False


def principal(claims: Claims, terms: IssuerTerms) -> Principal:
    """Map verified claims to a principal by the issuer's claim settings.

    Raises GateError(TOKEN_INVALID) where a mapped claim has the wrong type, is too long, holds unprintable
    characters, or (subject, tenant) is missing: a misread identity must not fall back to a wider one.
    """
    payload = claims.payload
    if terms.tenant is None:
        tenant = terms.default_tenant
    else:
        tenant = _name(_find(payload, terms.tenant), TENANT_CHARS, "tenant")
    return Principal(
        issuer=claims.issuer,
        subject=_name(_find(payload, terms.subject), NAME_CHARS, "subject"),
        tenant=tenant,
        groups=_names(_find(payload, terms.groups), "groups"),
        scopes=_scopes(_find(payload, terms.scopes)),
        claims=payload,
        expires=claims.expires,
        token_id=claims.token_id,
        kind="user" if _names_a_person(payload) else "service",
    )


def _names_a_person(payload: dict[str, Any]) -> bool:
    """Tell whether a person logged in for this token: `auth_time`, `amr` (OIDC Core 1.0 section 2), `idtyp` (Entra)."""
    return payload.get("idtyp") == "user" or bool(payload.get("auth_time") or payload.get("amr"))


def _find(payload: dict[str, Any], path: ClaimPath) -> Any:
    value: Any = payload
    for name in path:
        if not isinstance(value, dict):
            raise _refused("claim type")
        value = value.get(name, _ABSENT)
        if value is _ABSENT:
            break
    return value


def _name(value: Any, limit: int, what: str) -> str:
    if not is_name(value, limit):
        raise _refused(what)
    return value


def _names(value: Any, what: str) -> tuple[str, ...]:
    if value is _ABSENT:
        return ()
    if not isinstance(value, list) or len(value) > LIST_ENTRIES:
        raise _refused(what)
    return tuple(_name(entry, NAME_CHARS, what) for entry in value)


def _scopes(value: Any) -> tuple[str, ...]:
    # RFC 8693 section 4.2: one string, scopes separated by spaces; some issuers send a list.
    if isinstance(value, str):
        value = value.split(" ") if value else []
    return _names(value, "scopes")


def _refused(why: str) -> GateError:
    return GateError(Reason.TOKEN_INVALID, why)
