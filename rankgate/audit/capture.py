"""How much of a call's texts its decision event holds: a budget, spent on the query first.

The texts come in as the engine will receive them, masked. A document that no longer fits is named by its length and
keyed digest, so that an auditor who has it can prove it was there. Digests do not count against the budget: they are
bounded by the limit on documents.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rankgate.audit.text import Digest, dump

__all__ = ["Capture", "CapturedText", "capture_texts"]


@dataclass(frozen=True, slots=True)
class CapturedText:
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


def capture_texts(
    mode: str,
    query: str,
    instruction: str | None,
    documents: Iterable[tuple[int, str]],
    budget: int,
    digest: Digest,
) -> Capture:
    """Capture masked texts within `budget` bytes, as rendered in the event.

    The query comes in full, then the instruction, then documents by position until one does not fit: that one and all
    after it are digests. A query larger than the budget is a digest as well, or it would be a way to fill the disk.
    """
    purse = _Purse(budget, digest)
    return Capture(
        mode=mode,
        query=purse.take(query),
        instruction=None if instruction is None else purse.take(instruction),
        documents=tuple((position, purse.take(text)) for position, text in documents),
    )


def _rendered_bytes(text: str, enough: int) -> int:
    """Return what `text` takes rendered; for one of more than `enough` characters any number beyond that."""
    if len(text) > enough:
        return len(text)
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return len(text) + 2
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
