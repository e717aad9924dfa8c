"""Our development issuer and the certified npm oidc-provider keep the same contract."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from clients.contract_issuer import AUDIENCE, IssuerContract, RunningIssuer
from fakes.npm import oidc_provider

from rankgate.demo.issuer import DevClient, DevIssuer

CLIENT = DevClient(
    "search", "test", tenant="acme", groups=("search", "eu"), audiences=(AUDIENCE, "https://other.example")
)


class TestDevIssuerRS256(IssuerContract):
    @pytest.fixture
    async def issuer(self) -> AsyncIterator[RunningIssuer]:
        running = DevIssuer([CLIENT], algorithm="RS256")
        await running.start()
        yield RunningIssuer(running.url, f"{running.url}/token")
        await running.stop()


class TestDevIssuerES256(IssuerContract):
    @pytest.fixture
    async def issuer(self) -> AsyncIterator[RunningIssuer]:
        running = DevIssuer([CLIENT], algorithm="ES256")
        await running.start()
        yield RunningIssuer(running.url, f"{running.url}/token")
        await running.stop()


@pytest.mark.npm
class TestOidcProvider(IssuerContract):
    @pytest.fixture
    async def issuer(self) -> AsyncIterator[RunningIssuer]:
        async with oidc_provider() as url:
            yield RunningIssuer(url, f"{url}/token")
