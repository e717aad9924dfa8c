"""What keeps open pages up to date: a feed of versions, of only what its reader may see.

The feed carries no content: a page that sees another version than it shows asks for itself again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import Response

from rankgate.approvals import OPEN, State
from rankgate.console.desk import Desk
from rankgate.console.people import Person
from rankgate.console.refusals import RefusedError
from rankgate.console.site import person_of
from rankgate.console.views import Item

__all__ = ["feed", "versions"]

ITEMS = 200
# Also without an event: time alone closes what nobody decided. And no more often than this, however much happens: each
# look verifies every vote that is shown.
LOOK_S, LEAST_S = 10.0, 0.5
# A browser connects again by itself; by then its session was looked at again.
LONGEST_S = 300.0
RETRY_MS = 3000
PING_S = 15


def versions(items: Iterable[Item]) -> tuple[str, dict[str, str]]:
    """Return the version of a list of approvals as a page shows it, and that of each by its id."""
    each = {item.id: _digest([item.id, item.state, item.changed_ms, len(item.votes), item.needed]) for item in items}
    return _digest(sorted(each.items())), each


def feed(desk: Desk) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint that tells a browser, as server-sent events, when something changed."""

    async def endpoint(request: Request) -> Response:
        return EventSourceResponse(
            _changes(desk, person_of(request)), ping=PING_S, headers={"cache-control": "no-store"}
        )

    return endpoint


async def _changes(desk: Desk, person: Person) -> AsyncIterator[ServerSentEvent]:
    started, looked, last = time.monotonic(), float("-inf"), ""
    changed = False
    try:
        async for batch in desk.watch(person):
            now = time.monotonic()
            if now - started > LONGEST_S:
                return
            changed = changed or bool(batch)
            # What is put off is not lost: a batch comes every second, if an empty one.
            if now - looked < (LEAST_S if changed else LOOK_S):
                continue
            looked, changed = now, False
            items = await desk.listing(person, OPEN, ITEMS)
            version, each = versions(items)
            if version != last:
                last = version
                pending = sum(item.state is State.PENDING for item in items)
                data = json.dumps({"version": version, "pending": pending, "items": each}, separators=(",", ":"))
                yield ServerSentEvent(data=data, event="versions", retry=RETRY_MS)
    except RefusedError:
        # The store is away: the browser comes back, and finds out.
        return


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
