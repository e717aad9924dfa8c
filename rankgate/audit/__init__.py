"""The audit trail: what is written down about every call, and how it is read again.

event       what happened, as values                                  rankgate.audit.event
capture     how much of the texts an event holds                      rankgate.audit.capture
leaf        the stored bytes of an event, rendered once               rankgate.audit.ocsf
frame       how a leaf stands in a file                               rankgate.audit.frame
entry       how a leaf stands in a stream, and what a reader checks   rankgate.audit.entry
log         append, and be told when it is durable                    rankgate.audit.log
tree        one root over all leaves, and proofs under it             rankgate.audit.tree
note        texts that a key signed                                   rankgate.audit.note
checkpoint  what a log says of itself, signed                         rankgate.audit.checkpoint
sealed      a checkpoint with the leaf hashes it added                rankgate.audit.sealed
copies      logs as somebody found them                               rankgate.audit.copies
verifying   one copy against what was signed of it                    rankgate.audit.verifying
proving     all copies of a deployment                                rankgate.audit.proving
receipts    a proof of one entry, to be handed out                    rankgate.audit.receipts
"""

from __future__ import annotations

from rankgate.audit.capture import Capture, CapturedText, StoredQuestion, capture_texts, store_question
from rankgate.audit.event import (
    Approval,
    AuditEvent,
    Ballot,
    Call,
    Caller,
    CompletionEvent,
    DecisionEvent,
    LifecycleEvent,
    Outcome,
    Plan,
    What,
)
from rankgate.audit.log import AuditLog, Receipt

__all__ = [
    "Approval",
    "AuditEvent",
    "AuditLog",
    "Ballot",
    "Call",
    "Caller",
    "Capture",
    "CapturedText",
    "CompletionEvent",
    "DecisionEvent",
    "LifecycleEvent",
    "Outcome",
    "Plan",
    "Receipt",
    "StoredQuestion",
    "What",
    "capture_texts",
    "store_question",
]
