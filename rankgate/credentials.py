"""The upstream credential lent to one allowed request: Grant -> Lease."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

__all__ = ["MIN_CHARS", "Broker", "Grant", "Lease", "Secret", "contains", "fingerprint", "length"]

# A shorter one could be guessed, and would be found in ordinary text.
MIN_CHARS = 16
_CHARACTERS = {"t": rb"[A-Za-z0-9._~+/=-]", "v": rb"[\x21-\x7e]"}
_EVERY = 1024
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
    """For which allowed request a credential is asked.

    `issuer`, `subject` and `tenant` are the verified caller's, `token` is what it was verified by, and `expires` when
    that ends, in seconds since 1970. `body_digest` is the keyed digest of the authorised body.
    """

    decision_id: str
    issuer: str
    subject: str
    tenant: str
    route: str
    body_digest: str
    token: Secret
    expires: int
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
    digest = hmac.digest(key, raw, "sha256")
    return f"{len(raw)}{kind}{(sum(raw) & 0xFFFF) ^ _pad(key, digest):04x}:{digest.hex()}"


def length(mark: str) -> int:
    """Return the length of the credential that `mark` is the fingerprint of; 0 where it is none."""
    read = _MARK.fullmatch(mark)
    return int(read[1]) if read else 0


def contains(key: bytes, mark: str, data: bytes, check: Callable[[], None] = lambda: None) -> bool:
    """Tell whether any run of `data` is the credential that `mark` is the fingerprint of; never for an empty mark.

    A credential has at least MIN_CHARS characters of its kind, so words cost nothing; in a longer run every place is
    summed, and one in hundreds digested. `check` is called every few milliseconds of work; what it raises ends the
    work. Raises ValueError for what is no fingerprint: whoever wrote it meant something to be looked for.
    """
    if not mark:
        return False
    read = _MARK.fullmatch(mark)
    if read is None:
        raise ValueError("no fingerprint")
    size, characters, digest = int(read[1]), _CHARACTERS[read[2]], bytes.fromhex(read[4])
    wanted, digested = int(read[3], 16) ^ _pad(key, digest), 0
    for run in re.finditer(rb"(?<!%b)%b{%d,}" % (characters, characters, size), data):
        text = run[0]
        total = sum(text[:size])
        for start in range(len(text) - size + 1):
            if total & 0xFFFF == wanted:
                if hmac.compare_digest(hmac.digest(key, text[start : start + size], "sha256"), digest):
                    return True
                digested += 1
                if digested % _EVERY == 0:
                    check()
            if start % _EVERY == 0:
                check()
            total += text[start + size] - text[start] if start + size < len(text) else 0
    return False


def _pad(key: bytes, digest: bytes) -> int:
    return int.from_bytes(hmac.digest(key, b"sum " + digest, "sha256")[:2], "big")
