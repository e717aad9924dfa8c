"""A person agrees first: what is asked, who may answer, what counts as consent. Values only; nothing is opened here.

A gate writes an `Ask`, bound to one exact request and to what will be done with it. The console writes signed votes.
A gate that is about to use an approval believes nothing but the signatures: `tally` decides.
"""

from rankgate.approvals.ask import (
    Ask,
    Caller,
    PlanSummary,
    Requirement,
    authenticate,
    is_authentic,
    new_approval_id,
    record_digest,
)
from rankgate.approvals.digests import Digests, canonical_digest, canonical_json, plan_digest, use_digest
from rankgate.approvals.holding import hold_seconds
from rankgate.approvals.preview import Opener, Preview, Sealer, redacted
from rankgate.approvals.states import OPEN, State, may_become
from rankgate.approvals.store import Caps, Change, DeskStore, Event, GateStore, Joined, Met, Review, Stored, Use
from rankgate.approvals.tally import Objection, Standing, objection, tally
from rankgate.approvals.votes import Choice, Revocation, Signer, Vote, VoteKeys, Voter

__all__ = [
    "OPEN",
    "Ask",
    "Caller",
    "Caps",
    "Change",
    "Choice",
    "DeskStore",
    "Digests",
    "Event",
    "GateStore",
    "Joined",
    "Met",
    "Objection",
    "Opener",
    "PlanSummary",
    "Preview",
    "Requirement",
    "Review",
    "Revocation",
    "Sealer",
    "Signer",
    "Standing",
    "State",
    "Stored",
    "Use",
    "Vote",
    "VoteKeys",
    "Voter",
    "authenticate",
    "canonical_digest",
    "canonical_json",
    "hold_seconds",
    "is_authentic",
    "may_become",
    "new_approval_id",
    "objection",
    "plan_digest",
    "record_digest",
    "redacted",
    "tally",
    "use_digest",
]
