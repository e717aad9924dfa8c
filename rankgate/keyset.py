"""An issuer's public keys: which of them are good enough to load, and which one a token may be verified with."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from jose import jwk

from rankgate.bearer import KEY_ID_CHARS
from rankgate.errors import GateError, Reason
from rankgate.strict import MalformedError, base64url, json_object

__all__ = ["SET_BYTES", "KeySet", "KeySource", "KeyStatus", "VerificationKey", "admit"]

SET_BYTES = 262_144
SET_KEYS = 64
_JSON_DEPTH = 16
_RSA_BITS = range(2048, 8193)
# The usual exponent and up; a long one would only make each verification slow.
_RSA_EXPONENTS = range(65_537, 2**32)
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


class _Curve(NamedTuple):
    algorithm: str
    bytes: int


_RSA_ALGORITHMS = ("RS256", "RS384", "RS512")
# RFC 7518 section 3.4 ties each curve to one algorithm; section 6.2.1.2 fixes the length of a coordinate.
_CURVES = {"P-256": _Curve("ES256", 32), "P-384": _Curve("ES384", 48), "P-521": _Curve("ES512", 66)}


class _Verifies(Protocol):
    def verify(self, msg: bytes, sig: bytes) -> bool: ...


class _DroppedError(Exception):
    """A key that is not taken, with the word it is counted under."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One admitted public key, built for each algorithm it may serve.

    `thumbprint` names the key material (SHA-256 over its public members).
    """

    key_id: str | None
    thumbprint: str
    by_algorithm: Mapping[str, _Verifies]

    def verifies(self, algorithm: str, signing_input: bytes, signature: bytes) -> bool:
        """Tell whether `signature` is this key's over `signing_input`; False for an algorithm it does not serve."""
        key = self.by_algorithm.get(algorithm)
        try:
            return key is not None and key.verify(signing_input, signature) is True
        except Exception:  # noqa: BLE001  # whatever the library raises on hostile bytes, the answer is no
            return False


@dataclass(frozen=True, slots=True)
class KeySet:
    """The admitted keys of one issuer. `dropped` counts the others, by reason word."""

    keys: tuple[VerificationKey, ...]
    dropped: Mapping[str, int]

    def select(self, key_id: str | None, algorithm: str) -> VerificationKey | None:
        """Return the one key for this key id and algorithm, or None. Only a lone key serves without a key id."""
        fits = self.keys if key_id is None else [key for key in self.keys if key.key_id == key_id]
        return fits[0] if len(fits) == 1 and algorithm in fits[0].by_algorithm else None

    def knows(self, key_id: str) -> bool:
        """Tell whether a key of this id was admitted."""
        return any(key.key_id == key_id for key in self.keys)

    def holds(self, thumbprint: str) -> bool:
        """Tell whether the key material named by `thumbprint` is still in the set."""
        return any(key.thumbprint == thumbprint for key in self.keys)


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """How an issuer's key set is doing. `age_s` is the time since the last successful load, None before it.

    `fault` is the word for why the latest load failed, empty after a good one.
    """

    issuer: str
    usable: bool
    keys: int
    dropped: Mapping[str, int]
    age_s: float | None
    fault: str


class KeySource(Protocol):
    """Where one issuer's keys come from, kept fresh between `start` and `stop`."""

    async def start(self) -> None:
        """Try to load the keys and keep them fresh; an unreachable issuer is no error here."""

    async def stop(self) -> None:
        """End everything that runs in the background."""

    def current(self) -> KeySet:
        """Return the last good set; raises GateError(KEYS_UNAVAILABLE) where none is usable any more."""

    async def seek(self, key_id: str) -> None:
        """Look once more for a key that `current` lacks, as often as the cool-down allows. Never raises."""

    def status(self) -> KeyStatus:
        """Return what health and metrics show."""


def admit(document: bytes, algorithms: Collection[str]) -> KeySet:
    """Load a JWK set (RFC 7517 section 5), taking only keys that may verify one of `algorithms`.

    One odd key never takes the others down: it is dropped and counted. Raises GateError(KEYS_UNAVAILABLE)
    where the document as a whole is unusable: over 256 KiB or 64 keys, not strict JSON, no key left.
    """
    if len(document) > SET_BYTES:
        raise _unusable("key set too large")
    try:
        listed = json_object(document, depth=_JSON_DEPTH).get("keys")
    except MalformedError:
        raise _unusable("key set malformed") from None
    if not isinstance(listed, list):
        raise _unusable("key set malformed")
    if len(listed) > SET_KEYS:
        raise _unusable("key set too long")
    dropped: Counter[str] = Counter()
    keys = []
    for entry in listed:
        try:
            keys.append(_admit_key(entry, algorithms))
        except _DroppedError as why:
            dropped[str(why)] += 1
    kept = _selectable(keys, dropped)
    if not kept:
        raise _unusable("key set empty")
    return KeySet(keys=tuple(kept), dropped=MappingProxyType(dict(+dropped)))


