"""The upstream credential lent to one allowed request: Grant -> Lease."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

__all__ = ["MIN_CHARS", "Broker", "Grant", "Lease", "Secret", "contains", "fingerprint", "length"]

# A shorter one could be guessed, and would be found in ordinary text.
MIN_CHARS = 16
_CHARACTERS = {"t": rb"[A-Za-z0-9._~+/=-]", "v": rb"[\x21-\x7e]"}
_TOKEN68 = re.compile(rb"%b+" % _CHARACTERS["t"])


class Secret:
    """A value that no text form shows; `reveal()` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value, for the one place that sends it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__


@dataclass(frozen=True, slots=True)
class Grant:
    """For which allowed request a credential is asked."""

    decision_id: str
    subject: str
    tenant: str
    route: str
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """A credential in the header that carries it. `fingerprint` recognises it without holding it."""

    header: str
    value: Secret
    fingerprint: str


class Broker(Protocol):
    """Lends upstream credentials; raises GateError(CREDENTIAL_UNAVAILABLE)."""

    async def lease(self, grant: Grant) -> Lease | None:
        """Return a lease, or None where the reranker needs no credential."""
        ...


def fingerprint(key: bytes, credential: str) -> str:
    """Return `<length><kind>:<HMAC-SHA-256 hex>` of a credential: enough to find it in a text, not to learn it.

    The kind is `t` for the characters of a token (RFC 9110 section 11.2, token68), `v` for any visible ASCII.
    """
    raw = credential.encode()
    kind = "t" if _TOKEN68.fullmatch(raw) else "v"
    return f"{len(raw)}{kind}:{hmac.new(key, raw, sha256).hexdigest()}"


def length(mark: str) -> int:
    """Return the length of the credential that `mark` is the fingerprint of; 0 where it is none."""
    digits = mark.partition(":")[0][:-1]
    return int(digits) if digits.isdigit() else 0


def contains(key: bytes, mark: str, data: bytes) -> bool:
    """Tell whether any run of `data` is the credential that `mark` is the fingerprint of.

    A credential has at least MIN_CHARS characters of its kind, so ordinary text has no run that long and costs
    nothing; a run of n characters costs up to n HMACs, which callers bound.
    """
    head, _, digest = mark.partition(":")
    size, kind = length(mark), head[-1:]
    if size < MIN_CHARS or kind not in _CHARACTERS:
        return False
    expected = bytes.fromhex(digest)
    return any(
        hmac.digest(key, data[start : start + size], "sha256") == expected
        for run in re.finditer(rb"(?<!%b)%b{%d,}" % (_CHARACTERS[kind], _CHARACTERS[kind], size), data)
        for start in range(run.start(), run.end() - size + 1)
    )
