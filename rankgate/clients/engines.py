"""The policy engine that the settings name."""

from __future__ import annotations

from collections.abc import Callable

from rankgate.clients.opa import OpaEngine
from rankgate.clients.rego import EmbeddedEngine
from rankgate.policy import PolicyEngine
from rankgate.resources import policies
from rankgate.settings import PolicySettings

__all__ = ["engine_for"]


def engine_for(settings: PolicySettings, *, changed: Callable[[str, str], None]) -> PolicyEngine:
    """Return the engine of `settings`, not started. `changed` hears of a reload: the revision in force, and the fault.

    OPA reloads by itself and reports its bundles' revisions with each answer.
    """
    if settings.engine == "opa":
        return OpaEngine(settings)
    return EmbeddedEngine(settings, settings.directory or policies(), changed=changed)
