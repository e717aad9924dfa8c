"""The pages as people meet them: through the real guard, in a browser that runs no scripts."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fakes.console import ORIGIN, Running, running
from fakes.desk import person
from fakes.desk_store import make_ask
from fakes.events import DIGEST, completion, decision
from fakes.page import Form, Page
from fakes.valkey import Server
from fakes.valkey import running as valkey

from ext_authz.server import new_decision_id
from rankgate.approvals import Ask, Caller, Choice, Preview, Requirement, State, Vote, record_digest
from rankgate.audit import Approval, Ballot, Call
from rankgate.audit import Caller as AuditCaller
from rankgate.audit.entry import to_fields
from rankgate.audit.names import stream_key
from rankgate.audit.ocsf import Source, render
from rankgate.console import live, pages
from rankgate.console.site import Site

OPERATOR = {"groups": ["approvers", "operators"]}
MARKUP = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'{{7*7}}"
MOVES = "\u202egnp\u2066\x1b[31m\u200b"
HOSTILE = f"{MARKUP}{MOVES}"
UNSEEN = re.compile("[\u200b-\u200f\u202a-\u202e\u2066-\u2069\x1b]")


@pytest.fixture
async def console() -> AsyncIterator[Running]:
    async with running() as one:
        yield one


@pytest.fixture
async def ada(console: Running) -> AsyncIterator[httpx.AsyncClient]:
    """An approver who also operates the console."""
    async with console.browser() as one:
        await console.log_in(one, **OPERATOR)
        yield one


def put(console: Running, number: int = 1, preview: Preview | None = None, **members: Any) -> Ask:
    sealed = "" if preview is None else console.table.sealer.seal(preview)
    ask = make_ask(number, console.table.now_ms, **({"preview": sealed} | members))
    console.table.store.put(ask)
    return ask


def decide(console: Running, ask: Ask, who: str, choice: Choice, reason: str, state: State) -> None:
    """Let somebody have voted."""
    vote = Vote(
        approval=ask.id, record=record_digest(ask.encode()), use_digest=ask.use_digest, plan_digest=ask.plan_digest,
        requirement=ask.requirement, voter=person(who).voter, choice=choice, reason=reason,
        time_ms=console.table.now_ms, expires_ms=ask.expires_ms,
    )  # fmt: skip
    statement = console.table.signer.sign(vote)
    stored = console.table.store.approvals[ask.id]
    console.table.store.people[ask.id][vote.voter.person] = statement
    console.table.store.approvals[ask.id] = replace(stored, state=state, votes=(*stored.votes, statement), revision=1)


async def read(browser: httpx.AsyncClient, path: str, status: int = 200) -> Page:
    answer = await browser.get(path)
    assert answer.status_code == status, answer.text
    return Page(answer.text)


async def press(browser: httpx.AsyncClient, form: Form, button: str = "", **typed: str) -> httpx.Response:
    """Send a form as a browser does, after typing into it."""
    assert form.fields.keys() >= typed.keys()
    pressed = dict(named for named in form.buttons if named[1] == button)
    return await browser.post(form.action, data=form.fields | typed | pressed, headers={"origin": ORIGIN})


def harmless(page: Page) -> None:
    """Nothing in a page runs, looks or leads where we did not write it."""
    for element in page.elements:
        assert element.tag != "style"
        assert not any(
            name.startswith("on") or name in {"style", "srcdoc", "hx-on", "hx-vals"} for name in element.attributes
        )
        for name in ("src", "href", "action", "formaction", "hx-get"):
            value = element.get(name)
            assert value is None or re.fullmatch(r"(/(?!/)|#)[\w/.?=&%+-]*", value), (element.tag, name, value)
    assert [script["src"].partition("?")[0] for script in page.all("script")] == [
        "/static/htmx.min.js",
        "/static/live.js",
    ]
    assert not any(script.text for script in page.all("script"))
    assert not UNSEEN.search(page.source)


# --- what comes from outside


@pytest.fixture(scope="module")
def server() -> Any:
    with valkey() as one:
        yield one


def ship(server: Server, ms: int, **changes: Any) -> str:
    """Put a decision and its completion into the trail; return its id."""
    wanted = new_decision_id(ms / 1000)
    log = "pod-1/ext_authz-0/1"
    with server.client() as client:
        for number, event in enumerate(
            (
                decision(decision_id=wanted, time=ms, **changes),
                completion(decision_id=wanted, time=ms + 5, detail=HOSTILE),
            )
        ):
            leaf = render(event, Source("default", log, "0", DIGEST), number)
            client.xadd(stream_key("default", log), to_fields(leaf), id=f"{event.time}-{number}")
    return wanted


async def test_nothing_from_a_request_gets_out_of_its_place(server: Server) -> None:
    async with running(audit={"redis_url": server.url}) as console, console.browser() as browser:
        await console.log_in(browser, **OPERATOR, email=f"{MARKUP}@acme.example")
        now = console.table.now_ms
        caller = Caller(
            issuer=HOSTILE, subject=HOSTILE, tenant=HOSTILE, names=(HOSTILE,), owner_people=(), owner_groups=()
        )
        receipt = ship(
            server, now, caller=AuditCaller(HOSTILE, HOSTILE, HOSTILE, (HOSTILE,)), policy_reasons=(HOSTILE,),
            risk=HOSTILE, policy_revision=HOSTILE, detail=HOSTILE, lease=HOSTILE, findings={HOSTILE: 3}, trace=HOSTILE,
            call=Call(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, model=HOSTILE, document_count=1),
        )  # fmt: skip
        hostile: dict[str, Any] = {
            "caller": caller, "route": HOSTILE, "path": HOSTILE, "upstream": f"https://{HOSTILE}", "dialect": HOSTILE,
            "model": HOSTILE, "risk": HOSTILE, "reasons": (HOSTILE, HOSTILE), "policy_revision": HOSTILE,
            "findings": {HOSTILE: 2}, "decision_id": HOSTILE, "preview": console.table.sealer.seal(
                Preview(HOSTILE, HOSTILE, ((0, HOSTILE), (2, HOSTILE)), cut=True)
            ),
        }  # fmt: skip
        waiting = put(console, 1, requirement=Requirement(("approvers", HOSTILE), 2), **hostile)
        decide(console, waiting, HOSTILE, Choice.APPROVE, MARKUP, State.PENDING)
        used = put(console, 2, **(hostile | {"decision_id": receipt}))
        decide(console, used, "grace", Choice.APPROVE, HOSTILE, State.CONSUMED)
        stored = console.table.store.approvals[used.id]
        console.table.store.approvals[used.id] = replace(stored, used_by=receipt, note=HOSTILE)
        console.table.store.put_review(make_ask(3, now, break_glass=HOSTILE, **hostile))
        closed = make_ask(4, now, break_glass=HOSTILE, **hostile)
        console.table.store.put_review(closed)
        await console.table.store.close_review(closed.id, HOSTILE, HOSTILE)

        for path in (
            "/", f"/approvals/{waiting.id}", f"/approvals/{used.id}", "/history", f"/receipts/{receipt}", "/reviews",
        ):  # fmt: skip
            page = await read(browser, path)
            harmless(page)
            assert "alert(1)" in page.text
            assert "{{7*7}}" in page.text
        form = (await read(browser, f"/approvals/{waiting.id}")).form(f"/approvals/{waiting.id}/vote")
        again = Page((await press(browser, form, "approve", reason=MARKUP * 20)).text)
        harmless(again)
        assert again.form(form.action).fields["reason"] == MARKUP * 20
        for path in (f"/history?subject={'%22%3E%3Cscript%3E'}&before=", f"/receipts?id={'%22%3E%3Cscript%3E'}"):
            answer = await browser.get(path)
            harmless(Page(answer.text))


async def test_an_id_that_no_gate_made_leads_nowhere(console: Running, ada: httpx.AsyncClient) -> None:
    put(console, id="../../logout?x=")
    put(console, 2)
    assert len(list((await read(ada, "/")).all("li", **{"data-row": ""}))) == 1
    harmless(await read(ada, "/history"))
    # Closing this one would have cancelled the approval of that number.
    console.table.store.put_review(make_ask(3, console.table.now_ms, id=f"../approvals/{make_ask(2).id}/cancel?x="))
    async with console.browser() as operator:
        await console.log_in(operator, **OPERATOR)
        assert "/cancel?x=" not in (await operator.get("/reviews")).text


@pytest.mark.parametrize("path", ["/", "/history", "/receipts", "/reviews", "/approvals/apr-1", "/nothing"])
async def test_pages_of_ours_are_harmless_and_have_their_landmarks(
    console: Running, ada: httpx.AsyncClient, path: str
) -> None:
    page = Page((await ada.get(path)).text)
    harmless(page)
    assert page.one("html")["lang"] == "en"
    assert page.one("main")["id"] == "main"
    assert len(list(page.all("h1"))) == 1
    assert page.one("a", **{"class": "skip"})["href"] == "#main"
    ids = [element["id"] for element in page.elements if element.get("id") is not None]
    assert len(ids) == len(set(ids))


async def test_files_are_ours_and_may_be_kept(console: Running, ada: httpx.AsyncClient) -> None:
    page = await read(ada, "/")
    for element in [*page.all("script"), *page.all("link")]:
        answer = await ada.get(element.get("src") or element["href"])
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    config = json.loads(page.one("meta", name="htmx-config")["content"])
    assert (config["allowEval"], config["includeIndicatorStyles"], config["selfRequestsOnly"]) == (False, False, True)
    assert (config["allowScriptTags"], config["historyCacheSize"]) == (False, 0)


# --- the queue


async def test_an_empty_queue_says_so(console: Running, ada: httpx.AsyncClient) -> None:
    assert "Nothing waits for you" in (await read(ada, "/")).text


async def test_the_queue_begins_with_what_runs_out_first_and_tells_what_one_can_do(console: Running) -> None:
    now = console.table.now_ms
    late, soon = put(console, 1), put(console, 2, expires_ms=now + 60_000)
    owned = put(console, 3, caller=replace_owner(late, "ada@acme.example"), expires_ms=now + 950_000)
    agreed = put(console, 4)
    decide(console, agreed, "grace", Choice.APPROVE, "fine", State.APPROVED)
    put(console, 5, requirement=Requirement(("others",)))
    async with console.browser() as browser:
        await console.log_in(browser)
        page = await read(browser, "/")
    assert [row["id"] for row in page.all("li", **{"data-row": ""})] == [
        f"row-{ask.id}" for ask in (soon, late, owned, agreed)
    ]
    assert page.one("title").text == "(3) Queue · rankgate"
    assert "You own this machine, so someone else must decide." in page.text
    assert [link["id"] for link in page.all("a") if (link.get("id") or "").startswith("decide-")] == [
        f"decide-{soon.id}", f"decide-{late.id}",
    ]  # fmt: skip
    # Nobody looked at a preview yet.
    assert "preview_viewed" not in console.table.journal.kinds


def replace_owner(ask: Ask, name: str) -> Caller:
    return Caller(
        issuer=ask.caller.issuer,
        subject="owned",
        tenant="acme",
        names=("owned",),
        owner_people=(name,),
        owner_groups=(),
    )


# --- deciding


async def test_what_is_shown_before_a_decision(console: Running, ada: httpx.AsyncClient) -> None:
    preview = Preview("who is <PERSON>?", "be brief", ((0, "about <PERSON>"), (2, "dropped text")), cut=True)
    ask = put(console, preview=preview, requirement=Requirement(("approvers",), 2))
    decide(console, ask, "grace", Choice.APPROVE, "Checked with payroll.", State.PENDING)
    page = await read(ada, f"/approvals/{ask.id}")
    for said in (
        "search of acme wants to rank 3 documents with rerank-v3.5 at reranker.example.", "who is PERSON ?", "be brief",
        "documents[2] dropped", "documents[2] is dropped before ranking; 2 documents are ranked.",
        "the query names a person", "rev-1", "1 of 2 votes", "grace@acme.example", "Checked with payroll.",
        "An upstream credential (file) is lent", "risk high", "email address × 2",
    ):  # fmt: skip
        assert said in page.text.replace("PERSON?", "PERSON ?"), said
    assert "preview_viewed" in console.table.journal.kinds


async def test_an_approval_without_a_preview_says_so(console: Running, ada: httpx.AsyncClient) -> None:
    ask = put(console)
    assert "There is no preview" in (await read(ada, f"/approvals/{ask.id}")).text


@pytest.mark.parametrize(
    ("button", "usable", "state"),
    [("approve", "", "approved"), ("approve", "300", "approved"), ("deny", "300", "denied")],
)
async def test_deciding_without_scripts(
    console: Running, ada: httpx.AsyncClient, button: str, usable: str, state: str
) -> None:
    ask = put(console)
    form = (await read(ada, f"/approvals/{ask.id}")).form(f"/approvals/{ask.id}/vote")
    assert form.method == "post"
    assert form.fields["record"] == record_digest(ask.encode())
    assert form.buttons == [("choice", "approve"), ("choice", "deny")]
    answer = await press(ada, form, button, reason=" It was agreed.\r\nTicket 7. ", usable=usable)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/approvals/{ask.id}")
    stored = console.table.store.approvals[ask.id]
    assert stored.state == state
    vote = console.table.keys.vote(stored.votes[0])
    assert vote is not None
    assert (vote.choice, vote.reason) == (button, "It was agreed.\nTicket 7.")
    assert vote.use_until_ms == (console.table.now_ms + 300_000 if (button, usable) == ("approve", "300") else None)
    page = await read(ada, f"/approvals/{ask.id}")
    assert f"/approvals/{ask.id}/vote" not in [form.action for form in page.forms]
    assert "It was agreed." in page.text


@pytest.mark.parametrize("typed", ["", "  \n ", "x" * 1001, "a\x07bell"])
async def test_a_reason_that_is_missing_or_no_good_is_asked_for_again(
    console: Running, ada: httpx.AsyncClient, typed: str
) -> None:
    ask = put(console)
    form = (await read(ada, f"/approvals/{ask.id}")).form(f"/approvals/{ask.id}/vote")
    answer = await press(ada, form, "deny", reason=typed, usable="300")
    assert answer.status_code == 422
    page = Page(answer.text)
    field = page.one("textarea", id="reason")
    assert field["aria-invalid"] == "true"
    assert page.one("p", id=field["aria-describedby"].split()[0]).text.startswith("Give a reason")
    again = page.form(form.action)
    assert again.fields["usable"] == "300"
    assert again.fields["reason"] == typed
    assert console.table.store.approvals[ask.id].votes == ()


async def test_what_changed_meanwhile_is_told_and_what_was_typed_is_kept(
    console: Running, ada: httpx.AsyncClient
) -> None:
    ask = put(console)
    form = (await read(ada, f"/approvals/{ask.id}")).form(f"/approvals/{ask.id}/vote")
    other = replace_ask(ask, reasons=("another reason",))
    console.table.store.put(other)
    answer = await press(ada, form, "approve", reason="It was agreed.")
    assert answer.status_code == 409
    page = Page(answer.text)
    assert "This is not what you were shown." in page.text
    assert "another reason" in page.text
    again = page.form(form.action)
    assert again.fields["reason"] == "It was agreed."
    assert again.fields["record"] == record_digest(other.encode())


def replace_ask(ask: Ask, **changes: Any) -> Ask:
    return Ask(**({name: getattr(ask, name) for name in ask.__struct_fields__} | changes))


async def test_a_closed_approval_takes_no_vote(console: Running, ada: httpx.AsyncClient) -> None:
    ask = put(console)
    form = (await read(ada, f"/approvals/{ask.id}")).form(f"/approvals/{ask.id}/vote")
    decide(console, ask, "grace", Choice.DENY, "no", State.DENIED)
    answer = await press(ada, form, "approve", reason="It was agreed.")
    assert answer.status_code == 409
    assert "This is closed; nothing can be changed any more." in Page(answer.text).text


async def test_a_login_that_is_too_old_leads_through_the_login_and_back(
    console: Running, ada: httpx.AsyncClient
) -> None:
    ask = put(console)
    form = (await read(ada, f"/approvals/{ask.id}")).form(f"/approvals/{ask.id}/vote")
    console.table.now_ms += 3_700_000
    answer = await press(ada, form, "approve", reason="It was agreed.")
    page = Page(answer.text)
    assert answer.status_code == 401
    link = page.one("a", **{"class": "button primary"})["href"]
    assert link == f"/login?next=/approvals/{ask.id}&again=1"
    assert (await console.begun(ada, link.removeprefix("/login")))["prompt"] == "login"


async def test_a_session_that_ended_leads_back_to_the_same_page(console: Running, ada: httpx.AsyncClient) -> None:
    ask = put(console)
    form = (await read(ada, f"/approvals/{ask.id}")).form(f"/approvals/{ask.id}/vote")
    console.sessions._sessions.clear()
    sent = await press(ada, form, "approve", reason="It was agreed.")
    looked = await ada.get(f"/approvals/{ask.id}")
    for answer in (sent, looked):
        assert answer.status_code == 401
        page = Page(answer.text)
        harmless(page)
        assert page.one("a", **{"class": "button primary"})["href"] == f"/login?next=/approvals/{ask.id}"
    assert "what you sent was not taken" in sent.text


@pytest.mark.parametrize("csrf", [None, "", "wrong"])
async def test_a_form_without_its_token_is_refused(console: Running, ada: httpx.AsyncClient, csrf: str | None) -> None:
    ask = put(console)
    page = await read(ada, f"/approvals/{ask.id}")
    for form in page.forms:
        fields = form.fields | {"reason": "It was agreed."}
        del fields["csrf"]
        if csrf is not None:
            fields["csrf"] = csrf
        answer = await ada.post(form.action, data=fields, headers={"origin": ORIGIN})
        assert answer.status_code == 403, form.action
        harmless(Page(answer.text))
    assert console.table.store.approvals[ask.id].votes == ()


@pytest.mark.parametrize("fields", [{"choice": "maybe"}, {"usable": "31536000"}, {"choice": ""}])
async def test_a_form_that_nobody_was_given_is_refused(
    console: Running, ada: httpx.AsyncClient, fields: dict[str, str]
) -> None:
    ask = put(console)
    form = (await read(ada, f"/approvals/{ask.id}")).form(f"/approvals/{ask.id}/vote")
    given = form.fields | {"reason": "x", "choice": "approve"} | fields
    answer = await ada.post(form.action, data=given, headers={"origin": ORIGIN})
    assert answer.status_code == 422
    assert console.table.store.approvals[ask.id].votes == ()


async def test_a_vote_can_be_taken_back(console: Running, ada: httpx.AsyncClient) -> None:
    ask = put(console)
    form = (await read(ada, f"/approvals/{ask.id}")).form(f"/approvals/{ask.id}/vote")
    await press(ada, form, "approve", reason="It was agreed.")
    form = (await read(ada, f"/approvals/{ask.id}")).form(f"/approvals/{ask.id}/withdraw")
    assert (await press(ada, form)).status_code == 303
    assert console.table.store.approvals[ask.id].state == "pending"
    assert (await press(ada, form)).status_code == 409


async def test_operators_cancel_with_a_reason(console: Running, ada: httpx.AsyncClient) -> None:
    ask = put(console)
    form = (await read(ada, f"/approvals/{ask.id}")).form(f"/approvals/{ask.id}/cancel")
    answer = await press(ada, form, reason="")
    page = Page(answer.text)
    assert answer.status_code == 422
    assert page.one("details", id="cancel").get("open") is not None
    assert page.one("textarea", id="cancel-reason")["aria-invalid"] == "true"
    assert (await press(ada, form, reason="A load test.")).status_code == 303
    said = (await read(ada, f"/approvals/{ask.id}")).text
    assert "Cancelled" in said
    assert "A load test." in said


async def test_approvers_are_offered_no_more_than_they_may(console: Running) -> None:
    ask = put(console)
    async with console.browser() as browser:
        await console.log_in(browser)
        page = await read(browser, f"/approvals/{ask.id}")
    assert [form.action for form in page.forms] == ["/logout", f"/approvals/{ask.id}/vote"]


async def test_time_left_limits_what_is_offered(console: Running, ada: httpx.AsyncClient) -> None:
    short, long = put(console, 1, expires_ms=console.table.now_ms + 200_000), put(console, 2)
    for ask, offered in ((short, [""]), (long, ["", "300"])):
        page = await read(ada, f"/approvals/{ask.id}")
        assert [option["value"] for option in page.all("option")] == offered


async def test_an_unknown_approval_is_not_found(console: Running, ada: httpx.AsyncClient) -> None:
    for path in ("/approvals/apr-" + "0" * 26, "/approvals/x", "/approvals/apr-%22%3E"):
        harmless(await read(ada, path, 404))
    hidden = put(console, requirement=Requirement(("others",)))
    async with console.browser() as browser:
        await console.log_in(browser)
        await read(browser, f"/approvals/{hidden.id}", 404)


async def test_a_store_that_is_away_is_said(console: Running, ada: httpx.AsyncClient) -> None:
    from rankgate.errors import GateError, Reason

    console.table.store.failing = GateError(Reason.APPROVAL_STORE_UNAVAILABLE)
    page = await read(ada, "/", 503)
    assert "Approvals are not available right now." in page.text


# --- history, receipts, reviews


async def test_history_by_state_and_subject_a_page_at_a_time(console: Running, ada: httpx.AsyncClient) -> None:
    for number in range(1, 64):
        now = console.table.now_ms + number
        caller = replace_owner(make_ask(), "nobody") if number % 2 else make_ask().caller
        ask = make_ask(number, now, caller=caller)
        console.table.store.put(ask, State.DENIED if number % 3 else State.EXPIRED)
    page = await read(ada, "/history")
    assert len([link for link in page.all("a") if link["href"].startswith("/approvals/")]) == 50
    second = await read(ada, page.one("a", rel="next")["href"])
    assert len([link for link in second.all("a") if link["href"].startswith("/approvals/")]) == 13
    assert not list(second.all("a", rel="next"))
    found = await read(ada, "/history?state=expired&subject=owned")
    assert found.form("/history").fields == {"state": "expired", "subject": "owned"}
    assert len([link for link in found.all("a") if link["href"].startswith("/approvals/")]) == 11
    assert "No approval you may see matches" in (await read(ada, "/history?subject=nobody")).text
    await read(ada, "/history?state=odd", 422)
    await read(ada, "/history?before=../x", 422)


async def test_a_receipt_tells_the_whole_story(server: Server) -> None:
    async with running(audit={"redis_url": server.url}) as console, console.browser() as browser:
        await console.log_in(browser, **OPERATOR)
        # Of an approval that another call opened, and that many are younger than.
        ask = put(console, decision_id=new_decision_id(console.table.now_ms / 1000))
        for number in range(300, 520):
            console.table.store.put(make_ask(number, console.table.now_ms))
        receipt = ship(
            server, console.table.now_ms, policy_reasons=("within hours",), approval=Approval(ask.id, "consumed")
        )
        decide(console, ask, "grace", Choice.APPROVE, "Checked with payroll.", State.APPROVED)
        form = (await read(browser, "/receipts")).form("/receipts")
        answer = await browser.get(form.action, params={"id": f" {receipt} "})
        assert (answer.status_code, answer.headers["location"]) == (303, f"/receipts/{receipt}")
        page = await read(browser, f"/receipts/{receipt}")
        for said in (
            "Allowed", "indexer of acme asked to rank 3 documents with rerank-v3.5", "within hours", "bundle-7",
            "fingerprint 32:aa", "The documents were ranked and the caller was answered.", "email address × 2",
            "pod-1/ext_authz-0/1#0", "pod-1/ext_authz-0/1#1", "Checked with payroll.", "request-1", "0.25",
        ):  # fmt: skip
            assert said in page.text, said
        assert list(page.all("a", href=f"/approvals/{ask.id}"))
        # Looking at a receipt is not looking at a preview.
        assert "preview_viewed" not in console.table.journal.kinds

        async with console.browser() as approver, console.browser() as stranger:
            await console.log_in(approver, sub="bob", email="bob@acme.example", preferred_username="bob")
            await read(approver, f"/receipts/{receipt}")
            await console.log_in(stranger, sub="eve", groups=["others"], email="eve@acme.example")
            await read(stranger, f"/receipts/{receipt}", 404)


async def test_the_receipt_of_a_call_that_broke_the_glass_leads_to_its_review(server: Server) -> None:
    async with running(audit={"redis_url": server.url}) as console, console.browser() as browser:
        await console.log_in(browser, **OPERATOR)
        review = make_ask(7, console.table.now_ms, break_glass="the index was down")
        console.table.store.put_review(review)
        receipt = ship(
            server, console.table.now_ms, approval=Approval(review.id, "consumed", break_glass="the index was down")
        )
        page = await read(browser, f"/receipts/{receipt}")
        assert "the index was down" in page.text
        assert list(page.all("a", href=f"/reviews#review-{review.id}"))


async def test_an_approval_that_is_gone_or_no_approval_leaves_a_receipt_without_one(server: Server) -> None:
    async with running(audit={"redis_url": server.url}) as console, console.browser() as browser:
        await console.log_in(browser, **OPERATOR)
        for number, name in enumerate((make_ask(1).id, "../x", "")):
            receipt = ship(server, console.table.now_ms + 10 * number, approval=Approval(name, "consumed"))
            assert "No approval that you may see" in (await read(browser, f"/receipts/{receipt}")).text


async def test_a_receipt_tells_who_agreed_when_the_approval_itself_is_gone(server: Server) -> None:
    async with running(audit={"redis_url": server.url}) as console, console.browser() as browser:
        await console.log_in(browser, **OPERATOR)
        votes = (Ballot("grace", "approve", "agreed", console.table.now_ms),)
        consent = Approval("apr-gone", "consumed", ("data-protection",), 1, votes)
        receipt = ship(server, console.table.now_ms, approval=consent)
        page = await read(browser, f"/receipts/{receipt}")
        assert "consumed when it was decided" in page.text
        assert "grace approved" in page.text
        async with console.browser() as asked:
            await console.log_in(asked, sub="dora", groups=["data-protection"], email="dora@acme.example")
            await read(asked, f"/receipts/{receipt}")


async def test_a_receipt_that_is_not_there_claims_nothing(server: Server) -> None:
    absent = new_decision_id(time.time())
    async with running(audit={"redis_url": server.url}) as console, console.browser() as browser:
        await console.log_in(browser, **OPERATOR)
        page = await read(browser, f"/receipts/{absent}", 404)
        assert "This decision is not in the trail that is reachable from here." in page.text
        await read(browser, "/receipts/dec-1", 404)
        wrong = await read(browser, "/receipts?id=dec-1", 422)
        assert wrong.one("input", id="id")["aria-describedby"] == "id-wrong"
        assert wrong.one("input", id="id")["value"] == "dec-1"


@pytest.mark.parametrize(
    ("audit", "said"),
    [
        ({}, "This console has no trail to look into."),
        ({"redis_url": "unix:///nonexistent/socket"}, "The trail cannot be read right now."),
    ],
)
async def test_a_trail_that_cannot_be_read_is_no_absence(audit: dict[str, str], said: str) -> None:
    async with running(audit=audit) as console, console.browser() as browser:
        await console.log_in(browser, **OPERATOR)
        assert said in (await read(browser, f"/receipts/{new_decision_id(time.time())}", 503)).text


async def test_reviews_are_closed_with_a_reason(console: Running, ada: httpx.AsyncClient) -> None:
    assert "Nothing to review" in (await read(ada, "/reviews")).text
    ask = make_ask(7, console.table.now_ms, break_glass="the index was down")
    owned = make_ask(8, console.table.now_ms, break_glass="x", caller=replace_owner(ask, "ada@acme.example"))
    for one in (ask, owned):
        console.table.store.put_review(one)
    page = await read(ada, "/reviews")
    assert page.one("title").text.startswith("(2) ")
    assert "the index was down" in page.text
    assert "You own this machine, so someone else must look at it." in page.text
    form = page.form(f"/reviews/{ask.id}/close")
    answer = await press(ada, form, reason=" ")
    again = Page(answer.text)
    assert answer.status_code == 422
    assert again.one("textarea", id=f"reason-{ask.id}")["aria-invalid"] == "true"
    assert (await press(ada, form, reason="Looked at the receipt.")).status_code == 303
    assert "Looked at the receipt." in (await read(ada, "/reviews")).text
    late = await press(ada, form, reason="Again.")
    assert late.status_code == 409
    assert "This is closed" in late.text


# --- signing out, and what follows what changes


async def test_signing_out_is_a_form(console: Running, ada: httpx.AsyncClient) -> None:
    form = (await read(ada, "/")).form("/logout")
    assert (await press(ada, form)).status_code == 303
    assert "You are signed out" in (await read(ada, "/logged-out")).text
    await read(ada, "/", 401)


async def test_an_open_page_asks_for_what_changed_without_looking_at_the_preview_again(
    console: Running, ada: httpx.AsyncClient
) -> None:
    ask = put(console, preview=Preview("who is <PERSON>?"))
    standing = (await read(ada, f"/approvals/{ask.id}")).one("section", id="standing")
    assert console.table.journal.kinds.count("preview_viewed") == 1
    decide(console, ask, "grace", Choice.APPROVE, "Checked.", State.APPROVED)
    part = await read(ada, str(standing["hx-get"]))
    (again,) = part.all("section")
    assert (again["id"], again["hx-get"]) == ("standing", standing["hx-get"])
    assert again["data-version"] != standing["data-version"] and "Checked." in part.source
    assert "who is" not in part.source
    assert console.table.journal.kinds.count("preview_viewed") == 1


async def test_what_a_page_asks_for_by_itself_keeps_no_session_alive(console: Running, ada: httpx.AsyncClient) -> None:
    ask = put(console)
    (session,) = console.sessions._sessions.values()
    seen = session.seen
    for path in ("/", f"/approvals/{ask.id}/standing"):
        assert (await ada.get(path, headers={"hx-request": "true"})).status_code == 200
    assert session.seen == seen
    await ada.get("/")
    assert session.seen > seen


async def changes(console: Running, who: Any) -> AsyncIterator[dict[str, Any]]:
    async for event in live._changes(console.table.desk, who):
        yield json.loads(str(event.data))


async def test_the_feed_tells_versions_of_what_its_reader_may_see(console: Running, ada: httpx.AsyncClient) -> None:
    ask = put(console)
    feed = changes(console, person())
    first = await asyncio.wait_for(anext(feed), 5)
    page = await read(ada, "/")
    assert page.one("div", id="queue")["data-version"] == first["version"]
    detail = (await read(ada, f"/approvals/{ask.id}")).one("section", id="standing")
    assert first["items"] == {ask.id: detail["data-version"]}
    assert first["pending"] == 1
    hidden = put(console, 2, requirement=Requirement(("others",)))
    decide(console, ask, "grace", Choice.DENY, "no", State.DENIED)
    console.table.store._tell("denied", ask.id)
    second = await asyncio.wait_for(anext(feed), 5)
    assert (second["pending"], second["items"]) == (0, {})
    assert hidden.id not in json.dumps(second)
    await feed.aclose()


async def test_however_much_happens_a_page_looks_no_more_often_than_it_may(
    console: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []
    listing = console.table.desk.listing

    async def counted(*args: Any) -> Any:
        looks.append(time.monotonic())
        return await listing(*args)

    monkeypatch.setattr(live, "LEAST_S", 0.2)
    monkeypatch.setattr(console.table.desk, "listing", counted)
    feed = changes(console, person())
    await asyncio.wait_for(anext(feed), 5)

    async def happening() -> None:
        for number in range(100, 140):
            console.table.store.put(make_ask(number, console.table.now_ms))
            await asyncio.sleep(0.01)

    more = asyncio.create_task(happening())
    seen = await asyncio.wait_for(anext(feed), 5)
    while len(seen["items"]) < 40:
        seen = await asyncio.wait_for(anext(feed), 5)
    await more
    assert all(later - earlier >= 0.2 for earlier, later in itertools.pairwise(looks))
    await feed.aclose()


async def test_the_feed_ends_where_the_store_is_away(console: Running) -> None:
    from rankgate.errors import GateError, Reason

    console.table.store.failing = GateError(Reason.APPROVAL_STORE_UNAVAILABLE)
    assert [one async for one in changes(console, person())] == []


async def test_the_feed_ends_by_itself(console: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "LONGEST_S", 0.2)
    put(console)
    assert len([one async for one in changes(console, person())]) == 1


def test_every_route_of_a_page_is_listed_once(console: Running) -> None:
    routes = pages.routes(Site(desk=console.table.desk, settings=console.settings))
    paths = [(route.path, *sorted(getattr(route, "methods", None) or ())) for route in routes]  # type: ignore[attr-defined]
    assert len(paths) == len(set(paths))
