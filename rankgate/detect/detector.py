"""The detector: which sensitive data a text holds, and where."""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from rankgate.detect.cache import Cache
from rankgate.detect.decode import READINGS, Reading, tags
from rankgate.detect.finding import Finding, union
from rankgate.detect.gate import Gate
from rankgate.detect.numbers import in_number
from rankgate.detect.pace import Check, paced, unhurried
from rankgate.detect.recognizer import LONGEST, Recognizer
from rankgate.detect.registry import RULES, recognizers
from rankgate.detect.tokens import own_spans
from rankgate.detect.view import View, folded, plain, same
from rankgate.errors import GateError, Reason, SettingsError

__all__ = ["Detector"]

# A text is read in blocks, which bound what one step costs, and a block's plain text in windows.
_BLOCK = 98_304
_SHARED = 32_768
_WINDOW = 4096
_LEAD = 64
_OVERLAP = _LEAD + LONGEST + 64
_LEVELS = 2
# The shortest value of any type: "a@b.co", "::1" being too short to be anybody's.
_SHORTEST = 6
_RUN = re.compile(r"\S*+")


class Detector:
    """Finds data of the configured types in texts, object keys and numbers.

    `types` are those of every profile it serves: overlapping findings are merged under one type and keep the
    others in `also`, so a plan that masks fewer types masks all it names. Building one checks that every
    recogniser works: SettingsError for a type or region nobody knows, GateError(DETECTOR_UNAVAILABLE) for a
    recogniser that finds nothing. Methods raise GateError(DETECTOR_UNAVAILABLE) and nothing else of their own,
    whatever the text. Safe to share between threads.
    """

    def __init__(
        self,
        types: Iterable[str],
        *,
        phone_regions: Sequence[str],
        cache_bytes: int,
        extra: Sequence[Recognizer] = (),
    ) -> None:
        self.types = frozenset(types)
        known = (*recognizers(phone_regions), *extra)
        unknown = sorted(self.types - {name for recognizer in known for name in recognizer.types})
        if unknown:
            raise SettingsError(f"masking.profiles.types names {', '.join(unknown)}, which no recogniser finds")
        self._recognizers = tuple(one for one in known if self.types.intersection(one.types))
        names = ",".join((*sorted(self.types), "/", *phone_regions))
        self.revision = f"{RULES}-{hashlib.sha256(names.encode()).hexdigest()[:12]}"
        self._cache = Cache(cache_bytes)
        count = len(self._recognizers)
        self._readings = dict(enumerate(READINGS, start=count))
        triggers = [one.triggers for one in self._recognizers] + [one.triggers for one in READINGS]
        self._gate = Gate(
            dict(enumerate(triggers)),
            at=[index for index, one in enumerate(self._recognizers) if "EMAIL_ADDRESS" in one.types],
            digits=[index for index, one in enumerate(self._recognizers) if "CREDIT_CARD" in one.types],
        )
        self.self_test()

    def detect(self, text: str, *, cache: str = "", check: Check | None = None) -> tuple[Finding, ...]:
        """Return what `text` holds, sorted by start and free of overlaps.

        `cache` names the partition (the tenant) whose earlier results may be used; without one nothing is kept.
        `check` is called every few milliseconds of work; a GateError it raises ends the work and passes through.
        """
        found = self._cache.get(cache, text) if cache else None
        return found if found is not None else self._inspect(text, cache, check or unhurried)

    def detect_all(self, texts: Sequence[str], *, cache: str, check: Check) -> list[tuple[Finding, ...]]:
        """Return what `detect` would for each of `texts`; `check` is also called before each that is not remembered."""
        found = dict(zip(texts, self._cache.get_all(cache, texts), strict=True)) if cache else dict.fromkeys(texts)
        for text, known in found.items():
            if known is None:
                found[text] = self._inspect(text, cache, check)
        return [found[text] or () for text in texts]

    def unknown_chars(self, texts: Iterable[str], *, cache: str) -> int:
        """Return how many characters of `texts` are in texts whose findings are not remembered."""
        return self._cache.unknown_chars(cache, texts)

    @property
    def cached_bytes(self) -> int:
        """What the cache is accounted with, in bytes."""
        return self._cache.size

    @property
    def cache_hits(self) -> int:
        """Texts whose result was remembered."""
        return self._cache.hits

    @property
    def cache_misses(self) -> int:
        """Texts that had to be inspected although their results may be kept."""
        return self._cache.misses

    def detect_key(self, key: str) -> tuple[Finding, ...]:
        """Return what the object key `key` holds."""
        return self._detect(key, unhurried)

    def detect_number(self, literal: str, key: str) -> tuple[Finding, ...]:
        """Return what the JSON number written as `literal` under the object key `key` may be."""
        try:
            return union(finding for finding in in_number(literal, key) if finding.type in self.types)
        except Exception as error:  # noqa: BLE001  whatever breaks, nothing passes uninspected
            raise GateError(Reason.DETECTOR_UNAVAILABLE, type(error).__name__) from None

    def self_test(self) -> None:
        """Find every recogniser's positives, or raise GateError(DETECTOR_UNAVAILABLE) naming the type."""
        for index, recognizer in enumerate(self._recognizers):
            for name, text in recognizer.positives:
                if name not in self.types:
                    continue
                if index not in self._gate.fired(text) or all(one.type != name for one in recognizer.find(text)):
                    raise GateError(Reason.DETECTOR_UNAVAILABLE, f"self-test: the recogniser of {name} finds nothing")

    def _inspect(self, text: str, cache: str, check: Check) -> tuple[Finding, ...]:
        """Detect in a text that is not remembered, and remember it in `cache` where one is named."""
        check()
        found = self._detect(text, check)
        if cache:
            self._cache.put(cache, text, found)
        return found

    def _detect(self, text: str, check: Check) -> tuple[Finding, ...]:
        if len(text) < _SHORTEST:
            return ()
        try:
            found = union(paced(self._blocks(text, check), check))
            return _without_own(text, found) if found else found
        except GateError:
            raise
        except Exception as error:  # noqa: BLE001  whatever breaks, nothing passes uninspected
            raise GateError(Reason.DETECTOR_UNAVAILABLE, type(error).__name__) from None

    def _blocks(self, text: str, check: Check) -> Iterator[Finding]:
        """Yield what `text` holds, block by block, each with a part it shares with the next."""
        size = len(text)
        for start in range(0, max(size - _SHARED, 1), _BLOCK):
            block = text[start : start + _BLOCK + _SHARED]
            for one in self._scan(plain(block), _LEVELS, None, check):
                end = one.end
                if start and one.start < _LEAD and end <= _SHARED:
                    continue  # seen with the words before it in the block before
                if end == len(block) < size - start:
                    if one.start >= _BLOCK + _LEAD:
                        continue  # seen whole in the next block
                    # Longer than what two blocks share: over-mask rather than guess where it ends.
                    end = _RUN.match(text, start + end).end() - start  # type: ignore[union-attr]
                yield Finding(one.type, one.start + start, end + start, one.score) if start or end > one.end else one

    def _scan(self, source: View, levels: int, only: frozenset[str] | None, check: Check) -> Iterator[Finding]:
        """Yield what `source` and its readings hold, as spans of the original."""
        view = folded(source)
        if levels and not source.text.isascii():
            for reading in tags(source, check):
                yield from self._scan(reading, levels - 1, only, check)
        fired: set[int] = set()
        wanted = self.types if only is None else self.types & only
        moved = view.locate is not same
        for finding in self._find(view.text, fired, wanted, check):
            if finding.type in wanted:
                yield (
                    Finding(finding.type, *view.locate(finding.start, finding.end), finding.score) if moved else finding
                )
        for index in sorted(fired & self._readings.keys()):
            yield from self._read(self._readings[index], view, levels, only, check)

    def _read(
        self, reading: Reading, view: View, levels: int, only: frozenset[str] | None, check: Check
    ) -> Iterator[Finding]:
        if levels == 0:
            return
        allowed = reading.types if only is None else only if reading.types is None else only & reading.types
        for again in reading.read(view, check):
            if len(again.text) >= _SHORTEST:
                yield from self._scan(again, levels - 1, allowed, check)

    def _find(self, text: str, fired: set[int], wanted: frozenset[str], check: Check) -> Iterator[Finding]:
        """Yield findings in one folded text, window by window, of recognisers that may find one of `wanted`.

        Adds what fired anywhere to `fired`.
        """
        size = len(text)
        for start in range(0, max(size - _OVERLAP, 1), _WINDOW):
            check()
            window = text if size <= _WINDOW + _OVERLAP else text[start : start + _WINDOW + _OVERLAP]
            here = self._gate.fired(window)
            fired |= here
            last = start + len(window) == size
            for index in here:
                if index >= len(self._recognizers) or self._recognizers[index].long:
                    continue
                if wanted.isdisjoint(self._recognizers[index].types):
                    continue
                for one in self._recognizers[index].find(window, check):
                    # Seen whole, and with the words before it, in at least one of two neighbouring windows.
                    if (start == 0 or one.start >= _LEAD) and (last or one.end < len(window)):
                        yield Finding(one.type, one.start + start, one.end + start, one.score) if start else one
        for index in sorted(fired):
            long = index < len(self._recognizers) and self._recognizers[index].long
            if long and not wanted.isdisjoint(self._recognizers[index].types):
                yield from self._recognizers[index].find(text, check)


def _without_own(text: str, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Drop findings that lie within something masking wrote."""
    own = own_spans(text)
    if not own:
        return findings
    starts = [start for start, _ in own]

    def within(one: Finding) -> bool:
        index = bisect_right(starts, one.start) - 1
        return index >= 0 and one.end <= own[index][1]

    return tuple(one for one in findings if not within(one))
