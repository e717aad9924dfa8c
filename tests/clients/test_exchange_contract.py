"""Our token endpoint and the certified npm oidc-provider keep the same contract with the exchange broker."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from clients.contract_issuer import AUDIENCE, RunningIssuer
from fakes.lending import FORM, grant
from fakes.npm import oidc_provider
from fakes.token_endpoint import CLIENT_ID, CLIENT_SECRET, TokenEndpoint
from jose import jwt

from rankgate.clients.token_exchange import ExchangeBroker
from rankgate.credentials import Secret
from rankgate.demo.issuer import DevClient, DevIssuer
from rankgate.errors import GateError
from rankgate.settings import ExchangeSettings

ENGINE = "https://engine.example"
CLIENT = DevClient("search", "test", audiences=(AUDIENCE,))


class ExchangeContract:
    """The truths; `issuer` gives callers' tokens, `token_url` exchanges them."""

    @pytest.fixture
    def settings(self, token_url: str, tmp_path: Path) -> dict[str, Any]:
        secret = tmp_path / "secret"
        secret.write_text(CLIENT_SECRET)
        return {
            "token_url": token_url,
            "insecure_http": True,
            "client_id": CLIENT_ID,
            "client_secret_file": secret,
            "audiences": (ENGINE,),
            "scopes": ("rerank",),
        }

    async def lent(self, settings: dict[str, Any], token: str) -> str:
        broker = ExchangeBroker(ExchangeSettings.model_validate(settings), FORM, timeout_s=10.0)
        try:
            lease = await broker.lease(grant(token=Secret(token)))
        finally:
            await broker.stop()
        return lease.value.reveal().removeprefix("Bearer ")

    async def test_the_lent_token_is_for_the_engine_and_of_the_same_caller(
        self, issuer: RunningIssuer, settings: dict[str, Any]
    ) -> None:
        given = await issuer.token()
        found = jwt.get_unverified_claims(await self.lent(settings, given))
        assert found["sub"] == jwt.get_unverified_claims(given)["sub"]
        assert found["act"] == {"sub": CLIENT_ID}
        assert ENGINE in found["aud"]

    async def test_a_token_of_another_issuer_is_not_exchanged(
        self, issuer: RunningIssuer, settings: dict[str, Any]
    ) -> None:
        foreign = DevIssuer()
        foreign.url = issuer.url
        with pytest.raises(GateError) as caught:
            await self.lent(settings, foreign.mint(exp=int(time.time()) + 60))
        assert caught.value.detail == "exchange: invalid_grant"

    async def test_another_secret_is_refused(
        self, issuer: RunningIssuer, settings: dict[str, Any], tmp_path: Path
    ) -> None:
        (tmp_path / "secret").write_text("another-secret")
        with pytest.raises(GateError) as caught:
            await self.lent(settings, await issuer.token())
        assert caught.value.detail == "exchange: invalid_client"


class TestOurEndpoint(ExchangeContract):
    @pytest.fixture
    async def running(self) -> AsyncIterator[DevIssuer]:
        one = DevIssuer([CLIENT])
        await one.start()
        yield one
        await one.stop()

    @pytest.fixture
    def issuer(self, running: DevIssuer) -> RunningIssuer:
        return RunningIssuer(running.url, f"{running.url}/token")

    @pytest.fixture
    async def token_url(self, running: DevIssuer) -> AsyncIterator[str]:
        async with TokenEndpoint(running) as endpoint:
            yield endpoint.url


@pytest.mark.npm
class TestOidcProvider(ExchangeContract):
    @pytest.fixture
    async def issuer(self) -> AsyncIterator[RunningIssuer]:
        async with oidc_provider() as url:
            yield RunningIssuer(url, f"{url}/token")

    @pytest.fixture
    def token_url(self, issuer: RunningIssuer) -> str:
        return issuer.token_endpoint
