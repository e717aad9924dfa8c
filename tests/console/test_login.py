"""Logging in: what the issuer's answer must be before anybody is anybody."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fakes.console import Running, running
from fakes.issuer import signing_key

from rankgate.console.site import CALLBACK

NOW = int(time.time())


@pytest.fixture
async def console() -> AsyncIterator[Running]:
    async with running() as one:
        yield one


@pytest.fixture
async def browser(console: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with console.browser() as one:
        yield one


async def form(browser: httpx.AsyncClient, console: Running) -> dict[str, str]:
    """Return the form token of the browser's session, as the pages are handed it."""
    (session,) = console.sessions._sessions.values()
    return {"csrf": session.person.csrf}


async def test_a_login_asks_for_a_code_with_a_challenge_a_state_and_a_nonce(
    console: Running, browser: httpx.AsyncClient
) -> None:
    asked = await console.begun(browser)
    assert asked["redirect_uri"] == f"{console.settings.origin}/login/callback"
    assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
    assert asked["scope"].split() == ["openid", "profile", "email", "groups"]
    assert len({asked[name] for name in ("state", "nonce", "code_challenge")}) == 3
    assert asked["max_age"] == "28800"
    again = await console.begun(browser, "?again=1")
    assert (again["prompt"], again["max_age"]) == ("login", "0")
    assert again["state"] != asked["state"]


async def test_who_logged_in_sees_the_pages_and_the_code_was_redeemed_with_secret_and_verifier(
    console: Running, browser: httpx.AsyncClient
) -> None:
    assert (await browser.get("/")).status_code == 401
    answer = await console.log_in(browser)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert (await browser.get("/")).status_code == 200
    (redeemed,) = console.issuer.forms
    assert redeemed["code"] == "abc"
    assert len(redeemed["code_verifier"]) >= 43
    # The secret has characters that must be form-encoded before they are joined (RFC 6749 section 2.3.1).
    assert httpx.BasicAuth("console", "s3cret%3A%2F")._auth_header == redeemed["authorization"]
    assert console.table.journal.kinds == ["login"]


async def test_a_public_client_names_itself_and_one_that_must_post_its_secret_posts_it() -> None:
    async with running(secret=None) as public, public.browser() as browser:
        assert (await public.log_in(browser)).status_code == 303
        (redeemed,) = public.issuer.forms
        assert (redeemed["client_id"], redeemed["authorization"]) == ("console", "")
    async with running() as posting, posting.browser() as browser:
        posting.issuer.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
        assert (await posting.log_in(browser)).status_code == 303
        (redeemed,) = posting.issuer.forms
        assert (redeemed["client_secret"], redeemed["authorization"]) == ("s3cret:/", "")


@pytest.mark.parametrize(
    ("next_path", "goes_to"),
    [
        ("/approvals/apr-1", "/approvals/apr-1"),
        ("//evil.example", "/"),
        ("https://evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/login", "/"),
        ("/a\nb", "/"),
    ],
)
async def test_a_login_returns_to_a_page_of_ours_and_nowhere_else(
    console: Running, browser: httpx.AsyncClient, next_path: str, goes_to: str
) -> None:
    begun = await browser.get("/login", params={"next": next_path})
    asked = httpx.URL(begun.headers["location"]).params
    console.issuer.nonce = asked["nonce"]
    query = {"code": "abc", "state": asked["state"], "iss": console.issuer.url}
    assert (await browser.get(CALLBACK, params=query)).headers["location"] == goes_to


@pytest.mark.parametrize(
    "change",
    [
        {"state": "x"}, {"state": None}, {"iss": "https://evil.example"}, {"iss": None}, {"code": None},
        {"error": "access_denied"}, {"code": ["a", "b"]}, {"code": "x" * 5000},
    ],
    ids=["state", "no state", "issuer", "no issuer", "no code", "error", "two codes", "long"],
)  # fmt: skip
async def test_an_answer_to_another_question_logs_nobody_in(
    console: Running, browser: httpx.AsyncClient, change: dict[str, Any]
) -> None:
    asked = await console.begun(browser)
    query = {"code": "abc", "state": asked["state"], "iss": console.issuer.url} | change
    answer = await browser.get(CALLBACK, params={name: value for name, value in query.items() if value is not None})
    assert answer.status_code == 400
    assert console.issuer.forms == []
    assert (await browser.get("/")).status_code == 401
    assert console.table.journal.kinds == ["login_refused"]


async def test_an_answer_without_the_browser_that_asked_logs_nobody_in(
    console: Running, browser: httpx.AsyncClient
) -> None:
    asked = await console.begun(browser)
    async with console.browser() as other:
        query = {"code": "abc", "state": asked["state"], "iss": console.issuer.url}
        assert (await other.get(CALLBACK, params=query)).status_code == 400


