"""The one interface of everything that finds sensitive data, and its commonest form: a pattern and a check."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from rankgate.detect.finding import Finding
from rankgate.detect.pace import Check, paced, unhurried

__all__ = ["LONGEST", "Accept", "Recognizer", "Rule", "whole"]

LONGEST = 384
Accept = Callable[[re.Match[str]], tuple[int, int] | None]


class Recognizer(Protocol):
    """Finds data of its `types` in folded text.

    `triggers` are RE2 patterns, short and weak: `find` runs only where one of them matches, everywhere if there
    are none. A value longer than LONGEST characters needs `long`, which hands over the whole text instead of
    windows of it. `positives` are (type, text) pairs that must be found, checked at start. `find` must take time
    linear in the text, whatever it holds.
    """

    @property
    def types(self) -> tuple[str, ...]:
        """Every type `find` may yield."""
        ...

    @property
    def triggers(self) -> tuple[str, ...]:
        """RE2 patterns, one of which matches wherever `find` could yield."""
        ...

    @property
    def long(self) -> bool:
        """Whether a value may exceed LONGEST characters."""
        ...

    @property
    def positives(self) -> tuple[tuple[str, str], ...]:
        """(type, text) pairs that must be found."""
        ...

    def find(self, text: str, check: Check = ...) -> Iterable[Finding]:
        """Yield findings in `text`; they may overlap. A loop over a whole text calls `check` every few milliseconds."""
        ...


def whole(match: re.Match[str]) -> tuple[int, int]:
    """Accept the whole match."""
    return match.span()


@dataclass(frozen=True, slots=True)
class Rule:
    """A recogniser made of one pattern and a function that narrows or refuses a match."""

    type: str
    triggers: tuple[str, ...]
    pattern: re.Pattern[str]
    examples: tuple[str, ...]
    accept: Accept = whole
    score: float = 0.95
    long: bool = False

    @property
    def types(self) -> tuple[str, ...]:
        """The one type."""
        return (self.type,)

    @property
    def positives(self) -> tuple[tuple[str, str], ...]:
        """The examples, each of the one type."""
        return tuple((self.type, example) for example in self.examples)

    def find(self, text: str, check: Check = unhurried) -> Iterator[Finding]:
        """Yield every match that is accepted."""
        for match in paced(self.pattern.finditer(text), check):
            span = self.accept(match)
            if span is not None:
                yield Finding(self.type, span[0], span[1], self.score)
