"""The API below /api/v1: the desk in JSON, for the command line and other programs of people.

Times are RFC 3339 in UTC. Members are those of the desk's views; one that is added later is no break, one is never
renamed. Errors are problem documents (RFC 9457) whose `code` is a word of `Refusal`.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import msgspec
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from rankgate.approvals import OPEN, Choice, State
from rankgate.console.people import Person
from rankgate.console.refusals import Refusal, RefusedError
from rankgate.console.showing import iso
from rankgate.console.site import API, OPENID, Site, person_of
from rankgate.strict import MalformedError, json_object

__all__ = ["plainly", "routes"]

LIMIT = 200
EVENTS_S = 900.0
_APPROVAL = re.compile(r"[a-z0-9-]{1,64}")
_CURSOR = re.compile(r"[0-9]{1,20}(-[0-9]{1,20})?|\$")
_STATES = {state.value: frozenset({state}) for state in State} | {"open": OPEN, "all": frozenset(State)}

Endpoint = Callable[[Request], Awaitable[Response]]


def routes(site: Site, seconds: Callable[[], float]) -> list[BaseRoute]:
    """Return the API's routes. `seconds` is a monotonic clock."""
    api = _Api(site, seconds)
    return [
        Route(OPENID, api.openid, methods=["GET"]),
        Route(f"{API}/me", api.me, methods=["GET"]),
        Route(f"{API}/approvals", api.listing, methods=["GET"]),
        Route(f"{API}/approvals/{{approval}}", api.show, methods=["GET"]),
        Route(f"{API}/approvals/{{approval}}/approve", api.approve, methods=["POST"]),
        Route(f"{API}/approvals/{{approval}}/deny", api.deny, methods=["POST"]),
        Route(f"{API}/approvals/{{approval}}/withdraw", api.withdraw, methods=["POST"]),
        Route(f"{API}/approvals/{{approval}}/cancel", api.cancel, methods=["POST"]),
        Route(f"{API}/revocations", api.revoke, methods=["POST"]),
        Route(f"{API}/reviews", api.reviews, methods=["GET"]),
        Route(f"{API}/reviews/{{approval}}/close", api.close_review, methods=["POST"]),
        Route(f"{API}/events", api.events, methods=["GET"]),
    ]


