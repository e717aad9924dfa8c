"""The pages: forms in, calls of the desk, values for the templates out. What people may do is the desk's to decide."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

import jinja2
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from rankgate.approvals import OPEN, Choice, State, new_approval_id
from rankgate.console import showing
from rankgate.console.live import feed, versions
from rankgate.console.people import Person
from rankgate.console.receipt import Entry, Reader, UnreadableError, is_decision_id, time_of
from rankgate.console.refusals import Refusal, RefusedError
from rankgate.console.site import LIVE, LOGIN, LOGOUT, Site, person_of
from rankgate.console.views import Detail, Item, ReviewItem

__all__ = ["error_page", "routes", "sign_in_page", "signed_out_page"]

_HERE = Path(__file__).parent
_APPROVAL_ID = re.compile(r"apr-[0-9a-z]{26}")
_QUEUE = 200
_PAGE = 50
# A filter by subject looks this far back for one page.
_LOOK = 10

Listed = TypeVar("Listed", Item, ReviewItem)

_USABLE: Final = {"": "until it expires", "300": "for 5 minutes", "3600": "for 1 hour"}
_CHOICES: Final = {choice.value: choice for choice in Choice}
# What a form is shown again for, with what was typed; anything else is a page of its own.
_AGAIN = frozenset({Refusal.RECORD_CHANGED, Refusal.ALREADY_VOTED, Refusal.NO_VOTE, Refusal.CLOSED, Refusal.BUSY,
                    Refusal.SELF, Refusal.OWNER, Refusal.GROUP, Refusal.INPUT_INVALID})  # fmt: skip
_REASON_WANTED = "Give a reason of 1 to 1,000 readable characters. Nothing was taken yet."


def routes(site: Site) -> Sequence[BaseRoute]:
    """Return the routes of every page, of their files, and of the feed that keeps them up to date."""
    pages = _Pages(site)
    return [
        Route("/", pages.queue, methods=["GET"]),
        Route("/approvals/{approval}", pages.approval, methods=["GET"]),
        Route("/approvals/{approval}/standing", pages.standing, methods=["GET"]),
        Route("/approvals/{approval}/vote", pages.vote, methods=["POST"]),
        Route("/approvals/{approval}/withdraw", pages.withdraw, methods=["POST"]),
        Route("/approvals/{approval}/cancel", pages.cancel, methods=["POST"]),
        Route("/history", pages.history, methods=["GET"]),
        Route("/receipts", pages.receipt_form, methods=["GET"]),
        Route("/receipts/{decision}", pages.receipt, methods=["GET"]),
        Route("/reviews", pages.reviews, methods=["GET"]),
        Route("/reviews/{review}/close", pages.close_review, methods=["POST"]),
        Route(LIVE, feed(site.desk), methods=["GET"]),
        Mount("/static", StaticFiles(directory=_HERE / "static"), name="static"),
    ]


def error_page(request: Request, status: int, title: str, text: str) -> Response:
    """Return a page that says what went wrong; `title` and `text` are ours."""
    person = _person_or_none(request)
    action = ("/", "Go to the queue") if person else (LOGIN, "Sign in")
    return _page("message.html", status, person=person, heading=title, text=text, action=action, main_action=False)


def sign_in_page(request: Request, next_path: str = "/", status: int = 200) -> Response:
    """Return the page with one button, which returns to `next_path` (a path of this console) after the login."""
    text = "This console is where people agree to risky rerank requests, or refuse them."
    if request.method == "POST":
        text = "Your session has ended, and what you sent was not taken. Sign in, and send it again."
        parts = request.url.path.split("/")
        if parts[1] == "approvals" and _APPROVAL_ID.fullmatch(parts[2]):
            next_path = f"/approvals/{parts[2]}"
        elif parts[1] == "reviews":
            next_path = "/reviews"
    action = (_login(next_path), "Sign in")
    return _page(
        "message.html", status, person=None, heading="Sign in to rankgate", text=text, action=action, main_action=True
    )


def signed_out_page(request: Request) -> Response:  # noqa: ARG001
    """Return the page after a logout."""
    text = "Your session at this console has ended. The session at your identity provider may go on."
    return _page(
        "message.html", 200, person=None, heading="You are signed out", text=text, action=(LOGIN, "Sign in again"),
        main_action=True,
    )  # fmt: skip


class _Pages:
    """One method a route."""

    def __init__(self, site: Site) -> None:
        self._desk = site.desk
        self._reader = Reader.of(site.settings.audit, site.settings.deployment)

    async def queue(self, request: Request) -> Response:
        person = person_of(request)
        items = _proper(await self._desk.listing(person, OPEN, _QUEUE))
        waiting = sorted((item for item in items if item.state is State.PENDING), key=lambda item: item.expires_ms)
        agreed = [item for item in items if item.state is State.APPROVED]
        return _page("queue.html", person=person, here="queue", pending=len(waiting), waiting=waiting, agreed=agreed,
                     version=versions(items)[0])  # fmt: skip

    async def approval(self, request: Request) -> Response:
        person = person_of(request)
        return self._detail(person, await self._desk.show(person, _approval_id(request)))

    async def standing(self, request: Request) -> Response:
        """Answer with the one part of an approval's page that changes; it shows no preview."""
        item = await self._desk.look(person_of(request), _approval_id(request))
        return _page("standing.html", item=item, version=versions([item])[1][item.id])

    async def vote(self, request: Request) -> Response:
        person, approval = person_of(request), _approval_id(request)
        form = await request.form()
        reason, usable = _text(form, "reason"), _text(form, "usable")
        choice = _CHOICES.get(_text(form, "choice"))
        if choice is None or usable not in _USABLE:
            raise RefusedError(Refusal.INPUT_INVALID)
        try:
            within = int(usable) if usable and choice is Choice.APPROVE else None
            await self._desk.vote(person, approval, _text(form, "record"), choice, reason, within)
        except RefusedError as error:
            typed = {"reason": reason, "usable": usable}
            return await self._refused(person, approval, error, "reason", typed)
        return _see(f"/approvals/{approval}")

    async def withdraw(self, request: Request) -> Response:
        person, approval = person_of(request), _approval_id(request)
        try:
            await self._desk.withdraw(person, approval, _text(await request.form(), "record"))
        except RefusedError as error:
            return await self._refused(person, approval, error, "", {})
        return _see(f"/approvals/{approval}")

    async def cancel(self, request: Request) -> Response:
        person, approval = person_of(request), _approval_id(request)
        reason = _text(await request.form(), "reason")
        try:
            await self._desk.cancel(person, approval, reason)
        except RefusedError as error:
            return await self._refused(person, approval, error, "cancel", {"cancel": reason})
        return _see(f"/approvals/{approval}")

    async def history(self, request: Request) -> Response:
        person = person_of(request)
        chosen, subject = request.query_params.get("state", ""), request.query_params.get("subject", "").strip()[:512]
        before = request.query_params.get("before", "")
        states = [state for state in State if not chosen or state.value == chosen]
        if not states or (before and not _APPROVAL_ID.fullmatch(before)):
            raise RefusedError(Refusal.INPUT_INVALID)
        items, last = await self._past(person, states, subject, before)
        kept = {name: value for name, value in (("state", chosen), ("subject", subject)) if value}
        return _page(
            "history.html", person=person, here="history", items=items, states=list(State), chosen=chosen,
            subject=subject, before=before, newest=_address("/history", kept),
            older=_address("/history", kept | {"before": last}) if last else "",
        )  # fmt: skip

    async def receipt_form(self, request: Request) -> Response:
        person = person_of(request)
        decision = request.query_params.get("id", "").strip()
        if is_decision_id(decision):
            return _see(f"/receipts/{decision}")
        wrong = "This is no receipt id. One is written dec- and 26 letters and digits." if decision else ""
        return _page(
            "receipts.html", 422 if wrong else 200, person=person, here="receipts", wrong=wrong, typed=decision,
            allowed=person.may_view,
        )  # fmt: skip

    async def receipt(self, request: Request) -> Response:
        person, decision = person_of(request), request.path_params["decision"]
        if not is_decision_id(decision):
            raise RefusedError(Refusal.NOT_FOUND)
        found, missing = None, ""
        try:
            found = await run_in_threadpool(self._reader.find, decision) if self._reader else None
        except UnreadableError:
            missing = "unreadable"
        if found is None:
            missing = missing or "no trail"
        elif found.decision is None and found.completion is None:
            missing = "cut" if found.cut else "absent"
        approval, review = await self._consent(person, decision, found.decision if found else None)
        consent = found.decision.consent if found and found.decision else None
        # Without a role people see what their groups are asked about, and so the receipts of that.
        asked = consent is not None and not set(consent.groups).isdisjoint(person.voter.groups)
        if not (person.may_view or approval or review or asked):
            raise RefusedError(Refusal.NOT_FOUND)
        return _page(
            "receipt.html", 200 if not missing else 404 if missing == "absent" else 503, person=person,
            here="receipts", id=decision, made_ms=time_of(decision), found=found, missing=missing, approval=approval,
            review=review, consent=consent,
        )  # fmt: skip

    async def reviews(self, request: Request) -> Response:
        return await self._reviews(person_of(request))

    async def close_review(self, request: Request) -> Response:
        person, review = person_of(request), request.path_params["review"]
        reason = _text(await request.form(), "reason")
        try:
            await self._desk.close_review(person, review, reason)
        except RefusedError as error:
            if error.refusal is Refusal.REASON_INVALID:
                return await self._reviews(person, 422, at=review, typed=reason, wrong=_REASON_WANTED)
            if error.refusal is Refusal.NOT_FOUND:
                gone = "There is no review of this name."
                return await self._reviews(person, error.refusal.status, elsewhere=gone)
            if error.refusal in _AGAIN:
                return await self._reviews(person, error.refusal.status, elsewhere=error.refusal.text)
            raise
        return _see("/reviews")

    def _detail(
        self, person: Person, item: Detail, status: int = 200, *, elsewhere: str = "",
        wrong: dict[str, str] | None = None, typed: dict[str, str] | None = None,
    ) -> Response:  # fmt: skip
        left_s = (item.expires_ms - _now()) / 1000
        return _page(
            "approval.html", status, person=person, here="queue", item=item, version=versions([item])[1][item.id],
            usable=[(value, word) for value, word in _USABLE.items() if not value or int(value) < left_s],
            wrong_elsewhere=elsewhere, wrong={"reason": "", "cancel": ""} | (wrong or {}),
            typed={"reason": "", "cancel": "", "usable": ""} | (typed or {}),
        )  # fmt: skip

    async def _refused(
        self, person: Person, approval: str, error: RefusedError, field: str, typed: dict[str, str]
    ) -> Response:
        """Show the page again with what was typed and what is wrong with it, or pass the error on."""
        if error.refusal is Refusal.LOGIN_STALE:
            # A page and not a redirect: a form may not lead to the issuer, a link may.
            return _page(
                "message.html", error.refusal.status, person=person, here="queue", heading="Sign in again to decide",
                text="Your sign-in is too old to vote with, and nothing was sent. A reason that you typed is kept in "
                "this tab where scripts run.",
                action=(f"{_login(f'/approvals/{approval}')}&again=1", "Sign in again"), main_action=True,
            )  # fmt: skip
        if error.refusal is Refusal.REASON_INVALID and field:
            item = await self._desk.show(person, approval)
            return self._detail(person, item, 422, wrong={field: _REASON_WANTED}, typed=typed)
        if error.refusal in _AGAIN:
            item = await self._desk.show(person, approval)
            return self._detail(person, item, error.refusal.status, elsewhere=error.refusal.text, typed=typed)
        raise error

    async def _past(self, person: Person, states: Sequence[State], subject: str, before: str) -> tuple[list[Item], str]:
        """Return one page of the history, and the id to go on before; empty where there is nothing further back."""
        found: list[Item] = []
        for _ in range(_LOOK if subject else 1):
            page = await self._desk.listing(person, states, _PAGE, before)
            for item in _proper(page):
                if not subject or item.caller.subject == subject:
                    found.append(item)
                    if len(found) == _PAGE:
                        return found, item.id
            if len(page) < _PAGE:
                return found, ""
            before = page[-1].id
        return found, before

    async def _consent(
        self, person: Person, decision: str, entry: Entry | None
    ) -> tuple[Item | None, ReviewItem | None]:
        """Return the approval that a decision met, or the review that it left, as far as `person` may see it.

        The decision's entry in the trail names it. Without an entry it is looked for among those of that time.
        """
        if entry is None:
            return await self._asked_by(person, decision), await self._left_by(person, decision)
        if not _APPROVAL_ID.fullmatch(entry.approval):
            return None, None
        try:
            if entry.broke_glass:
                return None, await self._desk.review(person, entry.approval)
            return await self._desk.look(person, entry.approval), None
        except RefusedError as error:
            if error.refusal is not Refusal.NOT_FOUND:
                raise
            return None, None

    async def _asked_by(self, person: Person, decision: str) -> Item | None:
        after = new_approval_id((time_of(decision) + 1000) / 1000, (1 << 80) - 1)
        items = _proper(await self._desk.listing(person, list(State), _QUEUE, after))
        return next((item for item in items if decision in {item.decision_id, item.used_by}), None)

    async def _left_by(self, person: Person, decision: str) -> ReviewItem | None:
        reviews = [*await self._desk.reviews(person), *await self._desk.reviews(person, closed=True)]
        return next((review for review in reviews if review.decision_id == decision), None)

    async def _reviews(
        self, person: Person, status: int = 200, *, at: str = "", typed: str = "", wrong: str = "", elsewhere: str = ""
    ) -> Response:
        waiting = _proper(await self._desk.reviews(person))
        closed = _proper(await self._desk.reviews(person, closed=True))
        return _page(
            "reviews.html", status, person=person, here="reviews", open=waiting, closed=closed, wrong_at=at,
            typed=typed, wrong=wrong, wrong_elsewhere=elsewhere,
        )  # fmt: skip


