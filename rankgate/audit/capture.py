"""How much of a call's texts its decision event holds: a budget, spent on the query first.

The texts come in as the engine will receive them, masked. A document that no longer fits is named by its length and
keyed digest, so that an auditor who has it can prove it was there. Digests do not count against the budget: they are
bounded by the limit on documents. The policy's question is kept whole or not at all, before the documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from rankgate.audit.text import Digest, dump

__all__ = ["Capture", "CapturedText", "StoredQuestion", "capture_texts", "store_question"]


# A tuple, not a dataclass: one is made for every document, at a third of the cost.
class CapturedText(NamedTuple):
    """One text, or where `text` is None its keyed digest. `length` is in characters."""

    length: int
    text: str | None = None
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Capture:
    """The texts of one call; `documents` holds (original position, text) in the order given."""

    mode: str
    query: CapturedText | None = None
    instruction: CapturedText | None = None
    documents: tuple[tuple[int, CapturedText], ...] = ()

    @property
    def complete(self) -> bool:
        """Tell whether every text is here, so that the call can be decided again."""
        texts = (self.query, self.instruction, *(text for _, text in self.documents))
        return all(text is None or text.text is not None for text in texts)


@dataclass(frozen=True, slots=True)
class StoredQuestion:
    """The policy's question: `input` is its JSON, empty where it is not held.

    `exact`: the very text that was asked, so that the same policy rules the same on it. Else `why` tells in words of
    rankgate.policy.storing what was changed or left out, or that the budget did not take it.
    """

    input: bytes = b""
    exact: bool = False
    why: tuple[str, ...] = ()


def store_question(text: str, why: Sequence[str], budget: int, first: Sequence[str | None]) -> StoredQuestion:
    """Return the question `text`, safe to store, where it fits into `budget` bytes beside the texts of `first`.

    `why` tells what differs in it from what was asked, in words of rankgate.policy.storing.
    """
    spoken_for = sum(len(dump(one)) for one in first if one is not None)
    data = dump(msgspec.Raw(text.encode()))
    if len(data) + spoken_for > budget:
        return StoredQuestion(why=(*why, "budget"))
    return StoredQuestion(data, exact=not why, why=tuple(why))


def capture_texts(
    mode: str,
    query: str,
    instruction: str | None,
    documents: Sequence[tuple[int, str]],
    budget: int,
    digest: Digest,
) -> Capture:
    """Capture masked texts within `budget` bytes, as rendered in the event.

    The query comes in full, then the instruction, then documents by position until one does not fit: that one and all
    after it are digests. A query larger than the budget is a digest as well, or it would be a way to fill the disk.
    """
    every = [query, *([] if instruction is None else [instruction]), *(text for _, text in documents)]
    # An array's brackets and commas are one byte more than its texts.
    fits = sum(map(len, every)) <= budget and len(dump(every)) - len(every) - 1 <= budget
    take = _whole if fits else _Purse(budget, digest).take
    return Capture(
        mode=mode,
        query=take(query),
        instruction=None if instruction is None else take(instruction),
        documents=tuple([(position, take(text)) for position, text in documents]),
    )


def _whole(text: str) -> CapturedText:
    return CapturedText(len(text), text)


def _rendered_bytes(text: str, enough: int) -> int:
    """Return what `text` takes rendered; for one of more than `enough` characters any number beyond that."""
    if len(text) > enough:
        return len(text)
    return len(dump(text))


class _Purse:
    """The budget left. Once a text did not fit it is closed, so that what is captured is a prefix."""

    def __init__(self, budget: int, digest: Digest) -> None:
        self._left = budget
        self._digest = digest

    def take(self, text: str) -> CapturedText:
        cost = _rendered_bytes(text, self._left)
        if cost > self._left:
            self._left = -1
            return CapturedText(len(text), digest=self._digest(text.encode("utf-8", "surrogatepass")))
        self._left -= cost
        return CapturedText(len(text), text=text)
