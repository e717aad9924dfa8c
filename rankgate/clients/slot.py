"""Which process of a role this is."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Slot"]


@dataclass(frozen=True, slots=True)
class Slot:
    """One process of a filter: `role` and number name its socket and its log."""

    role: str
    number: int
