"""What step 6 works with, built from the settings: the store, the console's keys, the seats."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator

from ext_authz.gate import Approvals
from rankgate.approvals import Caps, Sealer, new_approval_id
from rankgate.clients.approvals import ApprovalStore
from rankgate.clients.votekeys import read_vote_keys
from rankgate.clients.waiting import WaitingRoom
from rankgate.masking import Keys, Plan
from rankgate.settings import ProfileSettings, Settings

__all__ = ["approvals_for"]


@contextlib.asynccontextmanager
async def approvals_for(settings: Settings, keys: Keys) -> AsyncIterator[tuple[Approvals, WaitingRoom] | None]:
    """Hold what people are asked with; None where nobody can be asked. Raises SettingsError.

    A store that is away does not keep the gate from starting: only calls that need it are refused.
    """
    wanted = settings.approvals
    if not wanted.enabled:
        yield None
        return
    votes = read_vote_keys(wanted.vote_keys)
    sealer = None if wanted.preview_recipient is None else Sealer(wanted.preview_recipient)
    everything = {"types": settings.masking.everything.types, "operator": "redact"}
    async with contextlib.AsyncExitStack() as scope:
        store = ApprovalStore.connect(wanted, settings.deployment, wanted.history_s)
        scope.push_async_callback(store.close)
        room = WaitingRoom(store, waiters=wanted.waiters, memory=wanted.waiter_bytes)
        scope.push_async_callback(room.stop)
        await room.start()
        yield (
            Approvals(
                store=store,
                votes=votes,
                sealer=sealer,
                redact=Plan.of(ProfileSettings.model_validate(everything)),
                room=room,
                key=keys.approval(),
                caps=Caps(wanted.pending_per_subject, wanted.pending_per_tenant),
                new_id=lambda now: new_approval_id(now, secrets.randbits(80)),
                pause=asyncio.sleep,
            ),
            room,
        )
