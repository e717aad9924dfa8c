"""Approvals where the store is away, refuses, forgets, is written to by others, or is a cluster."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from certificates import identity
from fakes.asks import CAPS, an_ask, approved, change, opened, record_key, storing
from fakes.valkey import Server, redis_binary, running
from fakes.waiting import until

from rankgate.approvals import Change, Met, State, Use
from rankgate.clients.approvals import ApprovalStore
from rankgate.errors import GateError, Reason

NEEDS_REDIS = pytest.mark.skipif(redis_binary() is None, reason="redis-server is not on PATH")
PREFIX = "state:{default}:approvals:"
# As docs/audit.md and docs/decisions/approvals.md have it.
ACL = [
    "+evalsha", "+eval", "+time", "+get", "+mget", "+set", "+exists", "+pexpire", "+pexpireat", "+pexpiretime", "+hget",
    "+hmget", "+hgetall", "+hexists", "+hset", "+hdel", "+hincrby", "+zadd", "+zrem", "+zcard", "+zrange",
    "+zrangebyscore", "+zrevrangebylex", "+zremrangebyscore", "+xadd", "+xread", "+xrevrange",
]  # fmt: skip
ROOT = Path(__file__).parent.parent.parent

Step = Callable[[ApprovalStore], Awaitable[object]]
STEPS: dict[str, Step] = {
    "join": lambda store: store.join(an_ask(), "", CAPS),
    "read": lambda store: store.read("apr-1"),
    "wait": lambda store: store.wait([("apr-1", "dec-1")]),
    "leave": lambda store: store.leave("apr-1", "dec-1"),
    "consume": lambda store: store.consume("apr-1", "dec-1"),
    "listing": lambda store: store.listing([State.PENDING], 5),
    "revoke": lambda store: store.revoke("ann", "s"),
    "open_review": lambda store: store.open_review(an_ask(), "", 1, 60),
    "reviews": lambda store: store.reviews(closed=False, limit=5),
    "review": lambda store: store.review("apr-1"),
    "close_review": lambda store: store.close_review("apr-1", "ann", ""),
    "expire_due": lambda store: store.expire_due(),
    "events": lambda store: anext(store.events()),
    "more events": lambda store: anext(store.events("0-0")),
}


@pytest.fixture(params=["valkey", pytest.param("redis", marks=[pytest.mark.redis_server, NEEDS_REDIS])])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Yield a running server of each kind that is here."""
    with running(redis_binary() if request.param == "redis" else None) as started:
        yield started


@pytest.fixture
async def store(server: Server) -> AsyncIterator[ApprovalStore]:
    async with storing(server) as one:
        yield one


async def fault(step: Step, store: ApprovalStore) -> str:
    """Return the word that `step` is refused with."""
    with pytest.raises(GateError) as caught:
        await step(store)
    assert caught.value.reason is Reason.APPROVAL_STORE_UNAVAILABLE
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    assert caught.value.__cause__ is None
    return caught.value.detail


async def ready(store: ApprovalStore) -> None:
    """Return once the store noticed that the server is another one."""
    async with asyncio.timeout(20):
        while not await store.ready():
            pass


async def whole_life(store: ApprovalStore) -> None:
    """Use every part of a store."""
    await store.settle(await opened(store, an_ask("denied")), State.DENIED, kind="voted", person="bob", statement="no")
    assert (await store.join(an_ask("denied"), "", CAPS)).met is Met.DENIED
    first = await approved(store)
    await store.settle(first, State.PENDING, kind="withdrawn", person="ann")
    again = await store.read(first.ask.id)
    assert again is not None
    assert await store.settle(again, State.APPROVED, kind="voted", person="ann", statement="y") is Change.DONE
    await store.revoke("ann", "revoked")
    await store.wait([(first.ask.id, "dec-1")])
    assert await store.consume(first.ask.id, "dec-1") is Use.SPENT
    await store.leave(first.ask.id, "dec-1")
    review = an_ask(break_glass="why")
    assert await store.open_review(review, "", 1000, 60)
    assert await store.close_review(review.id, "ann", "fine") is Change.DONE
    assert len(await store.reviews(closed=True, limit=1)) == 1
    await opened(store, an_ask("due", expires_ms=int(time.time() * 1000) - 1))
    assert await store.expire_due() == 1
    assert len(await store.listing([State.CONSUMED], 1)) == 1
    assert len(await anext(store.events("0-0"))) > 5
    assert await anext(store.events()) == []
    assert await store.ready()


