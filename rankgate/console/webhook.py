"""Others are told what happens to approvals: an outgoing webhook, signed as Standard Webhooks 1.0.0 has it.

Every event is sent at least once, in order, one at a time, and continues after a restart where it was. An endpoint that
takes nothing holds up the webhook alone: its events wait in the store, which keeps about ten thousand of them.

The URL is the operator's own setting and never comes from a request, so an address inside the own network is allowed:
most receivers are there. What an endpoint answers moves nothing: no redirect is followed, no answer is read beyond its
status, no proxy of the environment is used. A message holds what the stored approval says outside its sealed preview,
masked when the gate wrote it; never a token, never a text of the request.
"""

from __future__ import annotations

import asyncio
import binascii
import hashlib
import json
import re
import ssl
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

import httpx
import stamina
import structlog
from prometheus_client import CollectorRegistry, Counter
from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError

from rankgate.approvals import DeskStore, Event, Review, State, Stored
from rankgate.clients.disk import replace_file
from rankgate.console.showing import iso
from rankgate.errors import GateError

__all__ = ["EVENTS", "CursorFile", "WebhookSender", "looking"]

log = structlog.get_logger(__name__)

EVENTS: Final[Mapping[str, str]] = MappingProxyType(
    {state.value: f"approval.{state.value}" for state in State if state is not State.PENDING}
    | {"opened": "approval.opened", "review_opened": "review.opened", "review_closed": "review.closed"}
)
"""The kinds that can be sent, and the `type` of their messages."""

# One round: attempts after about 0.5, 1, 2, 4, 8 seconds, each with up to a second of jitter; then a pause.
ATTEMPTS = 6
FIRST_WAIT_S, LONGEST_WAIT_S, JITTER_S = 0.5, 30.0, 1.0
PAUSE_S = 60.0
TIMEOUT_S = 10.0
STORE_PAUSE_S = 2.0
# Of this many approvals it is known what was told of them last.
REMEMBERED = 10_000
_STATES_OF_OPENED = {"opened": "pending", "review_opened": "open", "review_closed": "closed"}
_CURSOR = re.compile(r"[0-9]{1,20}(-[0-9]{1,20})?")

Look = Callable[[str], Awaitable[Stored | Review | None]]
Agreed = Callable[[Stored, int], bool]
"""An approval and a time in milliseconds since the epoch -> whether its signed votes amounted to consent then."""


class _NotTakenError(Exception):
    """The endpoint did not take a message; the text is one word, because it is logged by whoever retries."""


