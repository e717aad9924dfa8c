"""Verify the tokens that a gate mints (credentials.broker = "minted"), with python-jose and the standard library alone.

    pip install "python-jose[cryptography]"
    python examples/verify_minted.py --jwks jwks.json --issuer https://gate.example --audience engine < tokens

Copy the class into an engine, or into what stands before one:

    verifier = Verifier("http://127.0.0.1:9101/.well-known/jwks.json", "https://gate.example", "engine")
    claims = verifier.verify(token)  # raises RefusedError; claims["sub"] and claims["tenant"] say who called

One verifier serves a process, from any thread. A token is good once: what was used is remembered until it ends. Where
several processes serve one audience, keep `jti` where all of them look (SET NX with an end, in Redis).
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jose import JWTError, jwt

LONGEST_S = 60  # no gate mints for longer
LEEWAY_S = 5  # by which two clocks may differ
KEEP_S = 60.0  # how long a key set is used before it is read again
COOL_DOWN_S = 5.0  # between two readings: anybody can make up a key id
STALE_S = 3600.0  # how long a key set is used that cannot be read again
SET_BYTES = 65_536
TOKEN_CHARS = 8192


class RefusedError(Exception):
    """A token that is not to be trusted; the text says why and holds nothing of it."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


class Verifier:
    """Tells whether a token was minted for this engine, just now, and never seen before.

    `jwks` is a file or an http(s) URL; `issuer` and `audience` are credentials.minted.issuer and .audience of the gate.
    """

    def __init__(self, jwks: str, issuer: str, audience: str, *, clock: Callable[[], float] = time.time) -> None:
        self._jwks = jwks
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: dict[str, dict[str, Any]] = {}
        self._read_at = self._sought_at = float("-inf")
        self._used: dict[str, int] = {}

    def verify(self, token: str) -> dict[str, Any]:
        """Return the claims of a good token, which is good no more afterwards. Raises RefusedError."""
        if len(token) > TOKEN_CHARS:
            raise RefusedError("too long")
        try:
            header = jwt.get_unverified_header(token)
        except JWTError:
            raise RefusedError("malformed") from None
        # The token does not choose how it is verified.
        if header.get("alg") != "ES256" or "crit" in header or not isinstance(header.get("kid"), str):
            raise RefusedError("header")
        options = {
            "leeway": LEEWAY_S,
            **{f"require_{name}": True for name in ("aud", "iss", "sub", "jti")},
        }
        # python-jose reads the clock itself, also of a time that is required; times are judged below, with ours.
        options |= {"verify_exp": False, "verify_iat": False, "verify_at_hash": False}
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key(header["kid"]),
                algorithms=["ES256"],
                audience=self._audience,
                issuer=self._issuer,
                options=options,
            )
        except JWTError as error:
            raise RefusedError(type(error).__name__) from None
        self._check_times(claims)
        self._use_once(claims)
        return claims

    def _check_times(self, claims: dict[str, Any]) -> None:
        issued, ends, now = claims.get("iat"), claims.get("exp"), self._clock()
        if not all(type(value) is int for value in (issued, ends)) or not 0 < ends - issued <= LONGEST_S:
            raise RefusedError("lifetime")
        if now >= ends + LEEWAY_S:
            raise RefusedError("expired")
        if now < issued - LEEWAY_S:
            raise RefusedError("not yet")

    def _use_once(self, claims: dict[str, Any]) -> None:
        now = self._clock()
        with self._lock:
            # In the order in which they came, and none lives for longer than that: the oldest end first.
            while self._used and next(iter(self._used.values())) < now:
                del self._used[next(iter(self._used))]
            if claims["jti"] in self._used:
                raise RefusedError("replayed")
            self._used[claims["jti"]] = int(now) + LONGEST_S + 2 * LEEWAY_S + 1

    def _key(self, key_id: str) -> dict[str, Any]:
        with self._lock:
            now = time.monotonic()
            unknown = key_id not in self._keys and now - self._sought_at >= COOL_DOWN_S
            old = now - self._read_at >= KEEP_S and now - self._sought_at >= COOL_DOWN_S
            if old or unknown:
                self._sought_at = now
                try:
                    self._keys, self._read_at = self._read(), now
                except RefusedError:
                    # A set that cannot be read for a while does not stop the engine.
                    if now - self._read_at >= STALE_S:
                        self._keys = {}
                        raise
            if key_id not in self._keys:
                raise RefusedError("unknown key")
            return self._keys[key_id]

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            if self._jwks.startswith(("http://", "https://")):
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
                with opener.open(self._jwks, timeout=2) as answer:
                    document = answer.read(SET_BYTES)
            else:
                document = Path(self._jwks).read_bytes()
            keys = json.loads(document)["keys"]
            return {key["kid"]: key for key in keys if (key["kty"], key["crv"]) == ("EC", "P-256") and "d" not in key}
        except (OSError, ValueError, KeyError, TypeError):
            raise RefusedError("no keys") from None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jwks", required=True, help="file or URL of the gate's public keys")
    parser.add_argument("--issuer", required=True)
    parser.add_argument("--audience", required=True)
    given = parser.parse_args()
    verifier = Verifier(given.jwks, given.issuer, given.audience)
    refused = False
    # On standard input, one a line: arguments are seen by everybody on the machine.
    for line in sys.stdin:
        try:
            print(json.dumps(verifier.verify(line.strip())), flush=True)
        except RefusedError as why:
            refused = True
            print(f"refused: {why}", flush=True)
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