async def test_a_server_that_is_away_refuses_every_step_and_comes_back(server: Server, store: ApprovalStore) -> None:
    first = await approved(store)
    events = store.events()
    await anext(events)
    server.kill()
    with pytest.raises(GateError, match="unreachable"):
        await anext(events)
    assert {name: await fault(step, store) for name, step in STEPS.items()} == dict.fromkeys(STEPS, "unreachable")
    assert await fault(lambda each: each.settle(first, State.DENIED, kind="voted"), store) == "unreachable"
    assert not await store.ready()
    server.start()
    await ready(store)
    # What was written is still there, over connections of the same store.
    assert await store.read(first.ask.id) == first
    assert await store.consume(first.ask.id, "dec-1") is Use.SPENT


async def test_a_server_that_lost_everything_knows_no_approval(server: Server, store: ApprovalStore) -> None:
    first = await approved(store)
    server.kill()
    shutil.rmtree(server.folder / "appendonlydir")
    server.start()
    await ready(store)
    assert await store.read(first.ask.id) is None
    assert await store.consume(first.ask.id, "dec-1") is Use.GONE
    assert await store.settle(first, State.DENIED, kind="voted") is Change.CLOSED
    assert (await store.join(an_ask(), "", CAPS)).met is Met.OPENED


async def test_a_server_that_does_not_answer_costs_half_a_second(server: Server, store: ApprovalStore) -> None:
    await store.ready()
    server.freeze()
    try:
        for name in ("join", "read", "wait", "leave", "consume", "open_review"):
            begun = time.monotonic()
            assert await fault(STEPS[name], store) == "timeout"
            assert time.monotonic() - begun < 1.5, name
    finally:
        server.thaw()
    await until(lambda: not server.client().exists("nothing"))
    await whole_life(store)


async def test_a_caller_that_leaves_mixes_up_no_answers(server: Server, store: ApprovalStore) -> None:
    stored = [await opened(store, an_ask(str(number))) for number in range(8)]
    for _ in range(20):
        reads = [asyncio.create_task(store.read(one.ask.id)) for one in stored]
        await asyncio.sleep(0)
        for place in (0, 3, 7):
            reads[place].cancel()
        answers = await asyncio.gather(*reads, return_exceptions=True)
        for one, answer in zip(stored, answers, strict=True):
            assert answer == one or isinstance(answer, asyncio.CancelledError)
    assert await asyncio.gather(*(store.read(one.ask.id) for one in stored)) == stored


async def test_more_callers_than_connections_are_all_answered(server: Server, store: ApprovalStore) -> None:
    first = await opened(store)
    assert await asyncio.gather(*(store.read(first.ask.id) for _ in range(200))) == [first] * 200
    with server.client() as client:
        assert int(client.info("clients")["connected_clients"]) <= 34


async def test_scripts_that_the_server_forgot_are_sent_again(server: Server, store: ApprovalStore) -> None:
    for _ in range(2):
        await whole_life(store)
        with server.client() as client:
            client.script_flush()
            client.flushall()


def restrict(server: Server, *rights: str) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "state", "reset", "on", ">secret", "~state:*", "-@all", *rights)