def _selectable(keys: list[VerificationKey], dropped: Counter[str]) -> list[VerificationKey]:
    """Drop what no token could name: key ids used twice, and keys without one beside others."""
    times = Counter(key.key_id for key in keys if key.key_id is not None)
    unique = [key for key in keys if key.key_id is None or times[key.key_id] == 1]
    dropped["duplicate_kid"] += len(keys) - len(unique)
    named = [key for key in unique if key.key_id is not None] if len(unique) > 1 else unique
    dropped["kid"] += len(unique) - len(named)
    return named


def _admit_key(entry: Any, algorithms: Collection[str]) -> VerificationKey:
    if not isinstance(entry, dict):
        raise _DroppedError("malformed")
    kty = entry.get("kty")
    if kty == "oct":
        raise _DroppedError("symmetric")
    if not _PRIVATE_MEMBERS.isdisjoint(entry):
        raise _DroppedError("private")
    read = _READERS.get(kty) if isinstance(kty, str) else None
    if read is None:
        raise _DroppedError("kty")
    _check_purpose(entry)
    key_id = entry.get("kid")
    if key_id is not None and not (isinstance(key_id, str) and 0 < len(key_id) <= KEY_ID_CHARS):
        raise _DroppedError("kid")
    public, possible = read(entry)
    serves = [name for name in possible if name in algorithms and entry.get("alg", name) == name]
    if not serves:
        raise _DroppedError("algorithm")
    try:
        # Only the members checked above reach the library, never the document's own object.
        built = {name: jwk.construct(dict(public), name) for name in serves}
    except Exception:  # noqa: BLE001  # a key the library cannot build (a point off its curve, say) is malformed
        raise _DroppedError("malformed") from None
    material = "\0".join(f"{name}={value}" for name, value in sorted(public.items()))
    return VerificationKey(
        key_id=key_id,
        thumbprint=hashlib.sha256(material.encode("ascii")).hexdigest(),
        by_algorithm=MappingProxyType(built),
    )


def _check_purpose(entry: dict[str, Any]) -> None:
    if entry.get("use", "sig") != "sig":
        raise _DroppedError("use")
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise _DroppedError("key_ops")


def _read_rsa(entry: dict[str, Any]) -> tuple[dict[str, str], tuple[str, ...]]:
    modulus, exponent = _member(entry, "n"), _member(entry, "e")
    if int.from_bytes(modulus, "big").bit_length() not in _RSA_BITS:
        raise _DroppedError("rsa_size")
    if int.from_bytes(exponent, "big") not in _RSA_EXPONENTS:
        raise _DroppedError("rsa_exponent")
    return {"kty": "RSA", "n": entry["n"], "e": entry["e"]}, _RSA_ALGORITHMS


def _read_ec(entry: dict[str, Any]) -> tuple[dict[str, str], tuple[str, ...]]:
    name = entry.get("crv")
    curve = _CURVES.get(name) if isinstance(name, str) else None
    if curve is None:
        raise _DroppedError("curve")
    if any(len(_member(entry, axis)) != curve.bytes for axis in ("x", "y")):
        raise _DroppedError("malformed")
    return {"kty": "EC", "crv": entry["crv"], "x": entry["x"], "y": entry["y"]}, (curve.algorithm,)


_READERS: dict[str, Callable[[dict[str, Any]], tuple[dict[str, str], tuple[str, ...]]]] = {
    "RSA": _read_rsa,
    "EC": _read_ec,
}


def _member(entry: dict[str, Any], name: str) -> bytes:
    value = entry.get(name)
    if not isinstance(value, str):
        raise _DroppedError("malformed")
    try:
        return base64url(value)
    except MalformedError:
        raise _DroppedError("malformed") from None


def _unusable(why: str) -> GateError:
    return GateError(Reason.KEYS_UNAVAILABLE, why)
