"""The development issuer answers as the RFCs say, on loopback only."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from rankgate.bearer import read
from rankgate.demo.issuer import DEMO_CLIENTS, DevClient, DevIssuer

SEARCH = DevClient("search app", "p:w%", audiences=("rerank", "embed"), scopes=("rerank", "embed"))
GRANT = {"grant_type": "client_credentials"}


@pytest.fixture
async def issuer() -> AsyncIterator[DevIssuer]:
    made = DevIssuer([SEARCH], clock=lambda: 1_000_000)
    await made.start()
    yield made
    await made.stop()


async def ask(issuer: DevIssuer, form: dict[str, str], basic: str | None = "search+app:p%3Aw%25") -> tuple[int, Any]:
    """Return status and body of a token request with `basic` as user and password, form-encoded already."""
    headers = {"authorization": "Basic " + base64.b64encode(basic.encode()).decode()} if basic else {}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{issuer.url}/token", data=form, headers=headers) as answer,
    ):
        assert answer.headers["cache-control"] == "no-store"
        assert ("www-authenticate" in answer.headers) == (answer.status == 401)
        return answer.status, await answer.json()


async def test_it_serves_on_loopback_and_names_itself(issuer: DevIssuer) -> None:
    assert issuer.url.startswith("http://127.0.0.1:")
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{issuer.url}/.well-known/openid-configuration") as answer:
            metadata = await answer.json()
        async with session.get(metadata["jwks_uri"]) as answer:
            keys = (await answer.json())["keys"]
    assert metadata["issuer"] == issuer.url
    assert metadata["token_endpoint"] == f"{issuer.url}/token"
    assert [sorted(key) for key in keys] == [["alg", "e", "kid", "kty", "n", "use"]]


async def test_a_client_gets_a_token_for_what_it_asked(issuer: DevIssuer) -> None:
    status, body = await ask(issuer, {**GRANT, "audience": "embed", "scope": "embed"})
    assert status == 200
    assert (body["token_type"], body["expires_in"], body["scope"]) == ("Bearer", 300, "embed")
    token = read(body["access_token"])
    assert token.header["typ"] == "at+jwt"
    claims = token.payload
    assert claims.pop("jti")
    assert claims == {
        "iss": issuer.url, "sub": "search app", "client_id": "search app", "aud": "embed", "scope": "embed",
        "tenant": "demo", "groups": [], "iat": 1_000_000, "exp": 1_000_300,
    }  # fmt: skip


async def test_without_an_audience_the_token_is_for_all_of_the_clients(issuer: DevIssuer) -> None:
    _, body = await ask(issuer, GRANT)
    assert read(body["access_token"]).payload["aud"] == ["rerank", "embed"]


async def test_the_secret_may_stand_in_the_body(issuer: DevIssuer) -> None:
    status, _ = await ask(issuer, {**GRANT, "client_id": "search app", "client_secret": "p:w%"}, basic=None)
    assert status == 200


REFUSED: list[tuple[dict[str, str], str | None, int, str]] = [
    (GRANT, None, 401, "invalid_client"),
    (GRANT, "search+app:wrong", 401, "invalid_client"),
    (GRANT, "other:p%3Aw%25", 401, "invalid_client"),
    ({"grant_type": "password"}, "search+app:p%3Aw%25", 400, "unsupported_grant_type"),
    ({}, "search+app:p%3Aw%25", 400, "unsupported_grant_type"),
    ({**GRANT, "audience": "other"}, "search+app:p%3Aw%25", 400, "invalid_target"),
    ({**GRANT, "resource": "other"}, "search+app:p%3Aw%25", 400, "invalid_target"),
    ({**GRANT, "scope": "rerank admin"}, "search+app:p%3Aw%25", 400, "invalid_scope"),
]


@pytest.mark.parametrize(("form", "basic", "status", "error"), REFUSED)
async def test_a_wrong_request_gets_the_error_of_its_rfc(
    issuer: DevIssuer, form: dict[str, str], basic: str | None, status: int, error: str
) -> None:
    assert await ask(issuer, form, basic) == (status, {"error": error})


async def test_a_rotated_key_signs_and_the_old_one_stays_published(issuer: DevIssuer) -> None:
    old = read(issuer.mint()).key_id
    issuer.rotate()
    new = read(issuer.mint()).key_id
    assert [key.id for key in issuer.keys] == [old, new]
    issuer.rotate(keep=0)
    assert [key.id for key in issuer.keys] == [read(issuer.mint()).key_id]


def test_secrets_stay_out_of_the_repr() -> None:
    assert "p:w%" not in repr(SEARCH)


async def test_it_runs_from_the_command_line() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rankgate.demo.issuer", "--algorithm", "ES256", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        line = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
        url = line.split()[3].rstrip(",")
        client = DEMO_CLIENTS[0]
        form = {**GRANT, "client_id": client.id, "client_secret": client.secret, "audience": "rerank"}
        async with aiohttp.ClientSession() as session, session.post(f"{url}/token", data=form) as answer:
            token = (await answer.json())["access_token"]
        assert json.loads(json.dumps(read(token).payload))["tenant"] == client.tenant
        assert read(token).algorithm == "ES256"
    finally:
        process.kill()
        await process.wait()
