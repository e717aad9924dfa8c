"""An ext_authz that ends itself with SIGKILL right before or after a step: `python dying.py STEP before|after ...`.

The rest of the command line is the filter's own.
"""

from __future__ import annotations

import functools
import os
import signal
import sys

from ext_authz import check, server
from rankgate.audit import DecisionEvent, LifecycleEvent, What
from rankgate.clients.approvals import ApprovalStore
from rankgate.clients.credentials import FileBroker
from rankgate.clients.recording import Recording
from rankgate.clients.serving import run


def is_use(_, event) -> bool:
    return isinstance(event, LifecycleEvent) and event.what is What.APPROVAL_USE


def is_decision(_, event) -> bool:
    return isinstance(event, DecisionEvent) and event.approval is not None


# In the order of a call; `check` is the whole of it, and ends with the answer.
STEPS = {
    "join": (ApprovalStore, "join", lambda *_: True),
    "wait": (ApprovalStore, "wait", lambda *_: True),
    "read": (ApprovalStore, "read", lambda *_: True),
    "lease": (FileBroker, "lease", lambda *_: True),
    "intent": (Recording, "append", is_use),
    "consume": (ApprovalStore, "consume", lambda *_: True),
    "record": (Recording, "append", is_decision),
    "check": (check, "check", lambda *_: True),
}  # fmt: skip


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def deadly(step: str, when: str) -> None:
    """Let the process die before or after `step`."""
    owner, name, concerned = STEPS[step]
    original = getattr(owner, name)

    @functools.wraps(original)
    async def dying(*arguments, **options):
        if when == "before" and concerned(*arguments):
            die()
        result = await original(*arguments, **options)
        if when == "after" and concerned(*arguments):
            die()
        return result

    setattr(owner, name, dying)
    if owner is check:
        server.check = dying


if __name__ == "__main__":
    step, when, *sys.argv[1:] = sys.argv[1:]
    deadly(step, when)
    sys.exit(run("ext_authz", server.build))
