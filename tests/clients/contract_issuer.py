"""What any OIDC issuer must do with the gate: run against our own issuer and against a certified provider.

A test class takes these truths by inheriting them and giving the fixture `issuer`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from rankgate.clients.identity import Verifier
from rankgate.errors import GateError, Reason
from rankgate.identity import Principal
from rankgate.settings import IssuerSettings

AUDIENCE = "https://rerank.example"


@dataclass(frozen=True)
class RunningIssuer:
    """An issuer with the client search:test, which belongs to tenant acme and the groups search and eu."""

    url: str
    token_endpoint: str

    async def token(self, audience: str = AUDIENCE) -> str:
        """Ask for an access token (RFC 6749 section 4.4, RFC 8707)."""
        form = {"grant_type": "client_credentials", "scope": "rerank", "resource": audience}
        headers = {"authorization": aiohttp.encode_basic_auth("search", "test")}
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.token_endpoint, data=form, headers=headers) as answer,
        ):
            assert answer.status == 200
            body = await answer.json()
        assert body["token_type"] == "Bearer"
        token: str = body["access_token"]
        return token


async def verified(issuer: RunningIssuer, token: str, **changes: Any) -> Principal:
    usual = {"issuer": issuer.url, "audiences": (AUDIENCE,), "insecure_http": True, "claims": {"tenant": "tenant"}}
    verifier = Verifier([IssuerSettings.model_validate(usual | changes)])
    await verifier.start()
    try:
        assert verifier.ready
        return await verifier.verify(token, (), time.time())
    finally:
        await verifier.stop()


class IssuerContract:
    """The truths; the fixture `issuer` names the issuer they are asked of."""

    async def test_an_access_token_names_its_caller(self, issuer: RunningIssuer) -> None:
        caller = await verified(issuer, await issuer.token())
        assert (caller.issuer, caller.subject, caller.tenant) == (issuer.url, "search", "acme")
        assert (caller.groups, caller.scopes, caller.kind) == (("search", "eu"), ("rerank",), "service")
        assert caller.token_id
        assert 0 < caller.expires - time.time() <= 300

    async def test_an_access_token_carries_the_type_of_rfc_9068(self, issuer: RunningIssuer) -> None:
        caller = await verified(issuer, await issuer.token(), typ=("at+jwt",))
        assert caller.claims["client_id"] == "search"

    async def test_two_tokens_have_different_ids(self, issuer: RunningIssuer) -> None:
        callers = [await verified(issuer, await issuer.token()) for _ in range(2)]
        assert callers[0].token_id != callers[1].token_id

    async def test_a_token_for_another_audience_is_refused(self, issuer: RunningIssuer) -> None:
        token = await issuer.token("https://other.example")
        with pytest.raises(GateError) as refusal:
            await verified(issuer, token)
        assert (refusal.value.reason, refusal.value.detail) == (Reason.TOKEN_INVALID, "audience")

    async def test_a_changed_signature_is_refused(self, issuer: RunningIssuer) -> None:
        head, payload, signature = (await issuer.token()).split(".")
        changed = ("B" if signature[0] == "A" else "A") + signature[1:]
        with pytest.raises(GateError) as refusal:
            await verified(issuer, f"{head}.{payload}.{changed}")
        assert (refusal.value.reason, refusal.value.detail) == (Reason.TOKEN_INVALID, "signature")
