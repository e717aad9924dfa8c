"""The names of what approvals are kept under. One hash tag per deployment: in a cluster all of it is in one slot."""

from __future__ import annotations

import hashlib

from rankgate.approvals import Ask, State

__all__ = ["Keys"]


class Keys:
    """Key names of one deployment. No name of a person or machine stands in any of them."""

    def __init__(self, deployment: str) -> None:
        self._prefix = f"state:{{{deployment}}}:approvals:"
        self.events = self._key("events")
        self.due = self._key("due")
        self.keep = self._key("keep")
        self.revocations = self._key("revocations")
        self.ready = self._key("ready")
        self.nothing = self._key("nothing")
        self.reviews_open = self._key("index", "review")
        self.reviews_closed = self._key("index", "reviewed")
        # What every script is given first, in the order in which the scripts read it.
        self.common = (
            self.events,
            self.due,
            self.keep,
            self.revocations,
            *(self.index(state) for state in State),
            self.reviews_open,
            self.reviews_closed,
        )

    def index(self, state: State) -> str:
        """Return the sorted set of the ids in `state`, all of score 0: their order is that of time."""
        return self._key("index", state.value)

    def record(self, approval: str) -> str:
        """Return the hash of one approval."""
        return self._key("record", approval)

    def review(self, review: str) -> str:
        """Return the hash of one review item."""
        return self._key("review-record", review)

    def waiters(self, approval: str) -> str:
        """Return the sorted set of the decisions that wait for `approval`, by when they last said so."""
        return self._key("waiters", approval)

    def bond(self, ask: Ask) -> str:
        """Return the id that these bytes and this plan led to last."""
        return self._key("bond", ask.use_digest, ask.plan_digest)

    def asked(self, ask: Ask) -> str:
        """Return the id that was opened last for the same question, however written."""
        return self._key("asked", ask.canonical_digest)

    def denied(self, ask: Ask) -> str:
        """Return the id of the denial of the same question that lasts longest."""
        return self._key("denied", ask.canonical_digest)

    def pending(self, ask: Ask) -> tuple[str, str]:
        """Return the sorted sets of what is pending of the subject and of the tenant, by when it expires."""
        caller = ask.caller
        return (
            self._key("pending-subject", _short(caller.issuer, caller.subject)),
            self._key("pending-tenant", _short(caller.tenant)),
        )

    def broken(self, ask: Ask) -> str:
        """Return the sorted set of the subject's review items, by when they were opened."""
        return self._key("broken", _short(ask.caller.issuer, ask.caller.subject))

    def _key(self, *parts: str) -> str:
        return self._prefix + ":".join(parts)


def _short(*parts: str) -> str:
    sized = b"".join(len(data).to_bytes(8, "big") + data for data in (part.encode() for part in parts))
    return hashlib.sha256(sized).hexdigest()[:32]
