"""What a reranker receives as a credential: a token of one request, one exchanged for the caller's, or nothing."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fakes.token_endpoint import CLIENT_ID, CLIENT_SECRET, TokenEndpoint
from fakes.waiting import until
from flow.gate import Answer, Gate
from flow.operations import health_port, page
from flow.upstream import Script
from jose import jwt

from rankgate.decision import RECEIPT
from rankgate.minting import new_key

CALL = {"model": "rerank-v3.5", "query": "river bank", "documents": ["a bank by the river", "a bank for money"]}
ISSUER, ENGINE = "https://gate.example", "https://engine.example"
JWKS = "/.well-known/jwks.json"


def example() -> ModuleType:
    file = Path(__file__).parents[2] / "examples" / "verify_minted.py"
    spec = importlib.util.spec_from_file_location("verify_minted", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bearer(request: Any) -> str:
    """Return the one credential of a request that arrived."""
    (value,) = request.values("authorization")
    scheme, _, token = value.partition(" ")
    assert scheme == "Bearer"
    return str(token)


def refused(answer: Answer) -> None:
    """Hold a refusal to the error shape of the caller's API, with its receipt."""
    assert answer.status == 503
    assert answer.headers["content-type"] == "application/json"
    assert "no upstream credential" in answer.json["message"]
    assert "dec-" in answer.json["message"]


FIRST, SECOND = new_key(), new_key()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "minting.pem"
    file.write_bytes(FIRST)
    return file


def replace(file: Path, content: bytes | None) -> None:
    if content is None:
        file.unlink()
        return
    draft = file.with_suffix(".new")
    draft.write_bytes(content)
    draft.replace(file)


def minting(key_file: Path) -> dict[str, Any]:
    minted = {"issuer": ISSUER, "audience": ENGINE, "key_file": str(key_file)}
    return {"credentials": {"broker": "minted", "minted": minted}, "health": {"ext_authz_port": 0}}


async def test_every_call_arrives_with_a_token_of_its_own_that_the_engine_can_verify_alone(key_file: Path) -> None:
    async with Gate(minting(key_file)) as gate:
        callers = [gate.token(), gate.token("batch", tenant="globex")]
        answers = [await gate.post("/v2/rerank", CALL, token=token) for token in (*callers, callers[0])]
        assert [answer.status for answer in answers] == [200, 200, 200]
        tokens = [bearer(request) for request in gate.upstream.requests]
        verifier = example().Verifier(f"http://127.0.0.1:{health_port(gate, 'ext_authz')}{JWKS}", ISSUER, ENGINE)
        found = [await asyncio.to_thread(verifier.verify, token) for token in tokens]
        assert [(one["sub"], one["tenant"]) for one in found] == [
            ("search", "acme"),
            ("batch", "globex"),
            ("search", "acme"),
        ]
        assert found[0]["sub_id"] == {"format": "iss_sub", "iss": gate.issuer.url, "sub": "search"}
        assert [one["jti"] for one in found] == [answer.headers[RECEIPT] for answer in answers]
        # The token can be joined with the trail, and says nothing without the gate's key.
        events = {event["body"]["metadata"]["uid"]: event for event in await gate.decisions()}
        text = json.dumps(list(events.values()))
        assert all(one["auth_req"] in text for one in found)
        assert found[0]["auth_req"] == found[2]["auth_req"] != found[1]["auth_req"]
        assert not any(token in gate.upstream.bytes_seen.decode("latin-1") for token in callers)
        seen = text + gate.logs() + json.dumps([event["body"] for event in await gate.completions()])
        assert not any(token in seen for token in (*tokens, *callers))


async def test_a_key_is_turned_while_calls_go_on_and_every_token_can_be_verified(key_file: Path) -> None:
    async with Gate(minting(key_file)) as gate:
        port = health_port(gate, "ext_authz")
        status, alone = await page(port, JWKS)
        assert status == 200
        (old,) = json.loads(alone)["keys"]
        assert not {"d", "k"} & set(old)
        done = False
        statuses: list[int] = []

        async def calling() -> None:
            while not done:
                statuses.append((await gate.post("/v2/rerank", CALL)).status)

        caller = asyncio.create_task(calling())
        sets = []
        for content in (FIRST + SECOND, SECOND + FIRST, SECOND):
            replace(key_file, content)
            before = len(statuses)
            await until(lambda: len(statuses) >= before + 3)  # noqa: B023 - it is called before the next turn
            sets.append([key["kid"] for key in json.loads((await page(port, JWKS))[1])["keys"]])
        done = True
        await caller
        assert set(statuses) == {200}
        new = sets[2][0]
        assert sets == [[old["kid"], new], [new, old["kid"]], [new]]
        kids = [jwt.get_unverified_header(bearer(request))["kid"] for request in gate.upstream.requests]
        turned = kids.index(new)
        assert set(kids[:turned]) == {old["kid"]} and set(kids[turned:]) == {new}


