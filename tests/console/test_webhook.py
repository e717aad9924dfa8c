"""The outgoing webhook, against a real receiver that verifies with the library of Standard Webhooks."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import stamina
import structlog
from fakes.http_server import Exchange, serving
from fakes.waiting import until
from prometheus_client import CollectorRegistry
from standardwebhooks import Webhook, WebhookVerificationError

from rankgate.approvals import Ask, Caller, Event, PlanSummary, Requirement, Review, State, Stored
from rankgate.console import webhook
from rankgate.console.webhook import CursorFile, WebhookSender, looking
from rankgate.errors import GateError, Reason

NOW_MS = 1_700_000_000_000
SECRETS = ["whsec_" + base64.b64encode(bytes([number] * 32)).decode() for number in (1, 2, 3)]
ASK = Ask(
    id="apr-1", deployment="default", decision_id="dec-1", opened_ms=NOW_MS, expires_ms=NOW_MS + 900_000,
    use_digest="use-digest", plan_digest="plan-digest", canonical_digest="canonical-digest",
    requirement=Requirement(("approvers",), 2, 900),
    caller=Caller("https://issuer.example", "search", "acme", ("search",)),
    route="rerank", path="/v2/rerank?secret=1", upstream="cohere", dialect="cohere.v2", model="rerank-v3.5",
    document_count=3, total_chars=42, plan=PlanSummary("default", "default"), findings={"EMAIL_ADDRESS": 2},
    risk="high", reasons=("bank data",), preview="sealed-preview",
)  # fmt: skip


class Receiver:
    """Keeps what it was sent; `answers` are the next statuses, then 204."""

    def __init__(self, *answers: int) -> None:
        self.url = ""
        self.answers = list(answers)
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.hang = threading.Event()
        self.hang.set()

    def answer(self, exchange: Exchange) -> None:
        self.got.append((exchange.headers, exchange.body))
        self.hang.wait(20)
        status = self.answers.pop(0) if self.answers else 204
        exchange.send(b"", status, {"location": f"{self.url}/elsewhere"} if 300 <= status < 400 else {})

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.got]

    @property
    def messages(self) -> list[tuple[str, str]]:
        """Return type and id of what each message is about."""
        bodies = [json.loads(body) for _, body in self.got]
        return [(body["type"], body["data"]["id"]) for body in bodies]


class Store:
    """Approvals, reviews and events; `failing` is how often it raises `fault` before it is there."""

    def __init__(self) -> None:
        self.approvals: dict[str, Stored] = {}
        self.items: list[Review] = []
        self.happened: list[Event] = []
        self.failing = 0
        self.fault: Exception = GateError(Reason.APPROVAL_STORE_UNAVAILABLE)
        self.listened_to = False

    def happen(self, kind: str, number: int = 1, state: State = State.PENDING) -> None:
        ask = replace_ask(number)
        self.approvals[ask.id] = Stored(ask=ask, body=ask.encode(), mac="", state=state)
        self.tell(kind, ask.id)

    def tell(self, kind: str, identity: str) -> None:
        self.happened.append(Event(f"{NOW_MS}-{len(self.happened)}", kind, identity, NOW_MS))

    async def events(self, after: str) -> AsyncIterator[Sequence[Event]]:
        cursors = [event.cursor for event in self.happened]
        place = len(cursors) if after == "$" else cursors.index(after) + 1 if after in cursors else 0
        self.listened_to = True
        while True:
            self._fail()
            batch, place = self.happened[place:], len(self.happened)
            yield batch
            await asyncio.sleep(0.01)

    async def read(self, approval: str) -> Stored | None:
        self._fail()
        return self.approvals.get(approval)

    async def review(self, review: str) -> Review | None:
        return next((item for item in self.items if item.ask.id == review), None)

    def _fail(self) -> None:
        if self.failing:
            self.failing -= 1
            raise self.fault


def replace_ask(number: int) -> Ask:
    members = {name: getattr(ASK, name) for name in ASK.__struct_fields__}
    return Ask(**(members | {"id": f"apr-{number}"}))


@pytest.fixture(autouse=True)
def _no_waits() -> Iterator[None]:
    """Let each round have three attempts, one at once after the other."""
    with stamina.set_testing(True, attempts=3):
        yield


class Bench:
    """A sender with its receiver, its store and its files."""

    def __init__(self, receiver: Receiver, folder: Path) -> None:
        self.receiver = receiver
        self.store = Store()
        self.secret = folder / "secret"
        self.secret.write_text(SECRETS[0])
        self.cursor = folder / "cursor"
        self.pauses: list[float] = []
        self.registry = CollectorRegistry()

    def sender(self, **changes: Any) -> WebhookSender:
        usual: dict[str, Any] = {
            "deployment": "default", "public_url": "https://console.example", "sleep": self.pause, "timeout_s": 5.0,
            "registry": CollectorRegistry(), "agreed": lambda *_: True,
        }  # fmt: skip
        return WebhookSender(
            f"{self.receiver.url}/hook", self.secret, self.store.events, looking(self.store),  # type: ignore[arg-type]
            CursorFile(self.cursor), **(usual | changes),
        )  # fmt: skip

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)

    @contextlib.asynccontextmanager
    async def running(self, **changes: Any) -> AsyncIterator[None]:
        task = asyncio.create_task(self.sender(**changes).run())
        await asyncio.sleep(0)
        try:
            yield
        finally:
            assert not task.done(), task.exception()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def count(self, outcome: str) -> float | None:
        return self.registry.get_sample_value("rankgate_webhook_messages_total", {"outcome": outcome})


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    receiver = Receiver()
    with serving(receiver):
        made = Bench(receiver, tmp_path)
        made.cursor.write_text("0-0")
        yield made
        receiver.hang.set()


async def got(bench: Bench, count: int) -> None:
    await until(lambda: len(bench.receiver.got) >= count)


async def test_a_message_is_what_standard_webhooks_verifies(bench: Bench) -> None:
    bench.store.happen("opened")
    async with bench.running():
        await got(bench, 1)
    headers, body = bench.receiver.got[0]
    assert Webhook(SECRETS[0]).verify(body, headers) == {
        "type": "approval.opened",
        "timestamp": "2023-11-14T22:13:20.000Z",
        "data": {
            "id": "apr-1", "state": "pending", "deployment": "default",
            "caller": {"subject": "search", "tenant": "acme"}, "route": "rerank", "model": "rerank-v3.5",
            "document_count": 3, "findings": {"EMAIL_ADDRESS": 2}, "risk": "high", "reasons": ["bank data"],
            "requirement": {"groups": ["approvers"], "quorum": 2, "ttl_s": 900},
            "url": "https://console.example/approvals/apr-1",
        },
    }  # fmt: skip
    assert headers["content-type"] == "application/json"
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRETS[1]).verify(body, headers)


async def test_nothing_secret_is_in_a_message(bench: Bench) -> None:
    bench.store.happen("opened")
    async with bench.running():
        await got(bench, 1)
    headers, body = bench.receiver.got[0]
    sent = body.decode() + json.dumps(headers)
    for secret in ("sealed-preview", "digest", "secret=1", SECRETS[0], SECRETS[0][6:], "https://issuer.example"):
        assert secret not in sent


async def test_what_an_endpoint_refuses_once_it_is_sent_again_under_the_same_id(bench: Bench) -> None:
    bench.receiver.answers = [500, 429]
    bench.store.happen("opened")
    async with bench.running(registry=bench.registry):
        await got(bench, 3)
        await until(lambda: bench.count("sent") == 1)
    assert len(set(bench.receiver.ids)) == 1 and len({body for _, body in bench.receiver.got}) == 1
    assert (bench.pauses, bench.count("failed")) == ([], 0)


async def test_after_a_round_of_attempts_it_pauses_and_the_order_is_kept(bench: Bench) -> None:
    bench.receiver.answers = [503] * 7
    bench.store.happen("opened", 1)
    bench.store.happen("opened", 2)
    async with bench.running(registry=bench.registry):
        await until(lambda: bench.count("sent") == 2)
    assert [identity for _, identity in bench.receiver.messages] == ["apr-1"] * 8 + ["apr-2"]
    assert (bench.pauses, bench.count("failed")) == ([60.0, 60.0], 2)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed_and_no_success(bench: Bench, status: int) -> None:
    bench.receiver.answers = [status]
    bench.store.happen("opened")
    async with bench.running(registry=bench.registry):
        await until(lambda: bench.count("sent") == 1)
    assert len(bench.receiver.got) == 2


async def test_an_endpoint_that_does_not_answer_is_left_after_the_timeout(bench: Bench) -> None:
    bench.receiver.hang.clear()
    bench.store.happen("opened")
    async with bench.running(timeout_s=0.2, registry=bench.registry):
        await got(bench, 2)
        bench.receiver.hang.set()
        await until(lambda: bench.count("sent") == 1)
    assert len(set(bench.receiver.ids)) == 1


async def test_an_endpoint_that_is_not_there_ends_nothing(bench: Bench) -> None:
    bench.receiver.url = "http://127.0.0.1:1"
    bench.store.happen("opened")
    async with bench.running(registry=bench.registry):
        await until(lambda: (bench.count("failed") or 0) >= 3)
    assert bench.cursor.read_text() == "0-0"


async def test_a_restart_continues_behind_what_was_taken_and_repeats_what_was_not(bench: Bench) -> None:
    bench.store.happen("opened", 1)
    bench.store.happen("opened", 2)
    bench.receiver.answers = [204] + [503] * 1000
    async with bench.running():
        await got(bench, 3)
    refused = bench.receiver.ids[-1]
    bench.receiver.answers, bench.receiver.got = [], []
    bench.store.happen("opened", 3)
    async with bench.running():
        await got(bench, 2)
    assert bench.receiver.messages == [("approval.opened", "apr-2"), ("approval.opened", "apr-3")]
    assert bench.receiver.ids[0] == refused


async def test_a_console_that_never_told_anything_begins_with_what_happens_next(bench: Bench) -> None:
    bench.cursor.unlink()
    bench.store.happen("opened", 1)
    async with bench.running():
        await until(lambda: bench.store.listened_to)
        bench.store.happen("opened", 2)
        await got(bench, 1)
    assert bench.receiver.messages == [("approval.opened", "apr-2")]


async def test_a_cursor_that_cannot_be_understood_is_none(bench: Bench) -> None:
    bench.cursor.write_text("../../etc")
    assert CursorFile(bench.cursor).read() is None


@pytest.mark.parametrize("fault", [GateError(Reason.APPROVAL_STORE_UNAVAILABLE), RuntimeError("not foreseen")])
async def test_a_store_that_is_away_or_fails_as_nobody_foresaw_loses_nothing(bench: Bench, fault: Exception) -> None:
    bench.store.fault = fault
    bench.store.happen("opened", 1)
    bench.store.happen("opened", 2)
    bench.store.failing = 5
    async with bench.running():
        await got(bench, 2)
    assert bench.receiver.messages == [("approval.opened", "apr-1"), ("approval.opened", "apr-2")]
    assert bench.pauses and set(bench.pauses) == {2.0}


async def test_a_message_that_fails_on_its_way_as_nobody_foresaw_is_sent_the_next_time(bench: Bench) -> None:
    times = iter([RuntimeError("not foreseen")])

    def clock() -> float:
        for fault in times:
            raise fault
        return time.time()

    bench.store.happen("opened", 1)
    bench.store.happen("opened", 2)
    async with bench.running(clock=clock):
        await got(bench, 2)
    assert bench.receiver.messages == [("approval.opened", "apr-1"), ("approval.opened", "apr-2")]


async def test_a_changed_secret_signs_the_next_message(bench: Bench) -> None:
    async with bench.running():
        bench.store.happen("opened", 1)
        await got(bench, 1)
        bench.secret.write_text(f"{SECRETS[1]}\n{SECRETS[0]}\n")
        bench.store.happen("opened", 2)
        await got(bench, 2)
        bench.secret.write_text(SECRETS[1])
        bench.store.happen("opened", 3)
        await got(bench, 3)
    valid = [[_verifies(secret, *message) for secret in SECRETS] for message in bench.receiver.got]
    assert valid == [[True, False, False], [True, True, False], [False, True, False]]


def _verifies(secret: str, headers: dict[str, str], body: bytes) -> bool:
    try:
        Webhook(secret).verify(body, headers)
    except WebhookVerificationError:
        return False
    return True


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_c2hvcnQ=", "no secret", "\n".join(SECRETS), "ä"])
async def test_without_a_secret_nothing_is_sent_until_there_is_one(bench: Bench, text: str) -> None:
    bench.secret.write_text(text)
    bench.store.happen("opened")
    async with bench.running(registry=bench.registry):
        await until(lambda: (bench.count("failed") or 0) >= 1)
        assert bench.receiver.got == []
        bench.secret.write_text(SECRETS[0])
        await got(bench, 1)


async def test_the_timestamp_is_that_of_the_attempt(bench: Bench) -> None:
    bench.store.happen("opened")
    async with bench.running(clock=lambda: 1_800_000_000.9):
        await got(bench, 1)
    assert bench.receiver.got[0][0]["webhook-timestamp"] == "1800000000"


async def test_only_the_chosen_kinds_are_sent_and_what_is_no_news_is_not(bench: Bench) -> None:
    for number, kind in enumerate(("opened", "waiting", "expired", "cancelled", "revoked", "consumed"), 1):
        bench.store.happen(kind, number)
    async with bench.running(kinds=("expired", "consumed")):
        await got(bench, 2)
    assert bench.receiver.messages == [("approval.expired", "apr-3"), ("approval.consumed", "apr-6")]
    assert [json.loads(body)["data"]["state"] for _, body in bench.receiver.got] == ["expired", "consumed"]


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ([("voted", State.PENDING), ("voted", State.APPROVED)], ["approval.approved"]),
        ([("voted", State.APPROVED), ("approved", State.APPROVED)], ["approval.approved"]),
        ([("voted", State.APPROVED), ("voted", State.DENIED)], ["approval.approved", "approval.denied"]),
        ([("voted", State.CONSUMED), ("consumed", State.CONSUMED)], ["approval.approved", "approval.consumed"]),
        (
            [("voted", State.APPROVED), ("withdrawn", State.PENDING), ("voted", State.APPROVED)],
            ["approval.approved", "approval.approved"],
        ),
    ],
)
async def test_a_vote_is_told_as_what_came_of_it(bench: Bench, steps: list[tuple[str, State]], told: list[str]) -> None:
    async with bench.running(registry=bench.registry):
        for kind, state in steps:
            bench.store.happen(kind, 1, state)
            place = bench.store.happened[-1].cursor
            await until(lambda place=place: bench.cursor.read_text().strip() == place)
    assert [kind for kind, _ in bench.receiver.messages] == told
    assert len(set(bench.receiver.ids)) == len(told)


async def test_consent_that_only_the_store_knows_of_is_not_told(bench: Bench) -> None:
    async with bench.running(agreed=lambda *_: False):
        bench.store.happen("approved", 1, State.APPROVED)
        bench.store.happen("voted", 2, State.APPROVED)
        bench.store.happen("opened", 3)
        await got(bench, 1)
    assert bench.receiver.messages == [("approval.opened", "apr-3")]


async def test_reviews_are_told_with_their_own_page(bench: Bench) -> None:
    ask = replace_ask(9)
    bench.store.items = [Review(ask=ask, body=ask.encode(), mac="")]
    bench.store.tell("review_opened", ask.id)
    async with bench.running():
        await got(bench, 1)
        bench.store.items = [replace(bench.store.items[0], closed_ms=NOW_MS)]
        bench.store.tell("review_closed", ask.id)
        await got(bench, 2)
    data = [json.loads(body)["data"] for _, body in bench.receiver.got]
    assert bench.receiver.messages == [("review.opened", "apr-9"), ("review.closed", "apr-9")]
    assert [one["state"] for one in data] == ["open", "closed"]
    assert data[0]["url"] == "https://console.example/reviews"


async def test_what_the_store_forgot_holds_nothing_up(bench: Bench) -> None:
    bench.store.tell("opened", "apr-gone")
    bench.store.happen("opened", 2)
    async with bench.running():
        await got(bench, 1)
    assert bench.receiver.messages == [("approval.opened", "apr-2")]


async def test_no_log_line_holds_the_address_or_the_secret(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whatever logged before in this process may have set it up to write elsewhere.
    structlog.reset_defaults()
    monkeypatch.setattr(webhook, "log", structlog.get_logger())
    bench.receiver.answers = [500] * 3
    bench.store.happen("opened")
    async with bench.running():
        await got(bench, 4)
    told = "".join(capsys.readouterr())
    assert "webhook_not_taken" in told and "status_500" in told
    assert "/hook" not in told and SECRETS[0] not in told


def test_ids_differ_between_deployments_and_events(bench: Bench) -> None:
    event = Event("1-0", "opened", "apr-1", NOW_MS)
    stored = Stored(ask=ASK, body=b"", mac="", state=State.PENDING)

    def identity(deployment: str, one: Event) -> str:
        return bench.sender(deployment=deployment)._message(one, "opened", stored)[0]

    others = {identity(deployment, one) for deployment in "ab" for one in (event, event._replace(cursor="1-1"))}
    assert len(others) == 4
    assert identity("a", event) == identity("a", event)