async def test_the_user_of_the_docs_can_do_everything_and_no_command_of_it_is_idle(
    server: Server, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_text("secret\n")

    async def fails(*rights: str) -> str:
        restrict(server, *rights)
        with server.client() as client:
            client.flushall()
        async with storing(server, redis_user="state", redis_password_file=password) as store:
            try:
                await whole_life(store)
            except GateError as error:
                return str(error)
            return ""

    assert await fails(*ACL) == ""
    with server.client() as client:
        assert client.execute_command("ACL", "LOG") == []
        client.script_flush()
    without = {right: await fails(*(other for other in ACL if other != right)) for right in ACL}
    assert without == dict.fromkeys(ACL, "no_permission")
    restrict(server, *ACL)
    with server.client(username="state", password="secret") as client:
        for command in ("KEYS *", "FLUSHALL", "CONFIG GET *", "XADD audit:x * a b", "GET audit:x", "DEL state:x"):
            with pytest.raises(Exception, match="permissions"):
                client.execute_command(*command.split())


@pytest.mark.parametrize("page", ["audit.md", "decisions/approvals.md"])
def test_the_docs_name_this_user(page: str) -> None:
    line = f"ACL SETUSER state on >password ~state:* -@all {' '.join(ACL)}"
    assert line in (ROOT / "docs" / page).read_text(encoding="utf-8").replace("\\\n  ", "")


async def test_the_password_is_read_again_at_each_connection(server: Server, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("wrong")
    restrict(server, *ACL)
    async with storing(server, redis_user="state", redis_password_file=password) as store:
        assert await fault(STEPS["join"], store) == "authentication"
        password.write_bytes(b"\xff\xfe")
        assert await fault(STEPS["join"], store) == "password_file"
        password.unlink()
        assert await fault(STEPS["join"], store) == "password_file"
        password.write_text("secret")
        assert await store.ready()


async def test_a_server_that_takes_no_changes_is_not_ready(server: Server, store: ApprovalStore) -> None:
    with server.client() as client:
        client.config_set("maxmemory", "1")
        assert await fault(STEPS["join"], store) == "out_of_memory"
        assert not await store.ready()
        client.config_set("maxmemory", "0")
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        assert await fault(STEPS["join"], store) == "read_only"
        assert not await store.ready()
        client.execute_command("REPLICAOF", "NO", "ONE")
    assert await store.ready()


@pytest.mark.redis_server
@NEEDS_REDIS
async def test_tls_is_checked_against_the_given_authority(tmp_path: Path, unused_tcp_port: int) -> None:
    ours, other = identity(tmp_path / "ours", "localhost"), identity(tmp_path / "other", "localhost")
    with running(redis_binary()) as server:
        server.kill()
        tls = {"port": unused_tcp_port, "cert-file": ours.certificate, "key-file": ours.key, "auth-clients": "no"}
        options = (word for name, value in tls.items() for word in (f"--tls-{name}", str(value)))
        server.start("--bind", "127.0.0.1", *options)
        url = f"rediss://localhost:{unused_tcp_port}"
        async with storing(server, redis_url=url, redis_ca_file=other.certificate) as store:
            assert await fault(STEPS["join"], store) == "unreachable"
        async with storing(server, redis_url=url, redis_ca_file=ours.certificate) as store:
            await opened(store)


async def test_in_a_cluster_every_key_is_in_one_slot(
    server: Server, unused_tcp_port_factory: Callable[[], int]
) -> None:
    server.kill()
    shutil.rmtree(server.folder / "appendonlydir")
    port, bus = unused_tcp_port_factory(), unused_tcp_port_factory()
    server.start(
        "--bind", "127.0.0.1", "--port", str(port), "--cluster-enabled", "yes", "--cluster-port", str(bus)
    )  # fmt: skip
    with server.client() as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        await until(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"))
        async with storing(server) as store:
            await whole_life(store)
        # There is a slot to be in: others' keys are refused in one script.
        with pytest.raises(Exception, match=r"CROSSSLOT|same slot"):
            client.execute_command("EVAL", "return 1", 2, "a", "b")
        assert len({client.execute_command("CLUSTER", "KEYSLOT", key) for key in client.keys("*")}) == 1


GARBLED: dict[str, dict[str, str | int]] = {
    "no body": {"body": ""},
    "other json": {"body": '{"id":"x"}'},
    "deep json": {"body": '{"x":' + "[" * 100_000},
    "no text": {"body": "\udcff"},
    "a strange state": {"state": "granted"},
    "a strange revision": {"revision": "1e3"},
    "a strange time": {"expires": "never"},
    "another strange time": {"changed": "-1"},
    "votes without end": {f"vote:{number}": "x" for number in range(300)},
    "a time in no year": {"changed": 999_999_999_999_999},
}


@pytest.mark.parametrize("what", [*GARBLED, "another type", "another record", "an end in no year"])
async def test_what_somebody_else_wrote_is_as_good_as_absent(server: Server, store: ApprovalStore, what: str) -> None:
    good = await opened(store, an_ask("good"))
    bad = await opened(store, an_ask("bad"))
    name = bad.ask.id
    with server.client(encoding_errors="surrogateescape") as client:
        if what == "another type":
            client.delete(record_key(name))
            client.set(record_key(name), "x")
        elif what == "another record":
            client.hset(record_key(name), "body", good.body)
        elif what == "an end in no year":
            client.hset(record_key(name), "body", msgspec.structs.replace(bad.ask, expires_ms=10**17).encode())
        else:
            client.hset(record_key(name), mapping=dict(GARBLED[what]))
    if what not in {"a strange time", "a strange revision"}:
        assert await store.read(name) is None
    assert good in await store.listing([State.PENDING], 5)
    assert await store.consume(name, "dec-1") is Use.GONE
    met, stored = await store.join(an_ask("bad"), "", CAPS)
    assert met is Met.OPENED and stored is not None and stored.ask.id != name
    assert await store.listing([State.PENDING], 1) == [stored]
    assert await store.settle(bad, State.PENDING, kind="voted") in Change
    await store.expire_due()


async def test_names_that_lead_nowhere_are_passed_over(server: Server, store: ApprovalStore) -> None:
    ask = an_ask()
    with server.client() as client:
        for kind in ("asked", "denied"):
            client.set(f"{PREFIX}{kind}:{ask.canonical_digest}", b"\xff nobody")
        client.set(f"{PREFIX}bond:{ask.use_digest}:{ask.plan_digest}", "apr-nobody")
    assert (await store.join(ask, "", CAPS)).met is Met.OPENED


async def test_a_denial_is_one_by_its_record_not_by_its_name(server: Server, store: ApprovalStore) -> None:
    first = await approved(store)
    with server.client() as client:
        client.set(f"{PREFIX}denied:{first.ask.canonical_digest}", first.ask.id)
    assert (await store.join(an_ask(use_digest="use 2"), "", CAPS)).met is Met.OPENED


async def test_nothing_is_written_over_a_record(server: Server, store: ApprovalStore) -> None:
    first = await opened(store)
    with server.client() as client:
        client.delete(f"{PREFIX}bond:{first.ask.use_digest}:{first.ask.plan_digest}")
        client.delete(f"{PREFIX}asked:{first.ask.canonical_digest}")
    assert await fault(lambda each: each.join(first.ask, "other", CAPS), store) == "contended"
    assert await store.read(first.ask.id) == first


async def test_a_name_of_another_type_refuses(server: Server, store: ApprovalStore) -> None:
    with server.client() as client:
        client.lpush(f"{PREFIX}asked:{an_ask().canonical_digest}", "x")
    assert await fault(STEPS["join"], store) == "wrong_type"


async def test_votes_and_revocations_that_are_no_text_are_left_out(server: Server, store: ApprovalStore) -> None:
    first = await approved(store)
    with server.client() as client:
        client.hset(record_key(first.ask.id), "vote:bob", b"\xff")
        client.hset(f"{PREFIX}revocations", "bob", b"\xff")
    assert await store.read(first.ask.id) == first


async def test_strange_reviews_and_events_are_passed_over(server: Server, store: ApprovalStore) -> None:
    asks = [an_ask(break_glass="why") for _ in range(4)]
    for ask in asks:
        await store.open_review(ask, "", 10, 60)
    with server.client() as client:
        client.hset(f"{PREFIX}review-record:{asks[0].id}", "body", "x")
        client.set(f"{PREFIX}review-record:{asks[1].id}", "x")
        client.hset(f"{PREFIX}review-record:{asks[2].id}", "closed", "x")
        client.xadd(f"{PREFIX}events", {"kind": b"\xff"})
        client.xadd(f"{PREFIX}events", {"kind": b"\xff", "approval": "a"})
    assert [review.ask for review in await store.reviews(closed=False, limit=9)] == [asks[3]]
    assert [await store.review(asks[number].id) for number in (0, 2)] == [None, None]
    assert await fault(lambda one: one.review(asks[1].id), store) == "wrong_type"
    assert len(await anext(store.events("0-0"))) == 4


@pytest.mark.parametrize("answer", [[["stream"]], [["stream", [["1-0"]]]], 7, [["stream", [[b"\xff", {}]]]]])
async def test_an_answer_that_is_no_stream_is_a_fault_like_any_other(
    store: ApprovalStore, monkeypatch: pytest.MonkeyPatch, answer: object
) -> None:
    async def said(*_: object, **__: object) -> object:
        return answer

    monkeypatch.setattr(store._reader, "xread", said)
    monkeypatch.setattr(store._reader, "xrevrange", said)
    assert await fault(lambda one: anext(one.events("0-0")), store)
    assert await fault(lambda one: anext(one.events()), store)


async def test_no_event_is_later_than_there_are_dates(server: Server, store: ApprovalStore) -> None:
    with server.client() as client:
        client.xadd(f"{PREFIX}events", {"kind": "opened", "approval": "a"}, id="9999999999999999-0")
    (event,) = await anext(store.events("0-0"))
    assert datetime.fromtimestamp(event.time_ms / 1000, UTC).year == 9999


async def test_a_due_entry_that_disagrees_with_its_record_follows_the_record(
    server: Server, store: ApprovalStore
) -> None:
    first = await opened(store)
    with server.client() as client:
        client.zadd(f"{PREFIX}due", {first.ask.id: 1, "apr-nobody": 1})
        assert await store.expire_due() == 0
        assert client.zrange(f"{PREFIX}due", 0, -1, withscores=True) == [
            (first.ask.id.encode(), float(first.ask.expires_ms))
        ]
    change(server, first.ask.id, {"expires": 1})
    with server.client() as client:
        client.zadd(f"{PREFIX}due", {first.ask.id: 1})
    assert await store.expire_due() == 1
