"""What stands around every route."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx
import pytest
import structlog
from fakes.console import ORIGIN, Running, running
from fakes.desk_store import make_ask

from rankgate.approvals import record_digest

OURS = {"origin": ORIGIN}


@pytest.fixture
async def console() -> AsyncIterator[Running]:
    async with running() as one:
        yield one


@pytest.fixture
async def browser(console: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with console.browser() as one:
        await console.log_in(one)
        yield one


def token(console: Running) -> str:
    (session,) = console.sessions._sessions.values()
    return session.person.csrf


def form(console: Running, **changes: str) -> tuple[str, dict[str, str]]:
    ask = make_ask(1, console.table.now_ms)
    console.table.store.put(ask)
    given = {"csrf": token(console), "record": record_digest(ask.encode()), "choice": "approve", "reason": "fine"}
    return f"/approvals/{ask.id}/vote", given | changes


def routes(console: Running) -> list[tuple[str, str]]:
    found = []
    for route in console.app.routes:
        for method in sorted(getattr(route, "methods", None) or {"GET"}):
            path = route.path.replace("{approval}", "apr-1").replace("{decision}", "d").replace("{review}", "r")
            found.append((method, path if path != "/static" else "/static/console.css"))
    return found


async def test_every_answer_carries_the_headers(console: Running) -> None:
    async with console.browser() as nobody:
        for method, path in [*routes(console), ("GET", "/nothing"), ("TRACE", "/")]:
            answer = await nobody.request(method, path)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy, path
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert answer.headers["cross-origin-opener-policy"] == "same-origin"
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"
            assert answer.headers["permissions-policy"]
            assert answer.headers["cache-control"] == "no-store", path
            assert "server" not in answer.headers


async def test_nothing_but_what_is_public_is_served_without_a_login(console: Running) -> None:
    public = {"/livez", "/readyz", "/login", "/login/callback", "/logged-out", "/api/v1/openid", "/static/console.css"}
    async with console.browser() as nobody:
        for method, path in routes(console):
            if path not in public:
                answer = await nobody.request(method, path, headers=OURS if method == "POST" else {})
                assert answer.status_code == 401, (method, path)


async def test_only_the_name_that_people_use_is_answered(console: Running, browser: httpx.AsyncClient) -> None:
    for host in ("evil.example", "127.0.0.1", "127.0.0.1:8090.evil.example", "localhost:8090", ""):
        assert (await browser.get("/", headers={"host": host})).status_code == 421, host
    assert (await browser.get("/livez", headers={"host": "10.0.0.1:8090"})).text == "ok"


async def test_a_vote_by_form_with_the_sessions_token_counts(console: Running, browser: httpx.AsyncClient) -> None:
    path, given = form(console)
    assert (await browser.post(path, data=given, headers=OURS)).status_code == 303
    (stored,) = console.table.store.approvals.values()
    assert stored.state == "approved"


async def test_a_browser_that_writes_null_for_its_own_form_is_believed(
    console: Running, browser: httpx.AsyncClient
) -> None:
    path, given = form(console)
    headers = {"origin": "null", "sec-fetch-site": "same-origin"}
    assert (await browser.post(path, data=given, headers=headers)).status_code == 303


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:8091"},
        {"origin": ORIGIN, "sec-fetch-site": "cross-site"},
        {"origin": ORIGIN, "sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
    ],
)
async def test_what_another_site_sent_is_refused(
    console: Running, browser: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    path, given = form(console)
    assert (await browser.post(path, data=given, headers=headers)).status_code == 403
    (stored,) = console.table.store.approvals.values()
    assert stored.votes == ()


@pytest.mark.parametrize("csrf", ["", "x", "é"])
async def test_a_form_without_its_sessions_token_is_refused(
    console: Running, browser: httpx.AsyncClient, csrf: str
) -> None:
    path, given = form(console, csrf=csrf)
    assert (await browser.post(path, data=given, headers=OURS)).status_code == 403
    del given["csrf"]
    assert (await browser.post(path, data=given, headers=OURS)).status_code == 403
    assert (await browser.post(path, json=given, headers=OURS)).status_code == 415
    given["csrf"] = token(console)
    assert (await browser.post(f"{path}?csrf={given.pop('csrf')}", data=given, headers=OURS)).status_code == 403


async def test_the_token_of_another_session_is_worth_nothing(console: Running, browser: httpx.AsyncClient) -> None:
    path, given = form(console)
    async with console.browser() as other:
        await console.log_in(other, sub="bob", email="bob@acme.example", preferred_username="bob")
        assert (await other.post(path, data=given, headers=OURS)).status_code == 403


async def test_a_large_form_is_not_read_to_its_end(console: Running, browser: httpx.AsyncClient) -> None:
    path, given = form(console, reason="x" * 70_000)
    assert (await browser.post(path, data=given, headers=OURS)).status_code == 413


async def test_a_fault_of_ours_tells_nothing_but_that_there_was_one(
    console: Running, browser: httpx.AsyncClient
) -> None:
    console.table.store.failing = RuntimeError("redis://user:s3cret@host")
    with structlog.testing.capture_logs() as logs:
        page = await browser.get("/")
        async with console.api() as api:
            answer = await api.get("/api/v1/approvals")
    assert (page.status_code, answer.status_code) == (500, 500)
    for text in (page.text, answer.text, json.dumps(logs, default=str)):
        assert "s3cret" not in text
        assert "RuntimeError(" not in text
        assert "Traceback" not in text
    assert any(entry["event"] == "request_failed" and entry["error"] == "RuntimeError" for entry in logs)


async def test_the_access_log_has_no_query_no_cookie_and_no_token(console: Running) -> None:
    with structlog.testing.capture_logs() as logs:
        async with console.browser() as browser:
            await console.log_in(browser)
            await browser.get("/history?subject=somebody")
        async with console.api() as api:
            await api.get("/api/v1/me")
            await api.get("/livez")
        cookie = browser.cookies["rankgate"]
    written = json.dumps(logs, default=str)
    assert {entry["path"] for entry in logs if entry["event"] == "request"} >= {"/login", "/history", "/api/v1/me"}
    for text in ("somebody", "abc", "Bearer", "eyJ", cookie, "/livez"):
        assert text not in written, text


async def test_an_error_page_shows_no_word_of_the_request(console: Running, browser: httpx.AsyncClient) -> None:
    answer = await browser.get("/<script>alert(1)</script>?<script>")
    assert answer.status_code == 404
    assert "alert(1)" not in answer.text


async def test_files_that_are_named_by_their_content_are_kept(console: Running) -> None:
    async with console.browser() as nobody:
        answer = await nobody.get("/static/console.css?abc")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "public, max-age=31536000, immutable")


async def test_a_console_without_its_store_is_alive_and_not_ready(console: Running) -> None:
    async with console.browser() as nobody:
        assert (await nobody.get("/readyz")).status_code == 200
        console.table.store.failing = RuntimeError()
        assert (await nobody.get("/readyz")).status_code == 503
        assert (await nobody.get("/livez")).status_code == 200
