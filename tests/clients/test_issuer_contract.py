"""Our development issuer and the certified npm oidc-provider keep the same contract."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from clients.contract_issuer import AUDIENCE, IssuerContract, RunningIssuer

from rankgate.demo.issuer import DevClient, DevIssuer

CLIENT = DevClient(
    "search", "test", tenant="acme", groups=("search", "eu"), audiences=(AUDIENCE, "https://other.example")
)
ROOT = Path(__file__).parents[2]
PROVIDER = ROOT / "tests" / "fakes" / "oidc_provider"


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


@pytest.fixture(scope="module")
def provider() -> Path:
    """Return a folder with server.mjs and its packages: RANKGATE_TEST_NPM if set, else installed once by the lock."""
    if shutil.which("node") is None:
        pytest.skip("node is not on PATH")
    given = os.environ.get("RANKGATE_TEST_NPM")
    folder = Path(given) if given else ROOT / ".cache" / "oidc-provider"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "node_modules" / "oidc-provider").is_dir():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("npm is not on PATH")
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copyfile(PROVIDER / name, folder / name)
        installed = subprocess.run(
            [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=folder, capture_output=True, check=False
        )
        if installed.returncode != 0:
            pytest.skip("npm could not install oidc-provider")
    shutil.copyfile(PROVIDER / "server.mjs", folder / "server.mjs")
    return folder


@pytest.mark.npm
class TestOidcProvider(IssuerContract):
    @pytest.fixture
    async def issuer(self, provider: Path) -> AsyncIterator[RunningIssuer]:
        process = await asyncio.create_subprocess_exec(
            "node", "server.mjs", cwd=provider, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        assert process.stdout is not None
        try:
            line = await asyncio.wait_for(process.stdout.readline(), 30)
            url = json.loads(line)["issuer"]
            yield RunningIssuer(url, f"{url}/token")
        finally:
            process.kill()
            await process.wait()