async def test_an_answer_is_good_once(console: Running, browser: httpx.AsyncClient) -> None:
    asked = await console.begun(browser)
    query = {"code": "abc", "state": asked["state"], "iss": console.issuer.url}
    assert (await browser.get(CALLBACK, params=query)).status_code == 303
    assert (await browser.get(CALLBACK, params=query)).status_code == 400


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "other"}, {"aud": ["console", "other"]}, {"aud": None}, {"azp": "other"}, {"nonce": "x"},
        {"nonce": None}, {"iss": "https://evil.example"}, {"exp": NOW - 60, "iat": NOW - 120}, {"iat": NOW - 600},
        {"iat": NOW + 600}, {"exp": NOW + 200_000}, {"sub": None}, {"sub": "a\u202eb"}, {"at_hash": "x"},
        {"typ": "Bearer"}, {"token_use": "access"}, {"events": {}}, {"exp": "soon"},
    ],
    ids=lambda claims: "-".join(claims),
)  # fmt: skip
async def test_an_id_token_is_for_us_from_the_issuer_fresh_and_of_this_login(
    console: Running, browser: httpx.AsyncClient, claims: dict[str, Any]
) -> None:
    answer = await console.log_in(browser, **claims)
    assert answer.status_code == 400
    assert (await browser.get("/")).status_code == 401


async def test_a_list_with_our_client_alone_is_our_client(console: Running, browser: httpx.AsyncClient) -> None:
    assert (await console.log_in(browser, aud=["console"], azp="console", typ="ID")).status_code == 303


@pytest.mark.parametrize("header", [{"typ": "at+jwt"}, {"alg": "none"}, {"kid": "unknown"}, {"jwk": {}}])
async def test_an_id_token_is_signed_as_settled(
    console: Running, browser: httpx.AsyncClient, header: dict[str, Any]
) -> None:
    console.issuer.id_header = header
    assert (await console.log_in(browser)).status_code == 400


async def test_a_key_that_the_issuer_changed_to_meanwhile_is_fetched(
    console: Running, browser: httpx.AsyncClient
) -> None:
    console.issuer.rotate()
    assert (await console.log_in(browser)).status_code == 303


async def test_a_key_that_is_not_the_issuers_signs_nothing(console: Running, browser: httpx.AsyncClient) -> None:
    attacker = signing_key("attacker")
    attacker_id, attacker.id = attacker.id, console.issuer.keys[-1].id
    try:
        console.issuer.answer = {"id_token": ""}
        asked = await console.begun(browser)
        console.issuer.answer = {"id_token": console.issuer.forge({"typ": "JWT"}, attacker, sub="ada", aud="console",
                                                                  nonce=asked["nonce"])}  # fmt: skip
        query = {"code": "abc", "state": asked["state"], "iss": console.issuer.url}
        assert (await browser.get(CALLBACK, params=query)).status_code == 400
    finally:
        attacker.id = attacker_id


