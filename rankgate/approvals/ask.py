"""What a gate asks people to agree to: one exact request, and what will be done with it."""

from __future__ import annotations

import base64
import hashlib
import hmac

import msgspec

__all__ = [
    "Ask",
    "Caller",
    "PlanSummary",
    "Requirement",
    "authenticate",
    "is_authentic",
    "new_approval_id",
    "record_digest",
]

_CROCKFORD = bytes.maketrans(b"0123456789ABCDEFGHIJKLMNOPQRSTUV", b"0123456789abcdefghjkmnpqrstvwxyz")
_RANDOM_BITS = 80


class Requirement(msgspec.Struct, frozen=True):
    """Whose consent is needed: `quorum` different people, each of one of `groups`, within `ttl_s` of the asking."""

    groups: tuple[str, ...]
    quorum: int = 1
    ttl_s: int = 900

    def covers(self, other: Requirement) -> bool:
        """Tell whether consent to this is consent to `other`: no more groups, no fewer people, no longer time."""
        return set(self.groups) <= set(other.groups) and self.quorum >= other.quorum and self.ttl_s <= other.ttl_s


class Caller(msgspec.Struct, frozen=True):
    """The machine that asks, and who may not agree for it.

    `names` are every name the machine is known by (subject, client id, mail address), in lower case; `owner_people`
    are names, `owner_groups` groups. None of these people may approve.
    """

    issuer: str
    subject: str
    tenant: str
    names: tuple[str, ...]
    owner_people: tuple[str, ...] = ()
    owner_groups: tuple[str, ...] = ()


class PlanSummary(msgspec.Struct, frozen=True):
    """What will be done with the request, for people; the plan digest binds it."""

    mask_request: str
    mask_response: str
    dropped: tuple[int, ...] = ()
    kept: int = 0
    credential: str = ""
    relaxed: bool = False


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One approval as its gate wrote it. It never changes; what becomes of it is kept beside it.

    Times are milliseconds since the epoch. `use_digest`, `plan_digest` and `canonical_digest` are keyed. Texts are
    masked already; `preview` is sealed for the console (age, base64). `break_glass` is the reason of a caller that did
    not wait for anybody: then this is a review item, not an approval. Growth rule: add a field with a default.
    """

    id: str
    deployment: str
    decision_id: str
    opened_ms: int
    expires_ms: int
    use_digest: str
    plan_digest: str
    canonical_digest: str
    requirement: Requirement
    caller: Caller
    route: str
    path: str
    upstream: str
    dialect: str
    model: str | None
    document_count: int
    total_chars: int
    plan: PlanSummary
    findings: dict[str, int]
    risk: str | None = None
    reasons: tuple[str, ...] = ()
    policy_revision: str = ""
    preview: str = ""
    break_glass: str = ""

    def encode(self) -> bytes:
        """Return the bytes that are stored, authenticated and named by votes."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, body: bytes) -> Ask:
        """Read what `encode` wrote; raises ValueError for anything else."""
        try:
            return msgspec.json.decode(body, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise ValueError("no approval") from None


def record_digest(body: bytes) -> str:
    """Return the name of an encoded Ask: what a vote agrees to is these bytes, whatever stands in Redis later."""
    return hashlib.sha256(body).hexdigest()


def authenticate(key: bytes, body: bytes) -> str:
    """Return the MAC by which a gate knows an Ask that a gate wrote."""
    return hmac.digest(key, b"rankgate ask\n" + body, "sha256").hex()


def is_authentic(key: bytes, body: bytes, mac: str) -> bool:
    """Tell whether `mac` is that of `body`."""
    return hmac.compare_digest(authenticate(key, body).encode(), mac.encode("utf-8", "surrogatepass"))


def new_approval_id(now: float, random_bits: int) -> str:
    """Return `apr-` and 26 characters, sortable by time; `now` in seconds, `random_bits` below 2^80."""
    value = (int(now * 1000) << _RANDOM_BITS) | random_bits
    return "apr-" + base64.b32hexencode(value.to_bytes(20, "big"))[6:].translate(_CROCKFORD).decode("ascii")
