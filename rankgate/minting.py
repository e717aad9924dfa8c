"""Tokens that a gate signs itself: P-256 keys from PEM text, their public set, and one token for one request."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from rankgate.credentials import Grant

__all__ = ["PEM_BYTES", "MintingKeys", "claims", "new_key"]

PEM_BYTES = 65_536
MOST_KEYS = 16
_COORDINATE_BYTES = 32
_BLOCK = re.compile(rb"-----BEGIN ([A-Z ]+)-----.+?-----END \1-----", re.DOTALL)
_LOADERS: Mapping[bytes, Callable[[bytes], Any]] = {
    b"PRIVATE KEY": partial(load_pem_private_key, password=None),
    b"EC PRIVATE KEY": partial(load_pem_private_key, password=None),
    b"PUBLIC KEY": load_pem_public_key,
}
# `openssl ecparam -genkey` writes the curve's name before the key.
_IGNORED = b"EC PARAMETERS"
_ECDSA = ec.ECDSA(SHA256())


@dataclass(frozen=True, slots=True, repr=False)
class MintingKeys:
    """A key that signs, and the public keys that go with it: its own first, then those of before and after it.

    `public` are JWKs (RFC 7517 section 4), each with its RFC 7638 thumbprint as `kid`.
    """

    public: tuple[Mapping[str, str], ...]
    _signer: ec.EllipticCurvePrivateKey
    _header: str

    @classmethod
    def read(cls, pem: bytes) -> Self:
        """Read PEM text of up to 16 P-256 keys: the first is private and signs; others are private or public.

        Raises ValueError, with a text that quotes nothing, for everything else.
        """
        if len(pem) > PEM_BYTES:
            raise ValueError("too large")
        blocks = [(match[1], match[0]) for match in _BLOCK.finditer(pem) if match[1] != _IGNORED]
        if len(blocks) > MOST_KEYS:
            raise ValueError("too many keys")
        keys = [_load(label, block) for label, block in blocks]
        signer = keys[0] if keys else None
        if not isinstance(signer, ec.EllipticCurvePrivateKey):
            raise ValueError("no private key comes first")  # noqa: TRY004 - of the text, not of an argument
        public = {key["kid"]: key for key in map(_public, keys)}
        if len(public) != len(keys):
            raise ValueError("a key is there twice")
        first = next(iter(public))
        return cls(tuple(public.values()), signer, _segment({"alg": "ES256", "typ": "JWT", "kid": first}))

    @property
    def jwks(self) -> str:
        """Return the public keys as a JWK set (RFC 7517 section 5), in JSON."""
        return json.dumps({"keys": list(self.public)}, indent=2)

    def sign(self, payload: Mapping[str, Any]) -> str:
        """Return the compact serialisation (RFC 7515 section 7.1) of `payload`, signed ES256 (RFC 7518 section 3.4)."""
        signing_input = f"{self._header}.{_segment(payload)}"
        r, s = decode_dss_signature(self._signer.sign(signing_input.encode("ascii"), _ECDSA))
        signature = r.to_bytes(_COORDINATE_BYTES, "big") + s.to_bytes(_COORDINATE_BYTES, "big")
        return f"{signing_input}.{_base64url(signature)}"


def claims(grant: Grant, *, issuer: str, audience: str, lifetime_s: int, now: int) -> dict[str, Any]:
    """Return the claims of the token for one allowed request (RFC 7519 section 4.1); `now` in seconds since 1970.

    `sub` is the caller as its own issuer names it, `sub_id` the same with that issuer (RFC 9493 section 3.2.3), because
    two issuers may use one name. `auth_req` is the keyed digest of the body that was authorised, as the decision event
    has it; `jti` is the receipt of the decision, so each token is of one request.
    """
    return {
        "iss": issuer,
        "aud": audience,
        "sub": grant.subject,
        "sub_id": {"format": "iss_sub", "iss": grant.issuer, "sub": grant.subject},
        "tenant": grant.tenant,
        "iat": now,
        "exp": now + lifetime_s,
        "jti": grant.decision_id,
        "auth_req": grant.body_digest,
    }


def new_key() -> bytes:
    """Return a new private key as PEM text, PKCS #8."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _load(label: bytes, block: bytes) -> ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey:
    try:
        key: Any = _LOADERS[label](block)
    except Exception:  # noqa: BLE001 - whatever the library says of key material goes nowhere
        raise ValueError("not a P-256 key without a password") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise ValueError("not a P-256 key without a password")
    return key


def _public(key: ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey) -> dict[str, str]:
    numbers = (key.public_key() if isinstance(key, ec.EllipticCurvePrivateKey) else key).public_numbers()
    x, y = (_base64url(number.to_bytes(_COORDINATE_BYTES, "big")) for number in (numbers.x, numbers.y))
    # RFC 7638 section 3: the required members alone, sorted, without whitespace.
    members = {"crv": "P-256", "kty": "EC", "x": x, "y": y}
    thumbprint = hashlib.sha256(json.dumps(members, separators=(",", ":"), sort_keys=True).encode("ascii")).digest()
    return {**members, "kid": _base64url(thumbprint), "alg": "ES256", "use": "sig"}


def _segment(value: Mapping[str, Any]) -> str:
    return _base64url(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8"))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
