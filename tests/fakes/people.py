"""People who vote, with the console's keys and no console: any vote one likes, in the store as a console puts it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import pyrage
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from rankgate.approvals import (
    Choice,
    Opener,
    Revocation,
    Signer,
    State,
    Stored,
    Vote,
    Voter,
    record_digest,
)

__all__ = ["DATA_PROTECTION", "ISSUER", "People", "voter"]

ISSUER = "https://people.example"
DATA_PROTECTION = "data-protection"


def voter(name: str, *groups: str, **changes: Any) -> Voter:
    """Return the person `name`, known by that name and a mail address; in DATA_PROTECTION unless groups are named."""
    one = Voter(
        issuer=ISSUER,
        subject=name,
        person=f"{ISSUER} {name}",
        names=(name, f"{name}@people.example"),
        groups=groups or (DATA_PROTECTION,),
    )
    return msgspec.structs.replace(one, **changes)


class People:
    """The console's keys, made anew; the public one stands in `folder`."""

    def __init__(self, folder: Path) -> None:
        key = Ed25519PrivateKey.generate()
        self.signer = Signer(key)
        identity = pyrage.x25519.Identity.generate()
        self.opener = Opener(str(identity))
        self.public_key = folder / "votes.pub"
        self.public_key.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    def settings(self, redis_url: str, **changes: Any) -> dict[str, Any]:
        """Return the gate's section `approvals`."""
        return {
            "redis_url": redis_url,
            "vote_keys": [str(self.public_key)],
            "preview_recipient": self.opener.recipient,
            "allow_unowned": True,
            **changes,
        }

    def vote(self, stored: Stored, who: Voter | str, choice: Choice = Choice.APPROVE, **changes: Any) -> Vote:
        """Return a vote on what is stored; `changes` replace fields."""
        ask = stored.ask
        one = Vote(
            approval=ask.id,
            record=record_digest(stored.body),
            use_digest=ask.use_digest,
            plan_digest=ask.plan_digest,
            requirement=ask.requirement,
            voter=voter(who) if isinstance(who, str) else who,
            choice=choice,
            reason="looked at it",
            time_ms=time.time_ns() // 1_000_000,
            expires_ms=ask.expires_ms,
        )
        return msgspec.structs.replace(one, **changes)

    async def put(self, store: Any, stored: Stored, vote: Vote, state: State, *, signer: Signer | None = None) -> Any:
        """Put a vote and a state into the store, whatever they are; return what the store says."""
        statement = (signer or self.signer).sign(vote)
        return await store.settle(stored, state, kind=state.value, person=vote.voter.person, statement=statement)

    async def decide(self, store: Any, approval: str, who: Voter | str = "ada", choice: Choice = Choice.APPROVE) -> Any:
        """Let somebody decide alone, as the console would write it."""
        stored = await store.read(approval)
        state = State.APPROVED if choice is Choice.APPROVE else State.DENIED
        return await self.put(store, stored, self.vote(stored, who, choice), state)

    async def revoke(self, store: Any, person: str) -> None:
        """Let no vote count that `person` gave so far."""
        now = time.time_ns() // 1_000_000
        await store.revoke(person, self.signer.sign(Revocation(person=person, reason="left", by="it", time_ms=now)))
