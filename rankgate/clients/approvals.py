"""Approvals in a Redis or Valkey: for gates and for the console. Whatever fails is one refusal with one word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Self

import redis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from rankgate.approvals import Ask, Caps, Change, DeskStore, Event, GateStore, Joined, Met, Review, State, Stored, Use
from rankgate.clients import approval_scripts as scripts
from rankgate.clients.approval_keys import Keys
from rankgate.clients.approval_records import event_of, requirement_text, review_of, stored_of
from rankgate.clients.approval_scripts import Script
from rankgate.clients.audit_redis import connection_options, fault_word
from rankgate.errors import GateError, Reason
from rankgate.settings.redis import RedisSettings

__all__ = ["ApprovalStore"]

# A step of a gate ends within half a second, whatever Redis does.
_CONNECT_S: Final = 0.4
_ANSWER_S: Final = 0.4
_STEP_S: Final = 0.45
_DESK_S: Final = 5.0
_BLOCK_MS: Final = 1000
_BLOCK_ANSWER_S: Final = 2.0
_CONNECTIONS: Final = 32
# A waiter says every second that it waits.
_STALE_MS: Final = 3000
# How often the names that `join` goes by may change under it before it gives up.
_TRIES: Final = 8
_BATCH: Final = 100
_EVENTS: Final = 500


class ApprovalStore(GateStore, DeskStore):
    """A GateStore and a DeskStore. Everything raises GateError(APPROVAL_STORE_UNAVAILABLE) where it cannot be done.

    `client` answers steps; `reader` waits for events, so it must allow for answers that take a second. Times are
    Redis's own. What became of an approval is kept for `history_s` seconds after it expired.
    """

    def __init__(self, client: Redis, reader: Redis, deployment: str, history_s: int) -> None:
        self._client = client
        self._reader = reader
        self._keys = Keys(deployment)
        self._history_ms = history_s * 1000
        self._slots = asyncio.Semaphore(_CONNECTIONS)

    @classmethod
    def connect(cls, settings: RedisSettings, deployment: str, history_s: int) -> Self:
        """Return a store that connects when first used. Raises ValueError where the settings name no Redis."""
        if settings.redis_url is None:
            raise ValueError(f"{settings.section}.redis_url is not set")

        def client(answer_s: float) -> Redis:
            options = connection_options(
                settings.redis_url or "",
                user=settings.redis_user,
                password_file=settings.redis_password_file,
                ca_file=settings.redis_ca_file,
                answer_s=answer_s,
                connect_s=_CONNECT_S,
            )
            return Redis(retry=Retry(NoBackoff(), 0), **options)

        return cls(client(_ANSWER_S), client(_BLOCK_ANSWER_S), deployment, history_s)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()
        await self._reader.aclose()

    async def ready(self) -> bool:
        """Tell whether changes can be made now."""
        try:
            async with self._step():
                await self._run(scripts.READY, [self._keys.ready])
        except GateError:
            return False
        return True

    async def join(self, ask: Ask, mac: str, caps: Caps) -> Joined:
        """Return the open approval of the same request and plan, else open `ask`; atomically.

        A record that cannot be read is passed over as if it were not there.
        """
        keys = self._keys
        asked = (ask.id, ask.encode(), mac, ask.expires_ms, requirement_text(ask))
        names = [keys.bond(ask), keys.asked(ask), keys.denied(ask)]
        unreadable = {b""}
        async with self._step():
            for _ in range(_TRIES):
                held: Any = await self._client.mget(names)
                ids = [value or b"" for value in held]
                records = [keys.record(_id(name)) if name not in unreadable else keys.nothing for name in ids]
                answer = await self._run(
                    scripts.JOIN,
                    [keys.record(ask.id), *names, *keys.pending(ask), *records],
                    [*asked, *ids, *caps, self._history_ms, ask.use_digest],
                )
                met = answer[0].decode()
                if met == Met.FULL:
                    return Joined(Met.FULL, None)
                if met != "again":
                    stored = stored_of(_id(answer[1]), answer[2])
                    if stored is not None:
                        return Joined(Met(met), stored)
                    unreadable.add(answer[1])
            raise GateError(Reason.APPROVAL_STORE_UNAVAILABLE, "contended")

    async def read(self, approval: str) -> Stored | None:
        """Return the approval with its votes, and the revocations of those who voted; None where it is not there."""
        async with self._step():
            return stored_of(approval, await self._run(scripts.READ, [self._keys.record(approval)]))

    async def wait(self, waiting: Collection[tuple[str, str]]) -> None:
        """Say, again every second, which calls wait: pairs of approval and decision id, in one go."""
        if not waiting:
            return
        async with self._step():
            await self._run(
                scripts.WAIT,
                [self._keys.waiters(approval) for approval, _ in waiting],
                [decision_id for _, decision_id in waiting],
            )

    async def leave(self, approval: str, decision_id: str) -> None:
        """Say that the caller waits no longer."""
        async with self._step():
            await self._client.zrem(self._keys.waiters(approval), decision_id)

    async def consume(self, approval: str, decision_id: str) -> Use:
        """Spend `approval` for `decision_id`; atomically, and once, however often it is asked.

        A failure tells nothing about whether it was spent: ask again.
        """
        async with self._step():
            keys = [self._keys.record(approval), self._keys.waiters(approval)]
            return Use(_word(await self._run(scripts.CONSUME, keys, [approval, decision_id, _STALE_MS])))

    async def listing(self, states: Collection[State], limit: int, before: str = "") -> Sequence[Stored]:
        """Return the newest approvals in one of `states`, newest first; those older than the id `before`.

        What cannot be read is left out.
        """
        indices = [self._keys.index(state) for state in states]
        found: list[Stored] = []
        async with self._step(_DESK_S):
            while len(found) < limit and indices:
                ids = await self._newest(indices, limit - len(found), before)
                answers = await self._each(scripts.READ, [self._keys.record(name) for name in ids])
                read = (stored_of(name, answer) for name, answer in zip(ids, answers, strict=True))
                found += [stored for stored in read if stored is not None and stored.state in states]
                if len(ids) < limit:
                    break
                before = ids[-1]
        return found[:limit]

    async def settle(
        self, stored: Stored, state: State, *, kind: str, person: str = "", statement: str = "", note: str = ""
    ) -> Change:
        """Set the state, and the vote of `person` to `statement` (empty: withdrawn), if nothing changed since.

        `kind` names the event; an empty `note` leaves the one there is. Only a caller makes it consumed: CLOSED here.
        """
        ask, keys = stored.ask, self._keys
        async with self._step():
            answer = await self._run(
                scripts.SETTLE,
                [keys.record(ask.id), keys.asked(ask), keys.denied(ask), *keys.pending(ask)],
                [ask.id, stored.revision, state.value, kind, person, statement, note],
            )
            return Change(_word(answer))

    async def revoke(self, person: str, statement: str) -> None:
        """Keep a signed revocation, for as long as any vote could still be used; the event `revoked` says so."""
        async with self._step():
            await self._run(scripts.REVOKE, [], [person, statement, self._history_ms])

    async def open_review(self, ask: Ask, mac: str, limit: int, within_s: int) -> bool:
        """Leave a review item of a call that broke the glass; False where the caller did so `limit` times lately."""
        async with self._step():
            answer = await self._run(
                scripts.OPEN_REVIEW,
                [self._keys.review(ask.id), self._keys.broken(ask)],
                [ask.id, ask.encode(), mac, limit, within_s * 1000, self._history_ms],
            )
            return bool(answer == 1)

    async def reviews(self, *, closed: bool, limit: int) -> Sequence[Review]:
        """Return review items, newest first; what cannot be read is left out."""
        async with self._step(_DESK_S):
            index = self._keys.reviews_closed if closed else self._keys.reviews_open
            ids = await self._newest([index], limit, "")
            pipeline = self._client.pipeline(transaction=False)
            for name in ids:
                pipeline.hgetall(self._keys.review(name))
            answers = await pipeline.execute(raise_on_error=False)
        read = (
            review_of(name, fields) for name, fields in zip(ids, answers, strict=True) if isinstance(fields, Mapping)
        )
        return [review for review in read if review is not None]

    async def review(self, review: str) -> Review | None:
        """Return one review item, open or closed; None where it is not there or cannot be read."""
        async with self._step():
            fields: Any = await self._client.hgetall(self._keys.review(review))
            return review_of(review, fields)

    async def close_review(self, review: str, by: str, reason: str) -> Change:
        """Close a review item, once."""
        async with self._step():
            keys = [self._keys.review(review)]
            return Change(_word(await self._run(scripts.CLOSE_REVIEW, keys, [review, by, reason, self._history_ms])))

    async def expire_due(self) -> int:
        """Mark what is past its time as expired, and return how many were marked now; the console does so regularly."""
        count: int = 0
        async with self._step(_DESK_S):
            while True:
                seconds, micros = await self._client.time()
                due: Any = await self._client.zrangebyscore(
                    self._keys.due, "-inf", seconds * 1000 + micros // 1000, start=0, num=_BATCH
                )
                ids = [_id(name) for name in due]
                count += await self._run(scripts.EXPIRE, [self._keys.record(name) for name in ids], ids)
                if len(ids) < _BATCH:
                    break
        return count

    async def events(self, after: str = "$") -> AsyncIterator[Sequence[Event]]:
        """Yield what changes after the cursor `after` (`$`: from now on), as it changes; [] at least every second.

        The first answer comes at once, and is [] for `$`: whatever changes after it is yielded. After a failure ask
        anew, and look at what you wait for: the store may have lost what was said meanwhile.
        """
        key = self._keys.events
        if after == "$":
            async with self._guarded(_STEP_S):
                last: Any = await self._reader.xrevrange(key, count=1)
                after = last[0][0].decode("ascii") if last else "0-0"
            yield []
        while True:
            async with self._guarded(_BLOCK_ANSWER_S + _CONNECT_S):
                answer: Any = await self._reader.xread({key: after}, count=_EVENTS, block=_BLOCK_MS)
                entries = answer[0][1] if answer else []
                after = entries[-1][0].decode("ascii") if entries else after
                read = [event_of(entry, fields) for entry, fields in entries]
            yield [event for event in read if event is not None]

    async def _newest(self, indices: Sequence[str], limit: int, before: str) -> list[str]:
        """Return the last ids of `indices` together, last first."""
        pipeline = self._client.pipeline(transaction=False)
        for index in indices:
            pipeline.zrevrangebylex(index, f"({before}" if before else "+", "-", start=0, num=limit)
        ids = {_id(name) for names in await pipeline.execute() for name in names}
        return sorted(ids, reverse=True)[:limit]

    async def _each(self, script: Script, records: Sequence[str]) -> list[Any]:
        """Run a script for each of `records`, in one go."""
        if not records:
            return []
        first = await self._run(script, [records[0]])
        pipeline = self._client.pipeline(transaction=False)
        for record in records[1:]:
            pipeline.evalsha(script.sha, scripts.OWN + 1, *self._keys.common, record)
        return [first, *await pipeline.execute()]

    async def _run(self, script: Script, keys: Sequence[str], arguments: Sequence[str | bytes | int] = ()) -> Any:
        every = (*self._keys.common, *keys, *arguments)
        count = scripts.OWN + len(keys)
        try:
            return await self._client.evalsha(script.sha, count, *every)
        except redis.exceptions.NoScriptError:
            return await self._client.eval(script.text, count, *every)

    @asynccontextmanager
    async def _step(self, limit_s: float = _STEP_S) -> AsyncIterator[None]:
        """Bound what is inside, in time and in connections."""
        async with self._guarded(limit_s), self._slots:
            yield

    @asynccontextmanager
    async def _guarded(self, limit_s: float) -> AsyncIterator[None]:
        """Make one refusal of every failure inside, whose text may hold what was sent."""
        try:
            async with asyncio.timeout(limit_s):
                yield
        except TimeoutError:
            word = "timeout"
        except (redis.RedisError, OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            word = fault_word(error)
        else:
            return
        raise GateError(Reason.APPROVAL_STORE_UNAVAILABLE, word) from None


def _id(value: bytes) -> str:
    return value.decode("ascii", "replace")


def _word(answer: bytes) -> str:
    return answer.decode("ascii")
