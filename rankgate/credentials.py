"""The upstream credential lent to one allowed request: Grant -> Lease."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

__all__ = ["MIN_CHARS", "Broker", "Grant", "Lease", "Secret", "contains", "fingerprint", "length"]

# A shorter one could be guessed, and would be found in ordinary text.
MIN_CHARS = 16
_CHARACTERS = {"t": rb"[A-Za-z0-9._~+/=-]", "v": rb"[\x21-\x7e]"}
_MARK = re.compile(r"([0-9]{1,5})([tv])([0-9a-f]{4}):([0-9a-f]{64})")
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
    """Return `<length><kind><sum>:<HMAC-SHA-256 hex>` of a credential: enough to find it in a text, not to learn it.

    The kind is `t` for the characters of a token (RFC 9110 section 11.2, token68), `v` for any visible ASCII. The sum
    is that of its bytes, 16 bits behind a pad that only the key gives: what differs in it need not be digested.
    """
    raw = credential.encode()
    kind = "t" if _TOKEN68.fullmatch(raw) else "v"
    digest = hmac.digest(key, raw, "sha256").hex()
    return f"{len(raw)}{kind}{(sum(raw) & 0xFFFF) ^ _pad(key, digest):04x}:{digest}"


def length(mark: str) -> int:
    """Return the length of the credential that `mark` is the fingerprint of; 0 where it is none."""
    read = _MARK.fullmatch(mark)
    return int(read[1]) if read else 0


def contains(key: bytes, mark: str, data: bytes) -> bool:
    """Tell whether any run of `data` is the credential that `mark` is the fingerprint of.

    A credential has at least MIN_CHARS characters of its kind, so ordinary text has no run that long and costs
    nothing; in a longer run every place is summed, and one in hundreds digested.
    """
    read = _MARK.fullmatch(mark)
    if read is None or (size := int(read[1])) < MIN_CHARS:
        return False
    characters, digest = _CHARACTERS[read[2]], read[4]
    wanted = int(read[3], 16) ^ _pad(key, digest)
    for run in re.finditer(rb"(?<!%b)%b{%d,}" % (characters, characters, size), data):
        sums = list(accumulate(run[0], initial=0))
        for start, (below, above) in enumerate(zip(sums, sums[size:], strict=False), start=run.start()):
            if (above - below) & 0xFFFF == wanted:
                found = hmac.digest(key, data[start : start + size], "sha256").hex()
                if hmac.compare_digest(found, digest):
                    return True
    return False


def _pad(key: bytes, digest: str) -> int:
    return int.from_bytes(hmac.digest(key, b"sum " + digest.encode("ascii"), "sha256")[:2], "big")
