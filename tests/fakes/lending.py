"""What brokers are asked with in tests: a grant, leases as the default settings form them, keys to sign with."""

from __future__ import annotations

from typing import Any

from rankgate.clients.lending import LeaseForm
from rankgate.credentials import Grant, Secret
from rankgate.settings import CredentialSettings

__all__ = ["FORM", "KEY", "grant"]

KEY = b"k" * 32
FORM = LeaseForm(CredentialSettings.model_validate({}), KEY)


def grant(**changes: Any) -> Grant:
    """Return the grant of an ordinary call, with `changes`."""
    usual = {
        "decision_id": "dec-1",
        "issuer": "https://issuer.example",
        "subject": "search-svc",
        "tenant": "acme",
        "route": "cohere-v2",
        "body_digest": "ab" * 32,
        "token": Secret("caller.token.1"),
        "expires": 2_000_000_000,
    }
    return Grant(**{**usual, **changes})
