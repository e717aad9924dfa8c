"""Who is at the console: a person as the login's issuer named them, and what they may do beyond voting."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum

from rankgate.approvals import Voter

__all__ = ["Person", "Role", "roles_of", "shown"]


class Role(StrEnum):
    """A right that no approval names. Approvers need none: they see and vote on what names a group of theirs."""

    VIEW = "view"
    """See everything."""
    OPERATE = "operate"
    """See everything; cancel, revoke, close reviews."""


@dataclass(frozen=True, slots=True)
class Person:
    """A person of whom the issuer said, `logged_in_ms` ago in milliseconds since the epoch, that they are there.

    `csrf` is what every form of the session must bring back; empty for a token at the API.
    """

    voter: Voter
    roles: frozenset[Role]
    logged_in_ms: int
    csrf: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """Return the name to show."""
        return shown(self.voter)

    @property
    def may_view(self) -> bool:
        """Tell whether the person sees what names none of their groups."""
        return bool(self.roles)

    @property
    def may_operate(self) -> bool:
        """Tell whether the person may cancel, revoke and close reviews."""
        return Role.OPERATE in self.roles


def shown(voter: Voter) -> str:
    """Return the name of a voter that people read."""
    return voter.names[0] if voter.names else voter.subject


def roles_of(groups: Collection[str], *, view: Collection[str], operate: Collection[str]) -> frozenset[Role]:
    """Return the roles that membership in `groups` gives."""
    given = ((Role.VIEW, view), (Role.OPERATE, operate))
    return frozenset(role for role, named in given if set(groups) & set(named))
