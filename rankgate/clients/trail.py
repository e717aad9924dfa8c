"""The audit trail as a reader finds it in Redis: every log of a deployment, in order of time."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import redis

from rankgate.audit.names import StreamId, stream_key, stream_pattern

__all__ = ["Item", "Trail"]

PAGE = 500
RECLAIM_MS = 60_000
_END = StreamId(2**64 - 1, 2**64 - 1)


@dataclass(frozen=True, slots=True)
class Item:
    """One stream entry as found, nothing in it believed. `fields` leaves out the body."""

    key: str
    id: StreamId
    fields: Mapping[str, str]
    body: bytes


class Trail:
    """Reads the streams of one deployment, or those whose log's name begins with `log`.

    Every method raises redis.RedisError.
    """

    def __init__(self, client: redis.Redis, deployment: str, log: str | None = None) -> None:
        self._client = client
        self._deployment = deployment
        self._pattern = stream_pattern(deployment)
        self._log = log
        self._keys: list[str] = []

    def discover(self) -> list[str]:
        """Return the keys of streams not seen before, in order of name."""
        found = {
            key.decode("utf-8", "replace")
            for key in self._client.scan_iter(match=self._pattern, count=1000, _type="stream")
        }
        fresh = sorted(key for key in found - set(self._keys) if self._wanted(key))
        self._keys += fresh
        return fresh

    def known(self) -> tuple[list[str], list[str]]:
        """Return the names of the deployments there are, and of the logs of this one."""
        keys = [
            key.decode("utf-8", "replace")
            for key in self._client.scan_iter(match="audit:{*}:*", count=1000, _type="stream")
        ]
        own = stream_key(self._deployment, "")
        logs = {key.removeprefix(own) for key in keys if key.startswith(own)}
        return sorted({key[len("audit:{") : key.index("}")] for key in keys}), sorted(
            log for log in logs if ":" not in log
        )

    def end(self, key: str) -> StreamId:
        """Return the id of a stream's last entry."""
        return StreamId.parse(self._client.xinfo_stream(key)["last-generated-id"].decode())

    def past(self, positions: Mapping[str, StreamId]) -> Iterator[Item]:
        """Yield what the streams hold from each position on, merged by time."""
        pages = (self._pages(key, since) for key, since in positions.items())
        yield from heapq.merge(*pages, key=lambda item: (item.id.ms, item.key, item.id.index))

    def next(self, behind: Mapping[str, StreamId], block_ms: int) -> list[Item]:
        """Return new entries behind each position, in order of time; waits up to `block_ms` for one."""
        answer = self._client.xread({key: str(last) for key, last in behind.items()}, count=PAGE, block=block_ms)
        return _items(answer)

    def join(self, keys: Iterable[str], group: str, since: StreamId) -> None:
        """Make sure that `group` exists on every stream; a new one begins at `since`."""
        for key in keys:
            try:
                # The id of a group is the last one it has seen, `since` the first one wanted.
                self._client.xgroup_create(key, group, id=str(_before(since)))
            except redis.ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    def left_behind(self, keys: Iterable[str], group: str, consumer: str) -> Iterator[Item]:
        """Yield what this consumer took and never acknowledged, then what others left for a minute."""
        for key in keys:
            last = "0"
            while items := self._group_read(group, consumer, {key: last}, None):
                yield from items
                last = str(items[-1].id)
            start = "0-0"
            while True:
                cursor, entries, *_ = self._client.xautoclaim(
                    key, group, consumer, min_idle_time=RECLAIM_MS, start_id=start, count=PAGE
                )
                yield from _entries(key, entries)
                start = cursor.decode()
                if start == "0-0":
                    break

    def take(self, keys: Iterable[str], group: str, consumer: str, block_ms: int | None) -> list[Item]:
        """Return entries nobody in the group has taken yet; waits up to `block_ms`, not at all where None."""
        return self._group_read(group, consumer, dict.fromkeys(keys, ">"), block_ms)

    def done(self, items: Iterable[Item], group: str) -> None:
        """Acknowledge entries that were written out."""
        by_key: dict[str, list[str]] = {}
        for item in items:
            by_key.setdefault(item.key, []).append(str(item.id))
        for key, ids in by_key.items():
            self._client.xack(key, group, *ids)

    def _group_read(self, group: str, consumer: str, streams: dict[str, str], block_ms: int | None) -> list[Item]:
        answer: Any = self._client.xreadgroup(group, consumer, streams, count=PAGE, block=block_ms)  # type: ignore[arg-type]  # its dict type is invariant
        return _items(answer)

    def _wanted(self, key: str) -> bool:
        log = key.split(":", 2)[2]
        return ":" not in log and log.startswith(self._log or "")

    def _pages(self, key: str, since: StreamId) -> Iterator[Item]:
        low = str(since)
        while found := list(_entries(key, self._client.xrange(key, low, "+", count=PAGE) or [])):
            yield from found
            low = f"({found[-1].id}"


def _before(since: StreamId) -> StreamId:
    if since.index:
        return StreamId(since.ms, since.index - 1)
    return StreamId(since.ms - 1, _END.index) if since.ms else StreamId(0, 0)


def _items(answer: Any) -> list[Item]:
    found = [item for key, entries in answer or [] for item in _entries(key.decode("utf-8", "replace"), entries)]
    return sorted(found, key=lambda item: (item.id.ms, item.key, item.id.index))


def _entries(key: str, entries: Iterable[Any]) -> Iterator[Item]:
    for entry_id, raw in entries:
        fields = {name.decode("utf-8", "replace"): value for name, value in (raw or {}).items()}
        body = fields.pop("body", b"")
        texts = {name: value.decode("utf-8", "replace") for name, value in fields.items()}
        yield Item(key, StreamId.parse(entry_id.decode()), texts, body)
