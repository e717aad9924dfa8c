"""Which recognisers could find something in a text: one pass of google-re2 over all their triggers.

RE2's Set has no fallback: out of memory it reports no match at all. An empty pattern among the triggers, which
matches everything, tells that case apart from a clean text; then everything runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import re2

__all__ = ["Gate"]

_MEMORY = 64 << 20
# The highest risks have a gate of their own, beside the Set.
_DIGITS = re2.compile(r"(?:[0-9][^0-9A-Za-z]{0,3}){11}[0-9]")


class Gate:
    """A compiled set of named triggers. Names without a trigger always fire."""

    __slots__ = ("_always", "_at", "_digits", "_everything", "_names", "_set")

    def __init__(
        self, triggers: Mapping[int, Sequence[str]], *, at: Sequence[int] = (), digits: Sequence[int] = ()
    ) -> None:
        options = re2.Options()
        options.max_mem = _MEMORY
        options.log_errors = False
        self._set = re2.Set.SearchSet(options)
        self._set.Add("")
        self._names: list[int] = [-1]
        for name, patterns in triggers.items():
            for pattern in patterns:
                self._set.Add(pattern)
                self._names.append(name)
        self._set.Compile()
        self._everything = frozenset(triggers)
        self._always = frozenset(name for name, patterns in triggers.items() if not patterns)
        self._at = frozenset(at)
        self._digits = frozenset(digits)

    def fired(self, text: str) -> set[int] | frozenset[int]:
        """Return the names to run on `text`, which must hold no lone surrogate."""
        matched = self._set.Match(text)
        if 0 not in matched:
            return self._everything
        fired = {self._names[index] for index in matched}
        fired.discard(-1)
        fired |= self._always
        if self._at and "@" in text:
            fired |= self._at
        if self._digits and _DIGITS.search(text) is not None:
            fired |= self._digits
        return fired