async def test_a_key_that_is_taken_away_ends_lending_and_one_that_is_back_begins_it(key_file: Path) -> None:
    async with Gate(minting(key_file)) as gate:
        replace(key_file, None)
        refused(await gate.post("/v2/rerank", CALL))
        assert (await page(health_port(gate, "ext_authz"), JWKS))[0] == 503
        assert not gate.upstream.connections
        (event,) = await gate.decisions()
        assert event["body"]["unmapped"]["rankgate"]["reason"] == "credential_unavailable"
        replace(key_file, FIRST)
        assert (await gate.post("/v2/rerank", CALL)).status == 200


@pytest.mark.parametrize("status", [200, 500])
async def test_a_minted_token_that_the_engine_quotes_does_not_reach_the_caller(key_file: Path, status: int) -> None:
    async with Gate(minting(key_file)) as gate:

        def quoting(request: Any) -> bytes:
            text = f"you sent {bearer(request)}, thanks"
            results = [{"index": 0, "relevance_score": 0.5, "document": {"text": text}}]
            return json.dumps({"results": results} if status == 200 else {"message": text}).encode()

        gate.upstream.script = Script(status=status, body=quoting)
        answer = await gate.post("/v2/rerank", CALL)
        token = bearer(gate.upstream.requests[0])
        assert token.encode() not in answer.body
        assert token.rpartition(".")[2].encode() not in answer.body


class Exchanging(Gate):
    """A gate whose callers' tokens are exchanged, with the token endpoint that does it."""

    def __init__(self, secret_file: Path) -> None:
        self.exchange: dict[str, Any] = {
            "token_url": "",
            "insecure_http": True,
            "client_id": CLIENT_ID,
            "client_secret_file": str(secret_file),
            "audiences": [ENGINE],
        }
        super().__init__({"credentials": {"broker": "exchange", "exchange": self.exchange}})
        self.endpoint = TokenEndpoint(self.issuer)

    def _write_settings(self) -> None:
        self.exchange["token_url"] = self.endpoint.url
        super()._write_settings()


@pytest.fixture
async def exchanging(tmp_path: Path) -> Any:
    secret = tmp_path / "secret"
    secret.write_text(CLIENT_SECRET)
    gate = Exchanging(secret)
    async with gate.endpoint, gate:
        yield gate


async def test_the_exchanged_token_arrives_and_the_callers_does_not(exchanging: Exchanging) -> None:
    gate = exchanging
    one, two = gate.token(), gate.token("batch")
    for token in (one, two, one):
        assert (await gate.post("/v2/rerank", CALL, token=token)).status == 200
    issued = gate.endpoint.issued
    assert [bearer(request) for request in gate.upstream.requests] == [issued[0], issued[1], issued[0]]
    assert [jwt.get_unverified_claims(token)["sub"] for token in issued] == ["search", "batch"]
    upstream = gate.upstream.bytes_seen.decode("latin-1")
    assert one not in upstream
    assert two not in upstream
    seen = json.dumps([event["body"] for event in await gate.events()]) + gate.logs()
    assert not any(token in seen for token in (one, two, *issued, CLIENT_SECRET))


async def test_without_an_exchanged_token_nothing_is_forwarded(exchanging: Exchanging) -> None:
    gate = exchanging
    for fault in ("500", "hang", "huge", "redirect", "close"):
        gate.endpoint.fault = fault
        refused(await gate.post("/v2/rerank", CALL))
    gate.endpoint.fault = None
    gate.endpoint.changes = {"token_type": "N_A"}
    async with asyncio.timeout(20):
        # The gate may leave an endpoint alone for a moment that failed so often.
        while len(gate.endpoint.forms) < 6:
            refused(await gate.post("/v2/rerank", CALL))
    await gate.endpoint.stop()
    refused(await gate.post("/v2/rerank", CALL))
    assert not gate.upstream.connections
    reasons = {event["body"]["unmapped"]["rankgate"]["reason"] for event in await gate.decisions()}
    assert reasons == {"credential_unavailable"}
