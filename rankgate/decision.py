"""Between deciding and answering stands a neutral result: Allow or Deny."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rankgate.credentials import Lease
from rankgate.errors import Reason
from rankgate.handoff import Handoff

__all__ = ["APPROVAL", "RECEIPT", "Allow", "Decision", "Deny"]

RECEIPT = "x-rankgate-decision-id"
"""The response header that names the decision."""

APPROVAL = "x-rankgate-approval-id"
"""The response header that names the approval a call waits for."""

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Allow:
    """The call may pass: what ext_proc must do with it, and what it goes on with.

    `remove` names every request header the reranker must not receive. The lease is in no other field.
    """

    decision_id: str
    handoff: Handoff
    lease: Lease | None
    set_headers: Headers = ()
    remove: tuple[str, ...] = ()
    response_headers: Headers = ()
    query_set: Headers = ()
    query_remove: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Deny:
    """The call ends here, with this answer in the caller's own dialect."""

    decision_id: str
    reason: Reason
    status: int
    headers: Headers
    body: bytes
    metadata: dict[str, Any] = field(default_factory=dict)


Decision = Allow | Deny
