"""The whole way: an SDK waits, a person approves in a browser, the SDK gets its results, the receipt explains it."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

import cohere
import httpx
import pytest
from fakes.browsing import approve_in_browser, axe, chromium, standing
from flow.gate import Gate

from rankgate.approvals import State
from rankgate.console.keys import make_keys

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not on PATH"),
]

MAIL = "maren.oldfield@example.org"
POLICY = """
package rankgate

import rego.v1

decision := {"allowed": true, "rankgate": {"risk": "high", "approval": {"groups": ["approvers"]}}}
"""


async def rerank(gate: Gate) -> cohere.V2RerankResponse:
    with httpx.Client() as http:
        client = cohere.ClientV2(api_key=gate.token(), base_url=gate.url, httpx_client=http)
        return await asyncio.to_thread(
            client.rerank, model="rerank-v3.5", query=f"refund of {MAIL}", documents=["one", f"two {MAIL}"]
        )


def leaks(gate: Gate, folder: Path) -> list[Path]:
    """Return the console's files that hold a caller's token or the reranker's credential."""
    return [file for file in folder.rglob("*") if file.is_file() and gate.secrets_in(file.read_bytes())]


async def test_a_waiting_sdk_call_returns_once_somebody_approves_it_in_the_browser(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys")
    gate = Gate(policy=POLICY)
    url = f"unix://{gate.directory}/valkey.sock"
    gate.overrides = {
        "approvals": {
            "redis_url": url,
            "vote_keys": [str(keys.public)],
            "preview_recipient": keys.recipient,
            "owners": [{"subject": "search", "groups": ["search-owners"]}],
        }
    }
    async with gate, standing(tmp_path, url, url) as console, chromium() as browser:
        call = asyncio.create_task(rerank(gate))
        deadline = time.monotonic() + 10
        while not (waiting := await console.store.listing({State.PENDING}, 10)):
            assert time.monotonic() < deadline, "nothing waits"
            await asyncio.sleep(0.05)
        approval = f"{console.origin}/approvals/{waiting[0].ask.id}"
        # Who owns the machine can look, and is told that somebody else must agree.
        owner = await (await browser.new_context()).new_page()
        await owner.goto(approval)
        await owner.get_by_role("link", name="Sign in").click()
        await owner.get_by_label("Name").fill("olga")
        await owner.get_by_role("button", name="Log in").click()
        await owner.get_by_role("button", name="Sign out").wait_for()
        assert not await owner.get_by_role("button", name="Approve", exact=True).count()
        page = await (await browser.new_context()).new_page()
        await page.goto(approval)
        assert not call.done()
        await approve_in_browser(page, approval, "ada", "Known customer, case 88.")
        assert MAIL not in await page.content()
        answer = await call
        assert {result.index for result in answer.results} == {0, 1}
        assert len(gate.upstream.requests) == 1
        (decision,) = [one["body"]["metadata"]["correlation_uid"] for one in await gate.decisions()]
        await page.goto(f"{console.origin}/receipts/{decision}")
        await page.get_by_text("Known customer, case 88.").first.wait_for()
        assert await axe(page) == []
    assert leaks(gate, tmp_path) == []
