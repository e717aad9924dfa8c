"""The console in a real browser: by keyboard alone, without scripts, while others change things, and for axe."""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from fakes.browsing import AXE, Standing, approve_in_browser, axe, chromium, deny_in_browser, log_in, standing
from fakes.valkey import Server
from fakes.valkey import running as valkey
from playwright.async_api import Browser, Page, expect

from ext_authz.server import new_decision_id
from rankgate.approvals import Preview, Requirement

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not on PATH"),
]

HOSTILE = Preview(
    '<script>alert("query")</script> \u202e' + "a long question " * 20, "be brief", ((0, "שלום"),), cut=True
)


@pytest.fixture(scope="module")
def redis() -> Iterator[Server]:
    with valkey() as server:
        yield server


@pytest.fixture
async def console(tmp_path: Path, redis: Server) -> AsyncIterator[Standing]:
    with redis.client() as client:
        client.flushall()
    async with standing(tmp_path, redis.url, redis.url) as one:
        yield one


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as one:
        yield one


async def tab_to(page: Page, selector: str, tabs: int = 40) -> None:
    """Press Tab until the focus is where it is wanted; it is seen on every way station."""
    for _ in range(tabs):
        await page.keyboard.press("Tab")
        assert await page.evaluate(
            "(e => e === document.body || getComputedStyle(e).outlineStyle !== 'none')(document.activeElement)"
        )
        if await page.evaluate("s => document.activeElement.matches(s)", selector):
            return
    raise AssertionError(f"{selector} is not reached by {tabs} tabs")


async def test_approving_by_keyboard_alone(console: Standing, browser: Browser) -> None:
    ask = await console.ask()
    page = await browser.new_page()
    await page.goto(console.origin)
    await tab_to(page, "a.primary")
    await page.keyboard.press("Enter")
    # The provider's own page puts the focus into its field.
    await page.get_by_label("Name").wait_for()
    await page.keyboard.type("ada")
    await page.keyboard.press("Enter")
    await page.get_by_role("heading", name="Waiting for a decision").wait_for()
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    await page.keyboard.press("j")
    await expect(page.get_by_role("link", name="search", exact=True)).to_be_focused()
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"**/approvals/{ask.id}")
    await tab_to(page, "textarea#reason")
    await page.keyboard.type("Known job, runs every Monday.")
    await tab_to(page, "button[value=approve]", 2)
    await page.keyboard.press("Enter")
    await page.get_by_role("heading", name="Approved").wait_for()
    assert (await console.read(ask)).state == "approved"
    await tab_to(page, "form[action$=withdraw] button")
    await page.keyboard.press("Enter")
    await page.get_by_role("heading", name="Waiting").wait_for()
    assert (await console.read(ask)).state == "pending"


async def test_denying_without_scripts(console: Standing, browser: Browser) -> None:
    ask = await console.ask()
    context = await browser.new_context(java_script_enabled=False)
    page = await context.new_page()
    await page.goto(f"{console.origin}/approvals/{ask.id}")
    await log_in(page, "ada")
    assert page.url == f"{console.origin}/approvals/{ask.id}"
    # The browser itself asks for what is missing.
    await page.get_by_role("button", name="Deny", exact=True).click()
    assert (await console.read(ask)).votes == ()
    await deny_in_browser(page, page.url, "ada", "Ask for the masked export instead.")
    assert (await console.read(ask)).state == "denied"
    await page.get_by_role("link", name="History", exact=True).first.click()
    await page.get_by_role("link", name="search").click()
    assert page.url == f"{console.origin}/approvals/{ask.id}"
    await page.get_by_role("button", name="Sign out").click()
    await page.goto(f"{console.origin}/history")
    await page.get_by_role("heading", name="Sign in to rankgate").wait_for()


async def test_what_others_do_is_seen_and_what_is_typed_stays(console: Standing, browser: Browser) -> None:
    first = await console.ask(requirement=Requirement(("approvers",), 2))
    pages = []
    async with AsyncExitStack() as stack:
        for login in ("ada", "bob"):
            context = await browser.new_context()
            stack.push_async_callback(context.close)
            page = await context.new_page()
            await page.goto(console.origin)
            await log_in(page, login)
            pages.append(page)
        ada, bob = pages
        queue = await ada.context.new_page()
        await queue.goto(console.origin)
        await expect(queue).to_have_title("(1) Queue · rankgate")
        await expect(queue.get_by_text("Up to date")).to_be_visible()
        await queue.locator(f"#open-{first.id}").focus()

        await ada.goto(f"{console.origin}/approvals/{first.id}")
        await ada.get_by_label("Reason", exact=True).fill("I am not done wri")
        second = await console.ask(model="another-model")
        await expect(queue.locator(f"#row-{second.id}")).to_be_visible(timeout=10_000)
        await expect(queue).to_have_title("(2) Queue · rankgate")
        await expect(queue.locator(f"#open-{first.id}")).to_be_focused()
        await expect(queue.get_by_role("status")).to_contain_text("New request of search")

        await approve_in_browser(bob, f"{console.origin}/approvals/{first.id}", "bob", "Checked with payroll.")
        await expect(ada.locator("#standing")).to_contain_text("Checked with payroll.", timeout=10_000)
        await expect(ada.get_by_label("Reason", exact=True)).to_have_value("I am not done wri")
        await expect(ada.get_by_role("button", name="Approve", exact=True)).to_be_enabled()

        # What was typed outlives the session, in this tab.
        await ada.context.clear_cookies()
        await ada.get_by_role("button", name="Approve", exact=True).click()
        await log_in(ada, "ada")
        assert ada.url == f"{console.origin}/approvals/{first.id}"
        await expect(ada.get_by_label("Reason", exact=True)).to_have_value("I am not done wri")

        await deny_in_browser(bob, f"{console.origin}/approvals/{second.id}", "bob", "no")
        await expect(queue.locator(f"#row-{second.id}")).to_have_count(0, timeout=10_000)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
async def test_pages_are_for_everybody(console: Standing, browser: Browser, width: int, scheme: str) -> None:
    assert AXE.exists(), "run tests/run.sh browser, which installs axe-core, or npm ci in tests/browser"
    waiting = await console.ask(HOSTILE, requirement=Requirement(("approvers",), 2), risk="critical")
    await console.ask(risk="medium", model='"><img src=x onerror=alert(1)>')
    denied = await console.ask()
    await console.review(break_glass="the index was down")
    context = await browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))

    await page.goto(console.origin)
    assert await axe(page) == []
    await log_in(page, "otto")
    await deny_in_browser(page, f"{console.origin}/approvals/{denied.id}", "otto", "no")
    complaints.clear()
    for path in (
        "/", f"/approvals/{waiting.id}", f"/approvals/{denied.id}", "/history", "/history?state=expired&subject=x",
        "/receipts", f"/receipts/{new_decision_id(time.time())}", "/reviews",
    ):  # fmt: skip
        await page.goto(f"{console.origin}{path}")
        for summary in await page.locator("summary").all():
            await summary.click()
        assert await axe(page) == [], path
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    # A status that is an error is told there too; nothing else may be.
    assert [text for text in complaints if not text.startswith("Failed to load resource: the server responded")] == []
