"""Asks, and a store on a real server to put them in."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fakes.valkey import Server

from rankgate.approvals import (
    OPEN,
    Ask,
    Caller,
    Caps,
    PlanSummary,
    Requirement,
    State,
    Stored,
    authenticate,
    new_approval_id,
)
from rankgate.clients.approvals import ApprovalStore
from rankgate.settings.approvals import ApprovalSettings

__all__ = [
    "CAPS",
    "HISTORY_S",
    "KEY",
    "TTL_MS",
    "a_caller",
    "an_ask",
    "approved",
    "change",
    "force",
    "kinds",
    "opened",
    "record_key",
    "settings",
    "storing",
]

KEY = b"gate key".ljust(32, b".")
CAPS = Caps(10, 100)
HISTORY_S = 3600
TTL_MS = 900_000
_count = 0


def a_caller(subject: str = "indexer", **changes: Any) -> Caller:
    """Return a machine of tenant acme that platform owns."""
    members: dict[str, Any] = {
        "issuer": "https://issuer.test", "subject": subject, "tenant": "acme", "names": (subject,),
        "owner_people": ("olga@acme.test",), "owner_groups": ("platform",),
    }  # fmt: skip
    return Caller(**(members | changes))


def an_ask(question: str = "q", **changes: Any) -> Ask:
    """Return a new ask about `question`, younger than every one before; `changes` are its members."""
    global _count
    _count += 1
    now = int(time.time() * 1000)
    members: dict[str, Any] = {
        "id": new_approval_id(now / 1000, _count), "deployment": "default", "decision_id": "dec-0", "opened_ms": now,
        "expires_ms": now + TTL_MS, "use_digest": f"use {question}", "plan_digest": "plan",
        "canonical_digest": f"canonical {question}", "requirement": Requirement(("risk",), 1, 900),
        "caller": a_caller(), "route": "rerank", "path": "/v2/rerank", "upstream": "engine", "dialect": "cohere.v2",
        "model": "m", "document_count": 2, "total_chars": 20, "plan": PlanSummary("mask", "mask"), "findings": {},
    }  # fmt: skip
    return Ask(**(members | changes))


def settings(server: Server, **changes: Any) -> ApprovalSettings:
    """Return the section that names `server`."""
    return ApprovalSettings(**({"redis_url": server.url, "vote_keys": (Path("vote.pub"),)} | changes))


@asynccontextmanager
async def storing(server: Server, history_s: int = HISTORY_S, **changes: Any) -> AsyncIterator[ApprovalStore]:
    """Yield a store of the deployment `default`, closed in the end."""
    store = ApprovalStore.connect(settings(server, **changes), "default", history_s)
    try:
        yield store
    finally:
        await store.close()


async def opened(store: ApprovalStore, ask: Ask | None = None) -> Stored:
    """Open an ask and return it as it is stored."""
    ask = ask or an_ask()
    joined = await store.join(ask, authenticate(KEY, ask.encode()), CAPS)
    assert joined.stored is not None and joined.stored.ask == ask, joined
    return joined.stored


async def approved(store: ApprovalStore, ask: Ask | None = None) -> Stored:
    """Open an ask, let `ann` agree, and return it as it is stored."""
    stored = await opened(store, ask)
    await store.settle(stored, State.APPROVED, kind="voted", person="ann", statement="yes")
    found = await store.read(stored.ask.id)
    assert found is not None
    return found


def record_key(approval: str) -> str:
    """Return the key of a record of the deployment `default`."""
    return f"state:{{default}}:approvals:record:{approval}"


def change(server: Server, approval: str, fields: Mapping[str, str | int]) -> None:
    """Write into a record behind the store's back."""
    with server.client() as client:
        client.hset(record_key(approval), mapping=dict(fields))


def force(server: Server, stored: Stored, state: State) -> None:
    """Put an approval that is pending into `state`, behind the store's back."""
    name = stored.ask.id
    change(server, name, {"state": state.value})
    with server.client() as client:
        client.zrem("state:{default}:approvals:index:pending", name)
        client.zadd(f"state:{{default}}:approvals:index:{state.value}", {name: 0})
        if state not in OPEN:
            client.zrem("state:{default}:approvals:due", name)


async def kinds(store: ApprovalStore) -> list[tuple[str, str]]:
    """Return every event there is: kind and approval."""
    return [(event.kind, event.approval) for event in await anext(store.events("0-0"))]