class _Api:
    def __init__(self, site: Site, seconds: Callable[[], float]) -> None:
        self._desk = site.desk
        self._settings = site.settings
        self._seconds = seconds

    async def openid(self, _: Request) -> Response:
        """Say where to log in, so that the command line needs no configuration."""
        login = self._settings.login
        return JSONResponse(
            {
                "issuer": login.issuer, "client_id": login.cli_client_id or login.client_id, "audience": login.audience,
                "scopes": list(login.scopes),
            }
        )  # fmt: skip

    async def me(self, request: Request) -> Response:
        person = person_of(request)
        return JSONResponse(
            {
                "person": person.voter.person, "subject": person.voter.subject, "name": person.name,
                "names": list(person.voter.names), "groups": list(person.voter.groups),
                "roles": sorted(person.roles), "logged_in": iso(person.logged_in_ms),
            }
        )  # fmt: skip

    async def listing(self, request: Request) -> Response:
        query = _query(request, {"state", "limit", "before"})
        states, limit, before = _STATES.get(query.get("state", "open")), _limit(query), query.get("before", "")
        if states is None or (before and not _APPROVAL.fullmatch(before)):
            raise RefusedError(Refusal.INPUT_INVALID)
        items = await self._desk.listing(person_of(request), states, limit, before)
        return JSONResponse({"approvals": [plainly(item) for item in items]})

    async def show(self, request: Request) -> Response:
        return JSONResponse(plainly(await self._desk.show(person_of(request), _id(request))))

    async def approve(self, request: Request) -> Response:
        return await self._vote(request, Choice.APPROVE)

    async def deny(self, request: Request) -> Response:
        return await self._vote(request, Choice.DENY)

    async def withdraw(self, request: Request) -> Response:
        person, given = await self._given(request, {"record"})
        return JSONResponse(plainly(await self._desk.withdraw(person, _id(request), _text(given, "record"))))

    async def cancel(self, request: Request) -> Response:
        person, given = await self._given(request, {"reason"})
        return JSONResponse(plainly(await self._desk.cancel(person, _id(request), _reason(given))))

    async def revoke(self, request: Request) -> Response:
        person, given = await self._given(request, {"person", "reason"})
        return JSONResponse(plainly(await self._desk.revoke(person, _text(given, "person"), _reason(given))))

    async def reviews(self, request: Request) -> Response:
        query = _query(request, {"state", "limit"})
        if query.get("state", "open") not in {"open", "closed"}:
            raise RefusedError(Refusal.INPUT_INVALID)
        closed = query.get("state") == "closed"
        found = await self._desk.reviews(person_of(request), closed=closed, limit=_limit(query))
        return JSONResponse({"reviews": [plainly(review) for review in found]})

    async def close_review(self, request: Request) -> Response:
        person, given = await self._given(request, {"reason"})
        await self._desk.close_review(person, _id(request), _reason(given))
        return Response(status_code=204)

    async def events(self, request: Request) -> Response:
        query = _query(request, {"after"})
        after = request.headers.get("last-event-id") or query.get("after", "$")
        if not _CURSOR.fullmatch(after):
            raise RefusedError(Refusal.INPUT_INVALID)
        return EventSourceResponse(self._told(person_of(request), after), ping=15)

    async def _told(self, person: Person, after: str) -> AsyncIterator[ServerSentEvent]:
        """Yield events for a quarter of an hour: whoever still listens comes back with a token that is looked at."""
        until, listening = self._seconds() + EVENTS_S, False
        try:
            async for batch in self._desk.watch(person, after):
                if not listening:
                    # What changes after this line is told: who reads it can look at what there is, and miss nothing.
                    yield ServerSentEvent(comment="listening")
                    listening = True
                for event in batch:
                    data = json.dumps({"approval": event.approval, "time": iso(event.time_ms)})
                    yield ServerSentEvent(data, event=event.kind, id=event.cursor)
                if self._seconds() >= until:
                    return
        except RefusedError as error:
            yield ServerSentEvent(json.dumps({"code": error.refusal.value}), event="error")

    async def _vote(self, request: Request, choice: Choice) -> Response:
        person, given = await self._given(request, {"record", "reason", "use_within_s"})
        within = given.get("use_within_s")
        if within is not None and type(within) is not int:
            raise RefusedError(Refusal.INPUT_INVALID)
        detail = await self._desk.vote(person, _id(request), _text(given, "record"), choice, _reason(given), within)
        return JSONResponse(plainly(detail))

    async def _given(self, request: Request, known: set[str]) -> tuple[Person, dict[str, Any]]:
        """Return who asks for a change, and the members of the JSON object they sent; others than `known` refused."""
        person = person_of(request)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise RefusedError(Refusal.TYPE_REFUSED)
        try:
            given = json_object(await request.body(), depth=2)
        except MalformedError:
            raise RefusedError(Refusal.INPUT_INVALID) from None
        if not given.keys() <= known:
            raise RefusedError(Refusal.INPUT_INVALID)
        return person, given


def plainly(value: Any, name: str = "") -> Any:
    """Return a view as JSON values: `..._ms` members become RFC 3339 times without the ending, null for none."""
    if is_dataclass(value) and not isinstance(value, type):
        members = [(field.name, getattr(value, field.name)) for field in fields(value)]
    elif isinstance(value, msgspec.Struct):
        members = [(field, getattr(value, field)) for field in value.__struct_fields__]
    elif isinstance(value, dict):
        return {str(key): plainly(item) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        return [plainly(item) for item in value]
    elif isinstance(value, Enum):
        return value.value
    else:
        return (iso(value or 0) or None) if name.endswith("_ms") else value
    return {key.removesuffix("_ms"): plainly(item, key) for key, item in members}


def _id(request: Request) -> str:
    approval = str(request.path_params["approval"])
    if not _APPROVAL.fullmatch(approval):
        raise RefusedError(Refusal.NOT_FOUND)
    return approval


def _text(given: dict[str, Any], name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str):
        raise RefusedError(Refusal.INPUT_INVALID)
    return value


def _reason(given: dict[str, Any]) -> str:
    if not isinstance(given.get("reason"), str):
        raise RefusedError(Refusal.REASON_INVALID)
    return str(given["reason"])


def _query(request: Request, known: set[str]) -> dict[str, str]:
    query = request.query_params
    if not set(query) <= known or any(len(query.getlist(name)) > 1 for name in query):
        raise RefusedError(Refusal.INPUT_INVALID)
    return dict(query)


def _limit(query: dict[str, str]) -> int:
    text = query.get("limit", "50")
    if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= LIMIT:
        raise RefusedError(Refusal.INPUT_INVALID)
    return int(text)
