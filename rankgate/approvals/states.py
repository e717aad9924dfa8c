"""The life of an approval, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

__all__ = ["OPEN", "State", "may_become"]


class State(StrEnum):
    """Where an approval stands."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    CONSUMED = "consumed"


# A refusal counts until the approval is used, also after others agreed.
_NEXT: Final[Mapping[State, frozenset[State]]] = MappingProxyType(
    {
        State.PENDING: frozenset({State.APPROVED, State.DENIED, State.EXPIRED, State.CANCELLED}),
        State.APPROVED: frozenset({State.CONSUMED, State.PENDING, State.DENIED, State.EXPIRED, State.CANCELLED}),
        State.DENIED: frozenset(),
        State.EXPIRED: frozenset(),
        State.CANCELLED: frozenset(),
        State.CONSUMED: frozenset(),
    }
)

OPEN: Final = frozenset(state for state, after in _NEXT.items() if after)
"""The states from which something can still become of an approval."""


def may_become(state: State, after: State) -> bool:
    """Tell whether an approval in `state` may go to `after`. Back to pending: a vote was withdrawn or revoked."""
    return after in _NEXT[state]