class CursorFile:
    """How far events were told: one line, replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> str | None:
        """Return the cursor; None where nothing was told yet, or the file cannot be understood."""
        try:
            text = self._path.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError):
            text = ""
        if not _CURSOR.fullmatch(text):
            log.error("webhook_cursor_unreadable")
            return None
        return text

    def write(self, cursor: str) -> None:
        """Keep the cursor. Where that fails, a restart tells some events once more."""
        try:
            replace_file(self._path, f"{cursor}\n", durable=False)
        except OSError as error:
            log.error("webhook_cursor_not_kept", why=error.strerror)  # noqa: TRY400  # the traceback would say no more


class WebhookSender:
    """Sends the events of `source` whose kind is in `kinds` to `url`, until `run` is cancelled.

    `source` yields events after a cursor, `look` returns what an id stands for, `agreed` tells consent from what only
    the store calls so. `secret_file` holds the signing secret (`whsec_` and base64 of 24 to 64 bytes), read anew for
    each attempt; a second line may hold the one before it, and then both sign, while the receiver changes over.
    `public_url` is where people find the console. `deployment` and the event make the message's id, the same for every
    attempt and after every restart.

    Without a kept cursor the first event is the next that happens. `sleep` waits so many seconds between rounds.
    """

    def __init__(
        self, url: str, secret_file: Path, source: Callable[[str], AsyncIterator[Sequence[Event]]], look: Look,
        cursor: CursorFile, *, agreed: Agreed, deployment: str, public_url: str, kinds: Collection[str] = tuple(EVENTS),
        registry: CollectorRegistry | None = None, timeout_s: float = TIMEOUT_S, ca_file: Path | None = None,
        clock: Callable[[], float] = time.time, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:  # fmt: skip
        self._url = url
        self._secret_file = secret_file
        self._source = source
        self._look = look
        self._agreed = agreed
        self._cursor = cursor
        self._deployment = deployment
        self._public_url = public_url.rstrip("/")
        self._kinds = frozenset(kinds)
        self._timeout_s = timeout_s
        self._ca_file = ca_file
        self._clock = clock
        self._sleep = sleep
        self._told: OrderedDict[str, str] = OrderedDict()
        self._sent = Counter(
            "webhook_messages", "Webhook messages: sent, or failed for a whole round of attempts.", ("outcome",),
            "rankgate", registry=registry,
        )  # fmt: skip
        for outcome in ("sent", "failed"):
            self._sent.labels(outcome)

    async def run(self) -> None:
        """Send what happens, until cancelled. Nothing that goes wrong with store, secret or endpoint ends it."""
        after = self._cursor.read() or "$"
        async with httpx.AsyncClient(
            verify=ssl.create_default_context(cafile=self._ca_file),
            timeout=self._timeout_s,
            follow_redirects=False,
            trust_env=False,
            headers={"user-agent": "rankgate", "content-type": "application/json", "accept-encoding": "identity"},
        ) as http:
            while True:
                try:
                    async for events in self._source(after):
                        for event in events:
                            await self._tell(http, event)
                            after = event.cursor
                            self._cursor.write(after)
                except GateError as error:
                    log.warning("webhook_store_unavailable", reason=error.reason.value)
                except Exception as error:  # noqa: BLE001  # whatever it is, the same event is tried again
                    log.error("webhook_fault", error=type(error).__name__)  # noqa: TRY400  # its text may quote data
                await self._sleep(STORE_PAUSE_S)

    async def _tell(self, http: httpx.AsyncClient, event: Event) -> None:
        """Send what `event` says, however long it takes; raises GateError where the store cannot be asked."""
        if event.kind not in {*EVENTS, "voted", "withdrawn"}:
            return
        found = await self._look(event.approval)
        kind = None if found is None else self._kind(event, found)
        # What the store forgot meanwhile can be told by nobody.
        if found is None or kind is None or kind not in self._kinds:
            return
        identity, body = self._message(event, kind, found)
        while not await self._taken(http, identity, body):
            self._sent.labels("failed").inc()
            await self._sleep(PAUSE_S)
        # Not before: what failed on its way would else be no news when its turn comes again.
        self._remember(event.approval, kind)
        self._sent.labels("sent").inc()

    def _kind(self, event: Event, found: Stored | Review) -> str | None:
        """Return what `event` means to others; None where nothing of it is news.

        A vote is told as what came of it. It is read off the store, which may be ahead of the event: an approval that
        is used by now was approved by one of its votes.
        """
        kind: str | None = event.kind
        if isinstance(found, Stored) and kind in {"voted", "withdrawn"}:
            state = State.APPROVED if found.state is State.CONSUMED else found.state
            kind = state.value if state in {State.APPROVED, State.DENIED} else None
        if kind == State.APPROVED and not (isinstance(found, Stored) and self._agreed(found, event.time_ms)):
            kind = None
        if kind is None:
            self._told.pop(event.approval, None)
            return None
        return None if self._told.get(event.approval) == kind else kind

    def _remember(self, approval: str, kind: str) -> None:
        self._told[approval] = kind
        self._told.move_to_end(approval)
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)

    def _message(self, event: Event, kind: str, found: Stored | Review) -> tuple[str, str]:
        """Return id and body of a message; both depend on nothing but what happened and what the gate wrote."""
        ask = found.ask
        name = "\n".join((self._deployment, event.cursor, kind, event.approval))
        page = "reviews" if isinstance(found, Review) else f"approvals/{ask.id}"
        body = {
            "type": EVENTS[kind],
            "timestamp": iso(event.time_ms),
            "data": {
                "id": ask.id,
                "state": _STATES_OF_OPENED.get(kind, kind),
                "deployment": self._deployment,
                "caller": {"subject": ask.caller.subject, "tenant": ask.caller.tenant},
                "route": ask.route,
                "model": ask.model,
                "document_count": ask.document_count,
                "findings": ask.findings,
                "risk": ask.risk,
                "reasons": list(ask.reasons),
                "requirement": {
                    "groups": list(ask.requirement.groups),
                    "quorum": ask.requirement.quorum,
                    "ttl_s": ask.requirement.ttl_s,
                },
                "url": f"{self._public_url}/{page}",
            },
        }
        return f"evt_{hashlib.sha256(name.encode()).hexdigest()[:32]}", json.dumps(body, separators=(",", ":"))

    async def _taken(self, http: httpx.AsyncClient, identity: str, body: str) -> bool:
        """Tell whether the endpoint took the message within one round of attempts."""
        try:
            async for attempt in stamina.retry_context(
                on=_NotTakenError, attempts=ATTEMPTS, timeout=None, wait_initial=FIRST_WAIT_S, wait_max=LONGEST_WAIT_S,
                wait_jitter=JITTER_S,
            ):  # fmt: skip
                with attempt:
                    await self._post(http, identity, body)
        except _NotTakenError as error:
            log.warning("webhook_not_taken", why=str(error), message=identity)
            return False
        return True

    async def _post(self, http: httpx.AsyncClient, identity: str, body: str) -> None:
        moment = datetime.fromtimestamp(int(self._clock()), UTC)
        headers = {
            "webhook-id": identity,
            "webhook-timestamp": str(int(moment.timestamp())),
            "webhook-signature": " ".join(key.sign(identity, moment, body) for key in self._keys()),
        }
        try:
            # One limit on everything: an endpoint that answers a byte at a time is as good as none.
            async with (
                asyncio.timeout(self._timeout_s),
                http.stream("POST", self._url, content=body.encode(), headers=headers) as answer,
            ):
                status = answer.status_code
        except (TimeoutError, httpx.TimeoutException):
            raise _NotTakenError("timeout") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError):
            # Its text may quote the URL, and a URL may hold a secret of the receiver's.
            raise _NotTakenError("connection") from None
        if not 200 <= status < 300:
            raise _NotTakenError(f"status_{status}")

    def _keys(self) -> list[Webhook]:
        """Return the signing keys, the newest first; raises _NotTakenError where there is none to sign with."""
        try:
            lines = self._secret_file.read_text(encoding="ascii").split()
        except (OSError, UnicodeDecodeError):
            raise _NotTakenError("secret_unreadable") from None
        if not 1 <= len(lines) <= 2 or not all(map(_is_secret, lines)):
            raise _NotTakenError("secret_invalid")
        try:
            return [Webhook(line) for line in lines]
        except (binascii.Error, EmptyWebhookSecretError):
            raise _NotTakenError("secret_invalid") from None


def looking(store: DeskStore) -> Look:
    """Return how to look an id up in `store`, whether it is an approval's or a review item's."""

    async def look(identity: str) -> Stored | Review | None:
        return await store.read(identity) or await store.review(identity)

    return look


def _is_secret(line: str) -> bool:
    # Standard Webhooks: 24 to 64 bytes. A shorter one could be guessed.
    return re.fullmatch(r"whsec_[A-Za-z0-9+/]{32,86}={0,2}", line) is not None
