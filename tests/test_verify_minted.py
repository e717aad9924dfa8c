"""The example verifier accepts what a gate mints, once, and nothing else."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from aiohttp import web
from fakes.lending import grant

from rankgate.minting import MintingKeys, claims, new_key

FILE = Path(__file__).parent.parent / "examples" / "verify_minted.py"
ISSUER, AUDIENCE = "https://gate.example", "engine"
KEYS = MintingKeys.read(new_key())
OTHER = MintingKeys.read(new_key())


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("verify_minted", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


example = load()


@pytest.fixture
def jwks(tmp_path: Path) -> Path:
    file = tmp_path / "jwks.json"
    file.write_text(KEYS.jwks)
    return file


def payload(**changes: Any) -> dict[str, Any]:
    usual = claims(grant(), issuer=ISSUER, audience=AUDIENCE, lifetime_s=30, now=int(time.time()))
    return {name: value for name, value in (usual | changes).items() if value is not None}


def minted(keys: MintingKeys = KEYS, **changes: Any) -> str:
    return keys.sign(payload(**changes))


def segment(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def under(header: dict[str, Any], signature: str | None = None) -> str:
    """Return a token whose header was replaced."""
    _, body, own = minted().split(".")
    return f"{segment(header)}.{body}.{own if signature is None else signature}"


KID = KEYS.public[0]["kid"]
NOW = int(time.time())
BAD = {
    "wrong audience": lambda: minted(aud="another"),
    "no audience": lambda: minted(aud=None),
    "wrong issuer": lambda: minted(iss="https://other.example"),
    "no issuer": lambda: minted(iss=None),
    "no subject": lambda: minted(sub=None),
    "no jti": lambda: minted(jti=None),
    "expired": lambda: minted(iat=NOW - 60, exp=NOW - 30),
    "no end": lambda: minted(exp=None),
    "living for long": lambda: minted(exp=NOW + 3600),
    "of the future": lambda: minted(iat=NOW + 60, exp=NOW + 90),
    "times that are no numbers": lambda: minted(iat=str(NOW), exp=str(NOW + 30)),
    "another key": lambda: minted(OTHER),
    "another key under our name": lambda: OTHER.sign(payload()).replace(
        OTHER.sign(payload()).split(".")[0], minted().split(".")[0]
    ),
    "no signature": lambda: under({"alg": "none", "typ": "JWT", "kid": KID}, ""),
    "none with a signature": lambda: under({"alg": "none", "typ": "JWT", "kid": KID}),
    "another algorithm": lambda: under({"alg": "HS256", "typ": "JWT", "kid": KID}),
    "no key id": lambda: under({"alg": "ES256", "typ": "JWT"}),
    "critical": lambda: under({"alg": "ES256", "kid": KID, "crit": ["b64"], "b64": False}),
    "nothing": lambda: "",
    "two parts": lambda: minted().rpartition(".")[0],
    "very long": lambda: minted() + "A" * 9000,
}


@pytest.mark.parametrize("make", BAD.values(), ids=BAD)
def test_a_token_that_no_gate_minted_for_this_engine_is_refused(jwks: Path, make: Any) -> None:
    with pytest.raises(example.RefusedError):
        example.Verifier(str(jwks), ISSUER, AUDIENCE).verify(make())


def test_a_minted_token_is_good_once(jwks: Path) -> None:
    verifier = example.Verifier(str(jwks), ISSUER, AUDIENCE)
    token = minted()
    found = verifier.verify(token)
    assert (found["sub"], found["tenant"], found["jti"]) == ("search-svc", "acme", "dec-1")
    with pytest.raises(example.RefusedError, match="replayed"):
        verifier.verify(token)
    verifier.verify(minted(jti="dec-2"))


def test_what_was_used_is_remembered_until_it_ended_and_not_for_ever(jwks: Path) -> None:
    at = [float(NOW)]
    verifier = example.Verifier(str(jwks), ISSUER, AUDIENCE, clock=lambda: at[0])
    # Long past by this machine's clock.
    at[0] -= 10_000
    verifier.verify(minted(iat=NOW - 10_000, exp=NOW - 9_970, jti="dec-0"))
    at[0] = float(NOW)
    token = minted(iat=NOW + 4, exp=NOW + 64)
    verifier.verify(token)
    at[0] = NOW + 68.9
    with pytest.raises(example.RefusedError, match="replayed"):
        verifier.verify(token)
    at[0] = NOW + 100.0
    with pytest.raises(example.RefusedError, match="expired"):
        verifier.verify(token)
    verifier.verify(minted(iat=NOW + 100, exp=NOW + 130, jti="dec-2"))
    assert list(verifier._used) == ["dec-2"]


async def test_keys_come_over_http_and_an_unknown_one_is_looked_for_but_not_all_the_time() -> None:
    served, asked = [KEYS.jwks], []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(text=served[0], content_type="application/json")

    app = web.Application()
    app.router.add_get("/.well-known/jwks.json", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/.well-known/jwks.json"
        verifier = example.Verifier(url, ISSUER, AUDIENCE)
        await asyncio.to_thread(verifier.verify, minted())
        await asyncio.to_thread(verifier.verify, minted(jti="dec-2"))
        assert len(asked) == 1
        for _ in range(3):
            with pytest.raises(example.RefusedError, match="unknown key"):
                await asyncio.to_thread(verifier.verify, minted(OTHER, jti="dec-3"))
        assert len(asked) == 1
        served[0] = OTHER.jwks
        verifier._sought_at -= example.COOL_DOWN_S
        await asyncio.to_thread(verifier.verify, minted(OTHER, jti="dec-3"))
        assert len(asked) == 2
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("content", [None, "", "[]", '{"keys": [{}]}', "{"])
def test_without_keys_nothing_is_accepted(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "jwks.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(example.RefusedError, match="no keys"):
        example.Verifier(str(file), ISSUER, AUDIENCE).verify(minted())


def test_keys_that_cannot_be_read_again_serve_for_an_hour(jwks: Path) -> None:
    verifier = example.Verifier(str(jwks), ISSUER, AUDIENCE)
    verifier.verify(minted())
    jwks.unlink()
    for since, accepted in ((example.KEEP_S, True), (example.STALE_S, False)):
        verifier._read_at -= since
        verifier._sought_at -= since
        token = minted(jti=f"dec-{since}")
        if accepted:
            verifier.verify(token)
        else:
            with pytest.raises(example.RefusedError, match="no keys"):
                verifier.verify(token)


def test_as_a_program_it_says_of_each_line_whether_it_is_good(jwks: Path) -> None:
    good, foreign = minted(), minted(OTHER, jti="dec-2")
    done = subprocess.run(
        [sys.executable, FILE, "--jwks", jwks, "--issuer", ISSUER, "--audience", AUDIENCE],
        input=f"{good}\n{foreign}\n{good}\n",
        capture_output=True,
        text=True,
        check=False,
    )
    first, *rest = done.stdout.splitlines()
    assert json.loads(first)["jti"] == "dec-1"
    assert rest == ["refused: unknown key", "refused: replayed"]
    assert (done.returncode, done.stderr) == (1, "")