def _page(template: str, status: int = 200, **values: Any) -> Response:
    text = _templates().get_template(template).render({"here": "", "pending": None, "now": _now()} | values)
    return HTMLResponse(text, status, headers={"cache-control": "no-store"})


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    words = (
        "ago", "count", "excerpt", "findings", "iso", "issuer", "left", "micros", "outcome", "plain", "plan", "reason",
        "risk_level", "segments", "state", "treatment", "utc",
    )  # fmt: skip
    environment.filters.update({name: getattr(showing, name) for name in words})
    environment.filters.update(
        is_open=_is_open, standing=_standing, closing=showing.closing, has_receipt=is_decision_id
    )
    environment.globals.update(asset=_asset, live=LIVE, logout=LOGOUT)
    return environment


@cache
def _asset(name: str) -> str:
    """Return the address of a file; it changes with the file, so that browsers may keep it."""
    return f"/static/{name}?{hashlib.sha256((_HERE / 'static' / name).read_bytes()).hexdigest()[:12]}"


def _is_open(item: Item) -> bool:
    return item.state in OPEN and item.expires_ms > _now()


def _standing(item: Item) -> str:
    return showing.standing(item, is_open=_is_open(item))


def _proper(items: Iterable[Listed]) -> list[Listed]:
    """Leave out what no gate of ours named: ids become addresses."""
    return [item for item in items if _APPROVAL_ID.fullmatch(item.id)]


def _approval_id(request: Request) -> str:
    approval: str = request.path_params["approval"]
    if not _APPROVAL_ID.fullmatch(approval):
        raise RefusedError(Refusal.NOT_FOUND)
    return approval


def _text(form: FormData, name: str) -> str:
    """Return a field of a form; empty where it is missing, refused where it is there twice or is a file."""
    values = form.getlist(name)
    if not values:
        return ""
    if len(values) > 1 or not isinstance(values[0], str):
        raise RefusedError(Refusal.INPUT_INVALID)
    return values[0]


def _person_or_none(request: Request) -> Person | None:
    try:
        return person_of(request)
    except RefusedError:
        return None


def _see(address: str) -> Response:
    return RedirectResponse(address, 303)


def _login(next_path: str) -> str:
    return f"{LOGIN}?next={quote(next_path, safe='/')}"


def _address(path: str, query: dict[str, str]) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _now() -> int:
    return time.time_ns() // 1_000_000
