"""The one thing the gate needs of a policy engine."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["PolicyEngine"]


class PolicyEngine(Protocol):
    """Evaluates one configured decision of one policy."""

    @property
    def revision(self) -> str:
        """Return what identifies the policy in force: a digest, or the revisions of OPA's bundles.

        Read it right after `decide` returned, before awaiting anything else, to get the revision of that answer.
        """
        ...

    @property
    def ready(self) -> bool:
        """Tell whether a question asked now can be expected to be answered."""
        ...

    async def start(self) -> None:
        """Acquire what deciding needs; raises SettingsError where the policy itself can never work."""
        ...

    async def stop(self) -> None:
        """Release everything; safe to call twice."""
        ...

    async def decide(self, question: str) -> Any:
        """Return the raw decision for `question`, as `encode_question` writes it; None where the policy defines none.

        Raises GateError: POLICY_TIMEOUT, POLICY_UNAVAILABLE, POLICY_ERROR.
        """
        ...
