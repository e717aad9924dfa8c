"""People at the API: an access token of the login's issuer for the API's own audience. Machines are refused."""

from __future__ import annotations

from typing import Any

from rankgate.bearer import bearer
from rankgate.clients.identity import Verifier
from rankgate.console.naming import person_from, strong_enough
from rankgate.console.people import Person
from rankgate.console.refusals import Refusal, RefusedError
from rankgate.console.settings import LoginSettings, RoleSettings
from rankgate.errors import GateError, Reason

__all__ = ["person_by_token"]


async def person_by_token(
    headers: list[bytes], verifier: Verifier, login: LoginSettings, roles: RoleSettings, now: float
) -> Person:
    """Return who the Authorization header values `headers` name, at `now` (seconds since the epoch).

    Raises RefusedError: LOGIN_REQUIRED, NO_PERSON for a machine's token, ISSUER_UNAVAILABLE.
    """
    try:
        principal = await verifier.verify(bearer(headers), (login.audience,), now)
    except GateError as error:
        unavailable = error.reason is Reason.KEYS_UNAVAILABLE
        raise RefusedError(Refusal.ISSUER_UNAVAILABLE if unavailable else Refusal.LOGIN_REQUIRED) from None
    if not _is_person(principal.claims, principal.kind, login):
        raise RefusedError(Refusal.NO_PERSON)
    if not strong_enough(principal.claims, login):
        raise RefusedError(Refusal.LOGIN_REQUIRED)
    return person_from(principal.claims, login, roles)


def _is_person(claims: dict[str, Any], kind: str, login: LoginSettings) -> bool:
    """Tell whether a person stands behind the token: not a client by its own credentials (RFC 9068 section 2.2)."""
    if claims.get("sub") in {claims.get("client_id"), claims.get("azp"), login.client_id, login.cli_client_id}:
        return False
    if claims.get("idtyp") == "app" or claims.get("gty") == "client-credentials":
        return False
    if login.people_claim is not None:
        return bool(claims.get(login.people_claim))
    return kind == "user"
