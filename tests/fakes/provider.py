"""The certified OpenID provider as a process, and a person's browser that logs in at it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

__all__ = ["log_in_at", "provider_folder", "running_provider"]

ROOT = Path(__file__).parents[2]
PROVIDER = ROOT / "tests" / "fakes" / "oidc_provider"


def provider_folder() -> Path:
    """Return a folder with the provider's packages: RANKGATE_TEST_NPM if set, else installed once by the lock."""
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
    return folder


@asynccontextmanager
async def running_provider(origin: str) -> AsyncIterator[str]:
    """Start the provider for a console at `origin`; yield its issuer URL."""
    folder, text = provider_folder(), (PROVIDER / "server.mjs").read_bytes()
    # Named by what it holds: the packages' folder is shared by checkouts with other servers.
    server = folder / f"server-{hashlib.sha256(text).hexdigest()[:12]}.mjs"
    if not server.exists():
        server.write_bytes(text)
    process = await asyncio.create_subprocess_exec(
        "node", server.name, origin, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), 30)
        yield json.loads(line)["issuer"]
    finally:
        process.kill()
        await process.wait()


async def log_in_at(url: str, name: str, browser: httpx.AsyncClient) -> str:
    """Follow a login at the provider from `url` as `name`; return where it sends the browser back to."""
    issuer = httpx.URL(url).host, httpx.URL(url).port
    for _ in range(10):
        answer = await browser.get(url)
        if answer.status_code == 200 and "/interaction/" in url:
            answer = await browser.post(url, data={"login": name})
        assert answer.is_redirect, (answer.status_code, answer.text[:200])
        url = urljoin(url, answer.headers["location"])
        if (httpx.URL(url).host, httpx.URL(url).port) != issuer:
            return url
    raise AssertionError("the login does not end")
