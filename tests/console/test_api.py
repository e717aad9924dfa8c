"""The API as programs of people meet it: whose tokens are taken, what is answered."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fakes.console import AUDIENCE, Running, problem, running
from fakes.desk_store import make_ask
from fakes.issuer import signing_key

from rankgate.approvals import Ask, record_digest

PEOPLE = [
    "/api/v1/me", "/api/v1/approvals", "/api/v1/approvals/apr-1", "/api/v1/reviews", "/api/v1/events",
]  # fmt: skip


@pytest.fixture
async def console() -> AsyncIterator[Running]:
    async with running() as one:
        yield one


def put(console: Running, number: int = 1, **members: Any) -> Ask:
    ask = make_ask(number, console.table.now_ms, **members)
    console.table.store.put(ask)
    return ask


async def vote(console: Running, ask: Ask, word: str = "approve", token: str | None = None, **body: Any) -> Any:
    given = {"record": record_digest(ask.encode()), "reason": "fine"} | body
    async with console.api(token) as api:
        return await api.post(f"/api/v1/approvals/{ask.id}/{word}", json=given)


async def test_where_to_log_in_is_told_to_anybody(console: Running) -> None:
    async with console.browser() as nobody:
        answer = await nobody.get("/api/v1/openid")
    assert answer.json() == {
        "issuer": console.issuer.url, "client_id": "cli", "audience": AUDIENCE,
        "scopes": ["openid", "profile", "email", "groups"],
    }  # fmt: skip


@pytest.mark.parametrize("path", PEOPLE)
async def test_everything_else_needs_a_token(console: Running, path: str) -> None:
    async with console.browser() as nobody:
        answer = await nobody.get(path)
    assert problem(answer) == (401, "login_required")
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("claims", "refusal"),
    [
        ({"aud": "rerank"}, (401, "login_required")),
        ({"aud": "console"}, (401, "login_required")),
        ({"iss": "https://other.example"}, (401, "login_required")),
        ({"iat": int(time.time()) - 900, "exp": int(time.time()) - 600}, (401, "login_required")),
        ({"key": signing_key("attacker")}, (401, "login_required")),
        ({"nonce": "n"}, (401, "login_required")),
        ({"sub": "cli"}, (403, "no_person")),
        ({"sub": "job", "azp": "job"}, (403, "no_person")),
        ({"auth_time": None}, (403, "no_person")),
        ({"idtyp": "app"}, (403, "no_person")),
        ({"groups": "approvers"}, (401, "login_required")),
        ({"email": ["ada"]}, (403, "no_person")),
        ({"auth_time": "now"}, (403, "no_person")),
    ],
    ids=[
        "audience", "id audience", "issuer", "expired", "key", "id token", "client credentials", "own credentials",
        "no login", "app", "groups", "name", "time",
    ],
)  # fmt: skip
async def test_only_fresh_tokens_of_people_for_this_audience_are_taken(
    console: Running, claims: dict[str, Any], refusal: tuple[int, str]
) -> None:
    async with console.api(console.issuer.access_token(**claims)) as api:
        assert problem(await api.get("/api/v1/me")) == refusal


async def test_a_person_is_told_who_they_are(console: Running) -> None:
    async with console.api(console.issuer.access_token(groups=["approvers", "operators"])) as api:
        told = (await api.get("/api/v1/me")).json()
    assert (told["subject"], told["name"], told["roles"]) == ("ada", "ada@acme.example", ["operate"])
    assert told["names"] == ["ada@acme.example", "ada"]


async def test_a_request_is_approved_and_listed(console: Running) -> None:
    ask = put(console, preview=console.table.sealed())
    async with console.api() as api:
        (item,) = (await api.get("/api/v1/approvals")).json()["approvals"]
        assert (item["id"], item["state"], item["needed"]) == (ask.id, "pending", 1)
        assert item["caller"]["subject"] == "search"
        assert item["opened"].endswith("Z")
        assert "preview" not in item
        shown = (await api.get(f"/api/v1/approvals/{ask.id}")).json()
        assert shown["preview"]["documents"][1] == [1, "about <EMAIL_ADDRESS>"]
        answer = await vote(console, ask, record=shown["record"], use_within_s=60)
        assert answer.json()["state"] == "approved"
        assert (await api.get("/api/v1/approvals?state=pending")).json() == {"approvals": []}
        assert len((await api.get("/api/v1/approvals?state=approved&limit=1")).json()["approvals"]) == 1


@pytest.mark.parametrize(
    ("claims", "body", "refusal"),
    [
        ({"groups": ["cooks", "viewers"]}, {}, (403, "group")),
        ({"groups": ["cooks"]}, {}, (404, "not_found")),
        ({"email": "Search@acme.example"}, {}, (403, "self")),
        ({"email": "olga@acme.example"}, {}, (403, "owner")),
        ({"auth_time": int(time.time()) - 3700}, {}, (401, "login_stale")),
        ({"auth_time": int(time.time()) + 10_000_000, "amr": ["pwd"]}, {"reason": " "}, (422, "reason_invalid")),
        ({}, {"reason": None}, (422, "reason_invalid")),
        ({}, {"record": "0" * 64}, (409, "record_changed")),
        ({}, {"extra": 1}, (422, "input_invalid")),
        ({}, {"use_within_s": True}, (422, "input_invalid")),
    ],
)
async def test_a_vote_that_may_not_be_is_refused_with_its_word(
    console: Running, claims: dict[str, Any], body: dict[str, Any], refusal: tuple[int, str]
) -> None:
    ask = put(console)
    answer = await vote(console, ask, token=console.issuer.access_token(**claims), **body)
    assert problem(answer) == refusal
    assert console.table.store.approvals[ask.id].votes == ()


async def test_a_stale_login_is_told_how_fresh_it_must_be(console: Running) -> None:
    token = console.issuer.access_token(auth_time=int(time.time()) - 3700)
    answer = await vote(console, put(console), token=token)
    assert 'error="insufficient_user_authentication", max_age="3600"' in answer.headers["www-authenticate"]


async def test_a_refusal_a_withdrawal_a_cancellation_and_a_revocation(console: Running) -> None:
    first, second, third = (put(console, number) for number in (1, 2, 3))
    assert (await vote(console, first, "deny")).json()["state"] == "denied"
    await vote(console, second)
    operator = console.issuer.access_token(sub="otto", email="otto@acme.example", groups=["operators"],
                                           preferred_username="otto")  # fmt: skip
    async with console.api() as api, console.api(operator) as boss:
        shown = (await api.get(f"/api/v1/approvals/{second.id}")).json()
        back = await api.post(f"/api/v1/approvals/{second.id}/withdraw", json={"record": shown["record"]})
        assert back.json()["state"] == "pending"
        assert problem(await api.post(f"/api/v1/approvals/{third.id}/cancel", json={"reason": "x"})) == (
            403, "role_missing",
        )  # fmt: skip
        gone = await boss.post(f"/api/v1/approvals/{third.id}/cancel", json={"reason": "x"})
        assert gone.json()["state"] == "cancelled"
        await vote(console, second)
        console.table.now_ms += 1
        revoked = await boss.post("/api/v1/revocations", json={"person": "ada@acme.example", "reason": "left"})
        assert revoked.json() == {"people": [f"{console.issuer.url} ada"], "approvals": 1}


async def test_a_review_is_listed_and_closed(console: Running) -> None:
    review = make_ask(9, console.table.now_ms, break_glass="the index was down")
    console.table.store.put_review(review)
    operator = console.issuer.access_token(sub="otto", email="otto@acme.example", groups=["operators"])
    async with console.api(operator) as boss:
        (item,) = (await boss.get("/api/v1/reviews")).json()["reviews"]
        assert (item["reason"], item["may_close"], item["closed"]) == ("the index was down", True, None)
        closed = await boss.post(f"/api/v1/reviews/{review.id}/close", json={"reason": "fine"})
        assert closed.status_code == 204
        assert (await boss.get("/api/v1/reviews")).json() == {"reviews": []}
        assert len((await boss.get("/api/v1/reviews?state=closed")).json()["reviews"]) == 1


async def test_a_record_with_times_that_are_no_dates_hides_no_other(console: Running) -> None:
    fine = put(console)
    console.table.store.put(make_ask(77, opened_ms=2**62, expires_ms=2**62))
    async with console.api() as api:
        listed = {one["id"]: one for one in (await api.get("/api/v1/approvals")).json()["approvals"]}
    assert len(listed) == 2 and listed[fine.id]["opened"]
    assert listed[make_ask(77).id]["opened"] is None


@pytest.mark.parametrize(
    "path",
    ["approvals?state=lost", "approvals?limit=0", "approvals?limit=201", "approvals?limit=1&limit=2",
     "approvals?before=..%2f", "approvals?who=me", "reviews?state=all", "events?after=x"],
)  # fmt: skip
async def test_a_query_that_is_not_understood_is_refused(console: Running, path: str) -> None:
    async with console.api() as api:
        assert problem(await api.get(f"/api/v1/{path}")) == (422, "input_invalid")


async def test_a_body_is_strict_json_of_its_type_and_size(console: Running) -> None:
    path = f"/api/v1/approvals/{put(console).id}/approve"
    json_type = {"content-type": "application/json"}
    async with console.api() as api:
        assert problem(await api.post(path, content=b'{"record":"a","record":"b"}', headers=json_type)) == (
            422, "input_invalid",
        )  # fmt: skip
        assert problem(await api.post(path, data={"record": "a"})) == (415, "type_refused")
        assert problem(await api.post(path, content=b" " * 70_000, headers=json_type)) == (413, "too_large")

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(70):
                yield b" " * 1000

        assert problem(await api.post(path, content=chunks(), headers=json_type)) == (413, "too_large")


async def test_a_session_never_opens_the_api_and_a_token_never_a_page(console: Running) -> None:
    async with console.browser() as browser:
        await console.log_in(browser)
        assert problem(await browser.get("/api/v1/me")) == (401, "login_required")
    async with console.api() as api:
        assert (await api.get("/")).status_code == 401


async def test_another_sites_page_cannot_use_the_api(console: Running) -> None:
    ask = put(console)
    path, body = f"/api/v1/approvals/{ask.id}/approve", {"record": record_digest(ask.encode()), "reason": "x"}
    async with console.api() as api:
        for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
            assert problem(await api.post(path, json=body, headers=headers)) == (403, "origin_refused")


async def test_unknown_paths_and_methods_are_problems_too(console: Running) -> None:
    async with console.api() as api:
        assert problem(await api.get("/api/v1/nothing")) == (404, "not_found")
        assert problem(await api.put("/api/v1/me", json={})) == (405, "method_refused")


async def test_who_tries_too_often_has_to_wait(console: Running) -> None:
    told: list[tuple[int, str]] = []
    # Tries come back with time: a slow machine gets some more.
    async with console.api() as api:
        while (429, "rate_limited") not in told and len(told) < 1000:
            told.append(problem(await api.post("/api/v1/revocations", json={})))
    assert told[-1] == (429, "rate_limited") and len(told) > 60
