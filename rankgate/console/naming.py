"""From verified claims to a person: the same for a login and for a token at the API."""

from __future__ import annotations

from typing import Any

from rankgate.approvals import Voter
from rankgate.claims import is_name
from rankgate.console.people import Person, roles_of
from rankgate.console.refusals import Refusal, RefusedError
from rankgate.console.settings import LoginSettings, RoleSettings

__all__ = ["authenticated_at", "person_from", "strong_enough"]

NAME_CHARS = 256
GROUPS = 1024


def person_from(claims: dict[str, Any], login: LoginSettings, roles: RoleSettings, csrf: str = "") -> Person:
    """Return the person that verified `claims` of the login's issuer name.

    Raises RefusedError(NO_PERSON) where what tells people apart is missing, or a claim is not what it must be: a
    person who is misread might be somebody else.
    """
    subject = claims.get("sub")
    if not is_name(subject, NAME_CHARS):
        raise RefusedError(Refusal.NO_PERSON)
    groups = _groups(claims, login.groups)
    voter = Voter(login.issuer, subject, _person(claims, subject, login), _names(claims, login.name_claims), groups)
    given = roles_of(groups, view=roles.view, operate=roles.operate)
    return Person(voter, given, 1000 * authenticated_at(claims), csrf)


def authenticated_at(claims: dict[str, Any]) -> int:
    """Return when the person proved who they are, in seconds since the epoch: `auth_time`, else when it was said."""
    issued = claims["iat"]
    at = claims.get("auth_time", issued)
    if type(at) is not int or at < 0:
        raise RefusedError(Refusal.NO_PERSON)
    # Nobody proves anything after the token was made; a later time would keep a login fresh for ever.
    return int(min(at, issued))


def strong_enough(claims: dict[str, Any], login: LoginSettings) -> bool:
    """Tell whether the login was of an accepted kind (`acr`, OIDC Core 1.0 section 2)."""
    return not login.acr_values or claims.get("acr") in login.acr_values


def _person(claims: dict[str, Any], subject: str, login: LoginSettings) -> str:
    if login.person_claim is None:
        return f"{login.issuer} {subject}"
    named = claims.get(login.person_claim)
    if not is_name(named, NAME_CHARS):
        raise RefusedError(Refusal.NO_PERSON)
    return named


def _names(claims: dict[str, Any], wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names in lower case, those that are only claimed last: the first one is shown."""
    sure: list[str] = []
    claimed: list[str] = []
    for name in wanted:
        value = claims.get(name)
        if value is None:
            continue
        if not is_name(value, NAME_CHARS):
            raise RefusedError(Refusal.NO_PERSON)
        unsure = name == "email" and claims.get("email_verified") in (False, "false")
        (claimed if unsure else sure).append(value.lower())
    return tuple(dict.fromkeys([*sure, *claimed]))


def _groups(claims: dict[str, Any], path: str) -> tuple[str, ...]:
    value: Any = claims
    # As in a gate's settings: dots divide nested members, `\\.` is a dot.
    for part in path.replace("\\.", "\0").split("."):
        value = value.get(part.replace("\0", ".")) if isinstance(value, dict) else None
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > GROUPS or not all(is_name(one, NAME_CHARS) for one in value):
        raise RefusedError(Refusal.NO_PERSON)
    return tuple(value)
