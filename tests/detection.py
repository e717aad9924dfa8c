"""What detection finds in the corpus, as the table of docs/detection.md: `python tests/detection.py`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import corpus

from rankgate.detect import Detector
from rankgate.settings import STRUCTURED_TYPES

__all__ = ["REGIONS", "table"]

REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "IN")


def _found(detector: Detector, name: str, text: str, start: int, end: int) -> bool:
    """Return whether a finding of the type lies on the span."""
    return any(one.type == name and one.start < end and start < one.end for one in detector.detect(text))


def _split(detector: Detector, name: str, phrase: str, value: str) -> bool:
    """Return whether one of two neighbouring texts shows the half of a value it holds."""
    at = phrase.find(value) + len(value) // 2
    return any(one.type == name for part in (phrase[:at], phrase[at:]) for one in detector.detect(part))


def table(detector: Detector) -> Iterator[str]:
    """Yield the rows of the table: what, how many there are, how many of them are found."""
    types: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    for row in corpus.rows("plain"):
        for name, start, end in row.spans:
            types[name] += 1
            hits[name] += _found(detector, name, row.text, start, end)
    yield from (f"| {name} | {types[name]} | {hits[name]} |" for name in sorted(types))
    for kind in ("unicode", "encoded", "layout"):
        rows = corpus.rows(kind)
        found = sum(_found(detector, *row.spans[0][:1], row.text, *row.spans[0][1:]) for row in rows)
        yield f"| hidden: {kind} | {len(rows)} | {found} |"
    values = corpus.values()[::5]
    found = sum(_split(detector, *one) for one in values)
    yield f"| split over two neighbouring texts | {len(values)} | {found} |"
    negative = corpus.rows("negative")
    false = sum(bool(detector.detect(row.text)) for row in negative)
    yield f"| texts that only resemble something | {len(negative)} | {false} |"


def main() -> None:
    """Print the table."""
    detector = Detector(STRUCTURED_TYPES, phone_regions=REGIONS, cache_bytes=0)
    print("\n".join(table(detector)))


if __name__ == "__main__":
    main()
