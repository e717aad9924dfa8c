"""The certified npm oidc-provider, installed once and run for a test."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path

import pytest

__all__ = ["oidc_provider"]

ROOT = Path(__file__).parents[2]
PROVIDER = ROOT / "tests" / "fakes" / "oidc_provider"


@cache
def installed() -> Path:
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
        done = subprocess.run(
            [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=folder, capture_output=True, check=False
        )
        if done.returncode != 0:
            pytest.skip("npm could not install oidc-provider")
    shutil.copyfile(PROVIDER / "server.mjs", folder / "server.mjs")
    return folder


@contextlib.asynccontextmanager
async def oidc_provider() -> AsyncIterator[str]:
    """Run the provider of server.mjs; yields its issuer URL. Skips where node or its packages cannot be had."""
    process = await asyncio.create_subprocess_exec(
        "node", "server.mjs", cwd=installed(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), 30)
        yield json.loads(line)["issuer"]
    finally:
        process.kill()
        await process.wait()
