"""ID tokens: what the issuer says about who logged in (OIDC Core 1.0 section 3.1.3.7), every check spelled out.

A gate refuses ID tokens; the console accepts one exactly once, straight from the token endpoint.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

from rankgate.bearer import UnverifiedToken
from rankgate.claims import check_times, is_name, signed_with
from rankgate.console.settings import LoginSettings
from rankgate.errors import GateError, Reason
from rankgate.keyset import KeySet

__all__ = ["verified"]

SUBJECT_CHARS = 256
# Some issuers let ID tokens live for half a day; it is used at once, so its age is what counts.
LIFETIME_S = 86_400
AGE_S = 300
_KINDS = {"typ": "id", "token_use": "id"}


def verified(
    token: UnverifiedToken, keys: KeySet, settings: LoginSettings, *, nonce: str, access_token: str, now: float
) -> dict[str, Any]:
    """Return the claims of the ID token that answers the login of `nonce`, at `now` (seconds since the epoch).

    Raises GateError(TOKEN_INVALID), as UnknownKeyError where a fresher key set might help. The audience must be the
    console's client and nobody else's: a token that others may present is no proof of a login here.
    """
    payload = token.payload
    kind = token.header.get("typ", "JWT")
    if token.algorithm not in settings.algorithms or not isinstance(kind, str) or kind.lower() != "jwt":
        raise _refused("header")
    if token.issuer != settings.issuer:
        raise _refused("issuer")
    if "events" in payload or any(
        str(payload[name]).lower() != wanted for name, wanted in _KINDS.items() if name in payload
    ):
        raise _refused("kind")
    if payload.get("aud") not in (settings.client_id, [settings.client_id]):
        raise _refused("audience")
    if payload.get("azp", settings.client_id) != settings.client_id:
        raise _refused("authorized party")
    check_times(payload, leeway_s=settings.leeway_s, max_lifetime_s=LIFETIME_S, now=now)
    if payload["iat"] < now - AGE_S - settings.leeway_s:
        raise _refused("too old")
    given = payload.get("nonce")
    if not isinstance(given, str) or not hmac.compare_digest(given.encode(), nonce.encode()):
        raise _refused("nonce")
    if not is_name(payload.get("sub"), SUBJECT_CHARS):
        raise _refused("subject")
    if "at_hash" in payload and payload["at_hash"] != _half_hash(token.algorithm, access_token):
        raise _refused("access token hash")
    signed_with(token, keys)
    return payload


def _half_hash(algorithm: str, access_token: str) -> str:
    """Return the left half of the token's hash (OIDC Core 1.0 section 3.1.3.6); RS256 and ES256 hash with SHA-256."""
    digest = hashlib.new(f"sha{algorithm[2:]}", access_token.encode("utf-8", "surrogatepass")).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode("ascii")


def _refused(why: str) -> GateError:
    return GateError(Reason.TOKEN_INVALID, why)
