"""One decision, found in the streams of a real server by the time in its id."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from fakes.events import DIGEST, completion, decision
from fakes.valkey import Server, running

from ext_authz.server import new_decision_id
from rankgate.audit import AuditEvent
from rankgate.audit.entry import to_fields
from rankgate.audit.names import stream_key
from rankgate.audit.ocsf import Source, render
from rankgate.clients.trail import Trail
from rankgate.console import receipt
from rankgate.console.receipt import Reader, UnreadableError, find, is_decision_id, time_of
from rankgate.errors import Reason
from rankgate.settings.trail import AuditSettings

NOW = 1_790_000_000_000
DECIDED, ENDED = "pod-1/ext_authz-0/1790000000000", "pod-1/ext_proc-0/1790000000000"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as one:
        yield one


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with server.client() as one:
        one.flushall()
        yield one


class Logs:
    """Ships events as gates do."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.index: dict[str, int] = {}

    def add(self, log: str, event: AuditEvent, **changes: bytes) -> None:
        index = self.index.get(log, 0)
        self.index[log] = index + 1
        leaf = render(event, Source("default", log, "0", DIGEST), index)
        self.client.xadd(stream_key("default", log), to_fields(leaf) | changes, id=f"{event.time}-{index}")


def an_id(ms: int) -> str:
    return new_decision_id(ms / 1000)


def reader(client: redis.Redis) -> Reader:
    return Reader(client, "default")


@pytest.mark.parametrize("ms", [0, 1, NOW, 2**48 - 1])
def test_an_id_carries_its_time(ms: int) -> None:
    made = an_id(ms)
    assert is_decision_id(made)
    assert abs(time_of(made) - ms) <= 1  # seconds as a float


@pytest.mark.parametrize(
    "text", ["", "dec-", "dec-" + "i" * 26, "DEC-" + "0" * 26, "dec-" + "0" * 27, "apr-" + "0" * 26]
)
def test_what_is_no_id(text: str) -> None:
    assert not is_decision_id(text)


def test_decision_and_completion_are_found_among_others(client: redis.Redis) -> None:
    logs, wanted = Logs(client), an_id(NOW)
    for number in range(-40, 40):
        logs.add(DECIDED, decision(decision_id=an_id(NOW + number), time=NOW + number * 100 + 30))
    logs.add(DECIDED, decision(decision_id=wanted, time=NOW + 4100))
    logs.add(ENDED, completion(decision_id=wanted, time=NOW + 9000))
    found = reader(client).find(wanted)
    assert found.decision is not None
    assert found.completion is not None
    assert (found.decision.row.position, found.decision.id) == (f"{DECIDED}#80", f"{NOW + 4100}-80")
    assert found.completion.row.outcome == "complete"
    assert found.decision.differs == ()
    assert not found.cut
    assert found.decision.counts("findings") == {"EMAIL_ADDRESS": 2, "IBAN_CODE": 1}
    assert found.decision.plan is not None
    assert found.decision.plan.dropped == (1,)
    assert found.decision.consent is not None
    assert [vote.person for vote in found.decision.consent.votes] == ["ada", "grace"]


def test_a_reader_finds_again_and_what_came_since(client: redis.Redis) -> None:
    logs, wanted, one = Logs(client), an_id(NOW), reader(client)
    assert one.find(wanted) == receipt.Found(None, None)
    logs.add(DECIDED, decision(decision_id=wanted, time=NOW + 10))
    assert one.find(wanted).decision is not None
    assert one.find(wanted).decision is not None


def test_a_held_call_and_a_slow_one_are_within_the_window(client: redis.Redis) -> None:
    logs, wanted = Logs(client), an_id(NOW)
    logs.add(DECIDED, decision(decision_id=wanted, time=NOW + 280_000))
    logs.add(ENDED, completion(decision_id=wanted, time=NOW + 280_000 + 300_000))
    found = reader(client).find(wanted)
    assert found.decision is not None
    assert found.completion is not None


def test_a_clock_that_was_set_back_hides_nothing(client: redis.Redis) -> None:
    logs, wanted = Logs(client), an_id(NOW)
    logs.add(DECIDED, decision(decision_id=wanted, time=NOW - 30_000, allowed=False, reason=Reason.POLICY_DENIED))
    found = reader(client).find(wanted)
    assert found.decision is not None
    assert found.completion is None


def test_an_entry_that_only_mentions_the_id_is_not_it(client: redis.Redis) -> None:
    logs, wanted = Logs(client), an_id(NOW)
    logs.add(DECIDED, decision(decision_id=an_id(NOW), time=NOW, detail=wanted))
    client.xadd(stream_key("default", DECIDED), {"body": b'{"x":"' + wanted.encode() + b'"}'}, id=f"{NOW + 1}-9")
    assert reader(client).find(wanted) == receipt.Found(None, None)


def test_fields_that_belie_the_body_are_named(client: redis.Redis) -> None:
    logs, wanted = Logs(client), an_id(NOW)
    logs.add(DECIDED, decision(decision_id=wanted, time=NOW), subject=b"somebody else")
    found = reader(client).find(wanted)
    assert found.decision is not None
    assert found.decision.differs == ("subject",)
    assert found.decision.row.subject == "indexer"


def test_other_deployments_are_not_looked_into(client: redis.Redis) -> None:
    wanted = an_id(NOW)
    Logs(client).add(DECIDED, decision(decision_id=wanted, time=NOW))
    assert Reader(client, "other").find(wanted) == receipt.Found(None, None)


def test_a_busy_trail_is_given_up_on_and_that_is_said(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    logs, wanted = Logs(client), an_id(NOW)
    for number in range(20):
        logs.add(DECIDED, decision(number, decision_id=an_id(NOW + number), time=NOW + number))
    logs.add(DECIDED, decision(decision_id=wanted, time=NOW + 50))
    monkeypatch.setattr(receipt, "ENTRIES", 10)
    assert reader(client).find(wanted) == receipt.Found(None, None, cut=True)


def test_time_is_an_end_too(client: redis.Redis) -> None:
    logs, wanted = Logs(client), an_id(NOW)
    for number in range(600):
        logs.add(DECIDED, decision(number, decision_id=an_id(NOW), time=NOW + number))
    times = iter([0.0, receipt.SECONDS + 1])
    found = find(Trail(client, "default"), wanted, clock=lambda: next(times))
    assert found == receipt.Found(None, None, cut=True)


def test_a_trail_that_is_away_is_no_absence(server: Server) -> None:
    away = redis.Redis(unix_socket_path="/nonexistent/socket")
    with pytest.raises(UnreadableError):
        Reader(away, "default").find(an_id(NOW))


def test_settings_without_a_trail_have_no_reader(server: Server) -> None:
    assert Reader.of(AuditSettings.model_validate({"directory": "/tmp"}), "default") is None
    assert (
        Reader.of(AuditSettings.model_validate({"directory": "/tmp", "redis_url": server.url}), "default") is not None
    )
