"""What the audit streams hold: every decision and completion by its receipt, and whether a number is missing."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

import redis

from rankgate.audit.names import StreamId
from rankgate.clients.trail import Trail

__all__ = ["Kept", "kept"]

START = StreamId(0, 1)


@dataclass(frozen=True, slots=True)
class Kept:
    """How often each decision id has a decision and a completion; which were allowed, and why others were not.

    `gaps` counts numbers that no entry of a stream has, and those that more than one has.
    """

    decisions: Counter[str] = field(default_factory=Counter)
    completions: Counter[str] = field(default_factory=Counter)
    allowed: set[str] = field(default_factory=set)
    reasons: dict[str, str] = field(default_factory=dict)
    gaps: int = 0


def kept(client: redis.Redis, deployment: str) -> Kept:
    """Read every stream of `deployment` from its beginning. Raises redis.RedisError."""
    trail = Trail(client, deployment)
    decisions: Counter[str] = Counter()
    completions: Counter[str] = Counter()
    allowed: set[str] = set()
    reasons: dict[str, str] = {}
    numbers: dict[str, list[int]] = {key: [] for key in trail.discover()}
    for item in trail.past(dict.fromkeys(numbers, START)):
        numbers[item.key].append(item.id.index)
        ours = json.loads(item.body)["unmapped"]["rankgate"]
        if ours["kind"] == "decision":
            decisions[ours["decision_id"]] += 1
            if ours["allowed"]:
                allowed.add(ours["decision_id"])
            else:
                reasons[ours["decision_id"]] = ours["reason"]
        elif ours["kind"] == "completion":
            completions[ours["decision_id"]] += 1
    # A log's entries are numbered from 0 without a gap; a stream holds each of them once.
    gaps = sum(max(found) + 1 - len(set(found)) + len(found) - len(set(found)) for found in numbers.values() if found)
    return Kept(decisions, completions, allowed, reasons, gaps)
