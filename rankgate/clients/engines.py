"""The policy engine that the settings name."""

from __future__ import annotations

from rankgate.clients.opa import OpaEngine
from rankgate.clients.rego import EmbeddedEngine
from rankgate.policy import PolicyEngine
from rankgate.resources import policies
from rankgate.settings import PolicySettings

__all__ = ["engine_for"]


def engine_for(settings: PolicySettings) -> PolicyEngine:
    """Return the engine of `settings`, not started."""
    if settings.engine == "opa":
        return OpaEngine(settings)
    return EmbeddedEngine(settings, settings.directory or policies())
