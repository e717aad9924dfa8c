"""People who agree, with a console's key and no console: signed votes, put into the store as a console puts them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pyrage
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from rankgate.approvals import Choice, Signer, Stored, Vote, Voter, record_digest

__all__ = ["GROUP", "People"]

GROUP = "data-protection"
_ADA = Voter("https://people.example", "ada", "https://people.example ada", ("ada",), (GROUP,))


class People:
    """The console's keys, made anew; the public one stands in `folder`."""

    def __init__(self, folder: Path) -> None:
        key = Ed25519PrivateKey.generate()
        self._signer = Signer(key)
        self._recipient = str(pyrage.x25519.Identity.generate().to_public())
        self._public_key = folder / "votes.pub"
        self._public_key.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    def settings(self, redis_url: str) -> dict[str, Any]:
        """Return what a gate's section `approvals` needs."""
        return {
            "redis_url": redis_url,
            "vote_keys": [str(self._public_key)],
            "preview_recipient": self._recipient,
            "allow_unowned": True,
        }

    def consent(self, stored: Stored) -> tuple[str, str]:
        """Return who agrees to `stored`, and the signed vote."""
        ask = stored.ask
        vote = Vote(
            approval=ask.id,
            record=record_digest(stored.body),
            use_digest=ask.use_digest,
            plan_digest=ask.plan_digest,
            requirement=ask.requirement,
            voter=_ADA,
            choice=Choice.APPROVE,
            reason="looked at it",
            time_ms=time.time_ns() // 1_000_000,
            expires_ms=ask.expires_ms,
        )
        return _ADA.person, self._signer.sign(vote)
