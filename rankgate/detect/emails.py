"""E-mail addresses, plain and spelled out ("name [at] example [dot] com").

Found from the `@` outwards, so that a text without one costs nothing and none makes a pattern backtrack.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rankgate.detect.context import Nearby, Words
from rankgate.detect.finding import Finding
from rankgate.detect.pace import Check, paced, unhurried

__all__ = ["Emails"]

_LOCAL = 64
_SIGN = re.compile("@")
_DOT = r"(?:\.|\s{0,2}[\[({<]\s?(?:dot|\.|punto|punkt|point)\s?[\])}>]\s{0,2}|\s{1,2}dot\s{1,2})"
_DOMAIN = re.compile(
    rf"[^\W_][\w\-]{{0,62}}(?:{_DOT}[\w\-]{{1,63}}){{0,7}}{_DOT}(?:xn--[a-z0-9\-]{{2,59}}|[^\W\d_]{{2,24}})"
    r"|\[(?:[0-9]{1,3}\.){3}[0-9]{1,3}\]",
    re.IGNORECASE,
)
_BRACKETED = re.compile(r"\s{0,2}[\[({<]\s?(?:at|@|arroba)\s?[\])}>]\s{0,2}", re.IGNORECASE)
_SPOKEN = re.compile(r"\s{1,2}at\s{1,2}(?=[\w\-]{1,63}\s{1,2}dot\s)", re.IGNORECASE)
_LEFT = re.compile(r"[\w.+%'\-]{1,64}")
_PICTURE = re.compile(r"[0-9]x\.(?:png|jpe?g|gif|webp|svg)$", re.IGNORECASE)
_WORDS = Words(r"mail|contact|reach|write|address|correo|courriel")


class Emails:
    """The recogniser of e-mail addresses."""

    types = ("EMAIL_ADDRESS",)
    triggers = ("@", r"(?i)[\[({<]\s?(?:at|arroba)\s?[\])}>]", r"(?i)\sat\s{1,2}[\w\-]{1,63}\s{1,2}dot\s")
    long = False
    positives = (
        ("EMAIL_ADDRESS", "write to jane.roe@example.org today"),
        ("EMAIL_ADDRESS", "jane [at] example [dot] org"),
        ("EMAIL_ADDRESS", "mail jane at example dot org"),
    )

    def find(self, text: str, check: Check = unhurried) -> Iterator[Finding]:
        """Yield every address."""
        for sign in paced(_SIGN.finditer(text), check):
            yield from _around(text, *sign.span(), 1.0)
        low = text.lower()
        if "at" not in low and "(@" not in low and "[@" not in low:
            return
        for join in _BRACKETED.finditer(text):
            yield from _around(text, *join.span(), 0.9)
        if "dot" in low:
            nearby = Nearby(text)
            for join in _SPOKEN.finditer(text):
                for finding in _around(text, *join.span(), 0.8):
                    if _joins_address(text, nearby, finding.start, join.start()):
                        yield finding


def _around(text: str, start: int, end: int, score: float) -> Iterator[Finding]:
    """Yield the address whose local part ends at `start` and whose domain begins at `end`."""
    domain = _DOMAIN.match(text, end)
    if domain is None or _PICTURE.search(domain.group()):
        return
    first = _local(text, start)
    if first is not None:
        yield Finding("EMAIL_ADDRESS", first, domain.end(), score)


def _local(text: str, end: int) -> int | None:
    """Return where the local part that ends at `end` starts."""
    if text[end - 1 : end] == '"':
        quote = text.rfind('"', max(0, end - _LOCAL), end - 1)
        if quote >= 0 and "\n" not in text[quote:end]:
            return quote
    left = _LEFT.match(text[max(0, end - _LOCAL) : end][::-1])
    if left is None:
        return None
    local = left.group()[::-1].lstrip(".'+%-")
    return end - len(local) if local else None


def _joins_address(text: str, nearby: Nearby, start: int, end: int) -> bool:
    """Return whether a bare "at" joins an address rather than two words of a sentence."""
    return any(not character.isalpha() for character in text[start:end]) or nearby.just_before(_WORDS, start, 48)
