"""What of a question an audit event may hold: the question as asked, but for what no event holds in clear.

Three things stand in the way of storing it as it is. Texts of the call are masked as the event masks them; opt-ins
(bodies, documents, the caller's token) are never stored; and of what a token says about a person only what the event
tells of the caller anyway. Whatever was changed or left out is named, because a policy may have seen the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

__all__ = ["STORING_FAULTS", "Texts", "storable"]

STORING_FAULTS = (
    "query", "instruction", "model", "ids", "labels", "headers", "attributes", "query_parameters", "claims",
    "documents_text", "parsed_body", "raw_body", "authorization", "budget",
)  # fmt: skip
"""Every word that tells why a stored question is not the one that was asked, or was not stored. Growth rule: add."""

# Opt-ins, and where they stand in the question.
_LEFT_OUT = {
    "documents_text": (("rerank", "documents_text"),),
    "parsed_body": (("parsed_body",), ("truncated_body",)),
    "raw_body": (("attributes", "request", "http", "rawBody"),),
    "authorization": (("attributes", "request", "http", "headers", "authorization"),),
}
# Written by Envoy or by the gate, or recorded in clear by every event. A path with parameters is looked at.
_OWN_HEADERS = frozenset({
    ":method", ":scheme", "content-length", "x-envoy-auth-partial-body", "x-forwarded-proto", "x-request-id",
})  # fmt: skip
# Names that most calls have, not looked at each time.
_USUAL = frozenset({
    ":authority", ":path", "accept", "accept-encoding", "accept-language", "connection", "content-type", "host",
    "traceparent", "tracestate", "user-agent", "x-envoy-external-address", "x-forwarded-for",
})  # fmt: skip
_OWN_ATTRIBUTES = frozenset({"contextExtensions", "destination", "request"})
_ADDRESSES = frozenset({":authority", "host"})
# Of a token: its own frame (RFC 7519, RFC 9068) and rights, which name nobody.
_FRAME = frozenset({
    "acr", "amr", "aud", "auth_time", "azp", "client_id", "entitlements", "exp", "groups", "iat", "idtyp", "iss", "jti",
    "nbf", "roles", "scope", "scp", "sid", "tid", "token_use", "typ", "ver",
})  # fmt: skip
# OpenID Connect Core 1.0 section 5.1, and what Entra adds: about a person whatever the token says of itself.
_PERSONAL = frozenset({
    "address", "birthdate", "email", "family_name", "gender", "given_name", "locale", "middle_name", "name", "nickname",
    "phone_number", "picture", "preferred_username", "profile", "unique_name", "upn", "website", "zoneinfo",
})  # fmt: skip
# A pod's and an account's own names (Kubernetes, bound service account tokens).
_OF_MACHINES = frozenset({"kubernetes.io"})
# Keycloak's name for a client's own account.
_SERVICE_NAME = "service-account-"


class _Finding(Protocol):
    @property
    def type(self) -> str: ...


class Texts(Protocol):
    """How the texts of one tenant are looked at: what `detect` finds, and `clean`, with all of it masked."""

    def detect(self, text: str) -> Sequence[_Finding]:
        """Return what `text` holds."""
        ...

    def clean(self, text: str) -> str:
        """Return `text` with every finding masked."""
        ...


def storable(
    question: dict[str, Any],
    texts: Texts,
    *,
    query: str | None,
    instruction: str | None,
    body_is_clean: bool,
    opt_ins: tuple[str, ...] = (),
) -> tuple[dict[str, Any], list[str]]:
    """Return what of `question` may be stored, and words of STORING_FAULTS for what differs from it.

    `query` and `instruction` are those of the event where masking changed them, else None; `body_is_clean` tells that
    nothing was found anywhere in the body. Without a word the question is returned as it is. It is never edited.
    """
    found: list[str] = [word for word in _LEFT_OUT if word in opt_ins]
    kept = dict(question)
    for word in found:
        for path in _LEFT_OUT[word]:
            kept = _without(kept, path)
    look = _Look(texts)
    kept["identity"] = _noted(kept["identity"], _identity(kept["identity"], look), "claims", found)
    kept["attributes"], words = _attributes(kept["attributes"], look)
    found += words
    kept["parsed_query"] = _noted(kept["parsed_query"], look.clean(kept["parsed_query"]), "query_parameters", found)
    if "rerank" in kept:
        kept["rerank"], words = _rerank(kept["rerank"], look, query, instruction, body_is_clean)
        found += words
    return (kept, list(dict.fromkeys(found))) if found else (question, [])


class _Look:
    """Masks values of any shape; what holds nothing comes back as it is, the same object."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts

    def address(self, text: str) -> str:
        """Mask all but network addresses: this one is the gate's own."""
        clear = all(one.type == "IP_ADDRESS" for one in self._texts.detect(text))
        return text if clear else self._texts.clean(text)

    def clean(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._texts.clean(value) if self._texts.detect(value) else value
        if isinstance(value, list):
            items = [self.clean(item) for item in value]
            return value if all(map(_same, items, value)) else items
        if isinstance(value, dict):
            members = {self.clean(name): self.clean(member) for name, member in value.items()}
            unchanged = members.keys() == value.keys() and all(map(_same, members.values(), value.values()))
            return value if unchanged else members
        if isinstance(value, int | float) and not isinstance(value, bool) and self._texts.detect(str(value)):
            # A card's number is one with or without quotes.
            return self._texts.clean(str(value))
        return value


def _identity(identity: dict[str, Any], look: _Look) -> dict[str, Any]:
    """Leave issuer, subject, tenant, groups and scopes, which every event tells, and look at the claims."""
    clear = {identity["issuer"], identity["subject"], identity["tenant"], *identity["groups"], *identity["scopes"]}
    claims = identity["claims"]
    kept = {}
    for name, value in claims.items():
        if _is_clear(value, clear) or name in {"jti", "exp", "iat", "nbf"}:
            kept[name] = value
        elif name in _FRAME or (identity["kind"] == "service" and not _is_personal(name, value)):
            kept[look.clean(name)] = look.clean(value)
    unchanged = kept.keys() == claims.keys() and all(map(_same, kept.values(), claims.values()))
    return identity if unchanged else {**identity, "claims": kept}


def _is_clear(value: Any, clear: set[str]) -> bool:
    if isinstance(value, str):
        return value in clear
    return isinstance(value, list) and all(isinstance(one, str) and one in clear for one in value)


def _is_personal(name: str, value: Any) -> bool:
    if name == "preferred_username" and isinstance(value, str) and value.startswith(_SERVICE_NAME):
        return False
    # Claims of one's own are often named by a URL.
    return name.lower().rpartition("/")[2] in _PERSONAL or (name not in _OF_MACHINES and _names_a_person(value))


def _names_a_person(value: Any) -> bool:
    if isinstance(value, dict):
        return any(name.lower() in _PERSONAL or _names_a_person(member) for name, member in value.items())
    return isinstance(value, list) and any(map(_names_a_person, value))


def _attributes(attributes: dict[str, Any], look: _Look) -> tuple[dict[str, Any], list[str]]:
    found: list[str] = []
    source = attributes.get("source", {}).get("address", {}).get("socketAddress", {}).get("address")
    http = attributes["request"]["http"]
    headers = {}
    for name, value in http["headers"].items():
        # Every event holds the caller's address, wherever Envoy repeats it.
        if name in _OWN_HEADERS or value == source or (name == ":path" and "?" not in value):
            headers[name] = value
        else:
            shown = name if name in _USUAL else look.clean(name)
            headers[shown] = look.address(value) if name in _ADDRESSES else look.clean(value)
    unchanged = headers.keys() == http["headers"].keys() and all(map(_same, headers.values(), http["headers"].values()))
    kept_http = dict(http)
    if not unchanged:
        kept_http["headers"] = headers
        found.append("headers")
    if "host" in http:
        kept_http["host"] = _noted(http["host"], look.address(http["host"]), "headers", found)
    if "?" in http.get("path", ""):
        kept_http["path"] = _noted(http["path"], look.clean(http["path"]), "query_parameters", found)
    kept = {**attributes, "request": {**attributes["request"], "http": kept_http}}
    for name, value in attributes.items():
        if name == "source":
            address = {"address": value["address"]} if "address" in value else {}
            rest = {key: member for key, member in value.items() if key != "address"}
            looked = look.clean(rest)
            if looked is not rest:
                kept[name] = address | looked
                found.append("attributes")
        elif name not in _OWN_ATTRIBUTES:
            kept[name] = _noted(value, look.clean(value), "attributes", found)
    return kept, found


def _rerank(
    rerank: dict[str, Any], look: _Look, query: str | None, instruction: str | None, body_is_clean: bool
) -> tuple[dict[str, Any], list[str]]:
    found: list[str] = []
    kept = dict(rerank)
    for name, masked in (("query", query), ("instruction", instruction)):
        if masked is not None:
            kept[name] = masked
            found.append(name)
    if not body_is_clean:
        for name, word in (("model", "model"), ("ids", "ids"), ("advisory_labels", "labels")):
            if name in rerank:
                kept[name] = _noted(rerank[name], look.clean(rerank[name]), word, found)
    return kept, found


def _noted(before: Any, after: Any, word: str, found: list[str]) -> Any:
    if after is not before:
        found.append(word)
    return after


def _same(one: Any, other: Any) -> bool:
    return one is other


def _without(document: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    name, *rest = path
    if name not in document:
        return document
    if not rest:
        return {key: value for key, value in document.items() if key != name}
    return {**document, name: _without(document[name], tuple(rest))}