@pytest.mark.parametrize("fault", ["html", "500", "404", "redirect", "huge", "hang", "empty", "not json", "array"])
async def test_a_token_endpoint_that_misbehaves_logs_nobody_in_and_nothing_is_followed(
    console: Running, browser: httpx.AsyncClient, fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rankgate.clients.openid.TIMEOUT_S", 0.5)
    console.issuer.fault = fault
    assert (await console.log_in(browser)).status_code in {400, 503}
    assert console.issuer.requests["elsewhere"] == 0
    assert console.table.journal.kinds == ["login_refused"]


async def test_an_issuer_that_names_another_or_sends_people_elsewhere_is_not_used(console: Running) -> None:
    for metadata in (
        {"issuer": "https://evil.example"}, {"authorization_endpoint": "https://evil.example/a"},
        {"token_endpoint": "https://evil.example/t"}, {"token_endpoint": None},
    ):  # fmt: skip
        async with running() as other, other.browser() as browser:
            other.issuer.metadata |= metadata
            assert (await browser.get("/login")).status_code == 503


async def test_a_login_ends_the_session_there_was_and_gets_a_name_nobody_knew(
    console: Running, browser: httpx.AsyncClient
) -> None:
    browser.cookies.set("rankgate", "planted", domain="127.0.0.1", path="/")
    await console.log_in(browser)
    first = browser.cookies["rankgate"]
    assert first != "planted"
    assert len(first) >= 43
    await console.log_in(browser)
    async with console.browser(cookies={"rankgate": first}) as thief:
        assert (await thief.get("/")).status_code == 401


async def test_a_cookie_is_for_http_and_this_host_alone(console: Running, browser: httpx.AsyncClient) -> None:
    answer = await console.log_in(browser)
    cookie = next(one for one in answer.headers.get_list("set-cookie") if one.startswith("rankgate="))
    assert {"httponly", "path=/", "samesite=lax"} <= {part.strip().lower() for part in cookie.split(";")}
    assert "domain" not in cookie.lower()
    async with running(origin="https://console.example") as secure, secure.browser() as other:
        answer = await secure.log_in(other)
        cookie = next(one for one in answer.headers.get_list("set-cookie") if one.startswith("__Host-rankgate="))
        assert "; secure" in cookie.lower()
        assert answer.headers["strict-transport-security"]


async def test_a_logout_ends_the_session_here_and_then_at_the_issuer(
    console: Running, browser: httpx.AsyncClient
) -> None:
    await console.log_in(browser)
    name, token = browser.cookies["rankgate"], await form(browser, console)
    answer = await browser.post("/logout", data=token, headers={"origin": console.settings.origin})
    away = httpx.URL(answer.headers["location"])
    assert (answer.status_code, away.path) == (303, "/logout")
    assert dict(away.params) == {
        "client_id": "console", "post_logout_redirect_uri": f"{console.settings.origin}/logged-out",
    }  # fmt: skip
    assert console.issuer.url in answer.headers["content-security-policy"]
    async with console.browser(cookies={"rankgate": name}) as thief:
        assert (await thief.get("/")).status_code == 401
    assert (await browser.get("/logged-out")).status_code == 200
    assert console.table.journal.kinds[-1] == "logout"


async def test_a_session_ends_by_age_and_by_idling_whatever_pages_ask_for_by_themselves() -> None:
    from fakes.clock import Clock
    from fakes.desk import person
    from starlette.requests import Request
    from starlette.responses import Response

    from rankgate.console.sessions import Sessions

    clock = Clock()

    def logged_in() -> tuple[Sessions, Request]:
        sessions = Sessions(secure=False, longest_s=1000, idle_s=100, clock=clock)
        response = Response()
        sessions.begin(Request({"type": "http", "headers": []}), response, person())
        cookie = response.headers.getlist("set-cookie")[0].partition(";")[0]
        return sessions, Request({"type": "http", "headers": [(b"cookie", cookie.encode())]})

    sessions, request = logged_in()
    for _ in range(10):
        assert sessions.person(request) is not None
        clock.advance(99)
    assert sessions.person(request) is not None
    clock.advance(10)
    assert sessions.person(request) is None

    sessions, request = logged_in()
    clock.advance(60)
    assert sessions.person(request, idle=True) is not None
    clock.advance(60)
    assert sessions.person(request) is None


async def test_names_that_are_only_claimed_are_not_the_name_that_is_shown(console: Running) -> None:
    from rankgate.console.naming import person_from

    claims = {
        "sub": "eve", "iat": NOW, "email": "Ada@acme.example", "email_verified": False, "preferred_username": "eve",
    }  # fmt: skip
    found = person_from(claims, console.settings.login, console.settings.roles)
    assert (found.name, found.voter.names) == ("eve", ("eve", "ada@acme.example"))


async def test_a_second_factor_can_be_asked_for(console: Running) -> None:
    async with running(login={"acr_values": ["mfa"]}) as strict, strict.browser() as browser:
        assert (await strict.begun(browser))["acr_values"] == "mfa"
        assert (await strict.log_in(browser)).status_code == 400
        assert (await strict.log_in(browser, acr="mfa")).status_code == 303
        async with strict.api() as api:
            assert (await api.get("/api/v1/me")).status_code == 401


async def test_groups_can_come_from_userinfo_about_the_same_person(console: Running) -> None:
    async with running(login={"userinfo": True}) as other, other.browser() as browser:
        other.issuer.said = {"sub": "ada", "groups": ["viewers"]}
        assert (await other.log_in(browser, groups=None)).status_code == 303
        (session,) = other.sessions._sessions.values()
        assert session.person.voter.groups == ("viewers",)
        other.issuer.said = {"sub": "eve", "groups": ["viewers"]}
        assert (await other.log_in(browser, groups=None)).status_code == 400


async def test_a_login_that_cannot_be_journaled_does_not_happen(console: Running, browser: httpx.AsyncClient) -> None:
    from rankgate.console.refusals import Refusal, RefusedError

    asked = await console.begun(browser)
    console.table.journal.full = RefusedError(Refusal.JOURNAL_UNAVAILABLE)
    query = {"code": "abc", "state": asked["state"], "iss": console.issuer.url}
    assert (await browser.get(CALLBACK, params=query)).status_code == 503
    console.table.journal.full = None
    assert (await browser.get("/")).status_code == 401


async def test_the_issuer_is_not_asked_without_end_and_junk_keeps_nobody_out(console: Running) -> None:
    async with console.browser() as stranger:
        for _ in range(100):
            assert (await stranger.get(CALLBACK)).status_code == 400
    # What is journaled of that is bounded as well.
    assert console.table.journal.kinds == ["login_refused"] * 60
    statuses: list[int] = []
    async with console.browser() as browser:
        # Tries come back with time: a slow machine gets some more.
        while 429 not in statuses and len(statuses) < 1000:
            statuses.append((await console.log_in(browser)).status_code)
    assert statuses[-1] == 429 and set(statuses[:-1]) == {303} and len(statuses) > 30
    assert len(console.issuer.forms) == len(statuses) - 1
