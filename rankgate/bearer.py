"""From the Authorization header to a token that has been read but not verified.

Everything here happens before python-jose sees a byte: it accepts several texts for one token, duplicate
members, unknown `crit` and keys brought along in the header, so none of that may get past this file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from rankgate.errors import GateError, Reason
from rankgate.settings.issuers import ASYMMETRIC
from rankgate.strict import MalformedError, base64url, json_object

__all__ = ["KEY_ID_CHARS", "UnverifiedToken", "bearer", "read"]

TOKEN_BYTES = 16_384
JSON_DEPTH = 16
KEY_ID_CHARS = 128

# Each of these makes the token say how it wants to be verified, or wraps another one (RFC 7515 section 4.1,
# RFC 7797, RFC 7516 section 4.1.3).
_REFUSED_HEADERS = frozenset({"crit", "b64", "zip", "jku", "x5u", "x5c", "jwk", "cty"})

_B64TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """A well-formed signed JWT that anyone may have written. Only `identity.verify` makes Claims of it."""

    header: dict[str, Any]
    payload: dict[str, Any]
    algorithm: str
    key_id: str | None
    issuer: str
    signing_input: bytes
    signature: bytes

    def __repr__(self) -> str:
        return "UnverifiedToken(...)"


def bearer(values: list[bytes]) -> str:
    """Return the token text of one request from all its Authorization header values.

    Raises GateError: TOKEN_MISSING where no bearer credential is given, AUTHORIZATION_AMBIGUOUS where two
    readers could see different ones, TOKEN_INVALID where it cannot be a token. RFC 6750 section 2.1,
    RFC 9110 section 11.4 (the scheme's case does not matter).
    """
    if not values:
        raise GateError(Reason.TOKEN_MISSING, "no header")
    if len(values) > 1:
        raise GateError(Reason.AUTHORIZATION_AMBIGUOUS, "two headers")
    if not values[0].isascii():
        raise GateError(Reason.TOKEN_INVALID, "not ascii")
    value = values[0].decode("ascii")
    if not value.isprintable() or "," in value or "  " in value or value.strip(" ") != value:
        raise GateError(Reason.AUTHORIZATION_AMBIGUOUS, "comma or spacing")
    scheme, _, token = value.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise GateError(Reason.TOKEN_MISSING, "no bearer credential")
    if " " in token:
        raise GateError(Reason.AUTHORIZATION_AMBIGUOUS, "two credentials")
    if len(token) > TOKEN_BYTES:
        raise GateError(Reason.TOKEN_INVALID, "too long")
    if not _B64TOKEN.fullmatch(token):
        raise GateError(Reason.TOKEN_INVALID, "not a token")
    return token


def read(token: str) -> UnverifiedToken:
    """Read a JWS in compact serialisation (RFC 7515 section 7.1) whose payload is a JWT claims set.

    Raises GateError(TOKEN_INVALID): JWE, JSON serialisation, nested tokens, non-canonical base64url, JSON
    that could be read in two ways, and headers that name their own key are refused.
    """
    if len(token) > TOKEN_BYTES:
        raise _refused("too long")
    if not token.isascii():
        raise _refused("not ascii")
    parts = token.split(".")
    if len(parts) != 3:
        raise _refused("not a signed token")
    try:
        header = json_object(base64url(parts[0]), depth=JSON_DEPTH)
        payload = json_object(base64url(parts[1]), depth=JSON_DEPTH)
        signature = base64url(parts[2])
    except MalformedError:
        raise _refused("malformed") from None
    algorithm = header.get("alg")
    # Asymmetric only, whatever the settings say: under HMAC an issuer's public key would be a shared secret.
    if not isinstance(algorithm, str) or algorithm not in ASYMMETRIC:
        raise _refused("algorithm")
    if not _REFUSED_HEADERS.isdisjoint(header):
        raise _refused("header")
    if not signature:
        raise _refused("signature")
    issuer = payload.get("iss")
    if not isinstance(issuer, str) or not issuer:
        raise _refused("issuer")
    return UnverifiedToken(
        header=header,
        payload=payload,
        algorithm=algorithm,
        key_id=_key_id(header),
        issuer=issuer,
        signing_input=token[: token.rindex(".")].encode("ascii"),
        signature=signature,
    )


def _key_id(header: dict[str, Any]) -> str | None:
    if "kid" not in header:
        return None
    key_id = header["kid"]
    if not isinstance(key_id, str) or not 0 < len(key_id) <= KEY_ID_CHARS:
        raise _refused("key id")
    return key_id


def _refused(why: str) -> GateError:
    return GateError(Reason.TOKEN_INVALID, why)
