"""What verified claims say about the caller, and what they may not say."""

from __future__ import annotations

from typing import Any

import pytest

from rankgate.errors import GateError, Reason
from rankgate.identity import Claims, IssuerTerms, Principal, principal
from rankgate.settings import IssuerSettings

URL = "https://issuer.example"
KUBERNETES = {
    "sub": "system:serviceaccount:search:ranker",
    "kubernetes.io": {"namespace": "search", "serviceaccount": {"name": "ranker", "uid": "1"}},
}


def mapped(payload: dict[str, Any], **changes: Any) -> Principal:
    terms = IssuerTerms.of(IssuerSettings.model_validate({"issuer": URL, "audiences": ("rerank",)} | changes))
    claims = Claims(payload=payload, issuer=URL, expires=2_000, token_id="one", key_thumbprint="k")
    return principal(claims, terms)


def refused(payload: dict[str, Any], **changes: Any) -> str:
    with pytest.raises(GateError) as refusal:
        mapped(payload, **changes)
    assert refusal.value.reason is Reason.TOKEN_INVALID
    return refusal.value.detail


def test_the_usual_claims_make_a_service() -> None:
    payload = {"sub": "search", "groups": ["search", "eu"], "scope": "rerank embed"}
    assert mapped(payload) == Principal(
        issuer=URL, subject="search", tenant="default", groups=("search", "eu"), scopes=("rerank", "embed"),
        claims=payload, expires=2_000, token_id="one", kind="service", bound=False,
    )  # fmt: skip


def test_groups_and_scopes_may_be_absent() -> None:
    made = mapped({"sub": "search"})
    assert (made.groups, made.scopes) == ((), ())
    assert mapped({"sub": "search", "scope": ""}).scopes == ()


def test_names_are_found_at_dotted_paths_with_escaped_dots() -> None:
    made = mapped(
        KUBERNETES,
        claims={"tenant": "kubernetes\\.io.namespace", "subject": "kubernetes\\.io.serviceaccount.name"},
    )
    assert (made.tenant, made.subject) == ("search", "ranker")


def test_a_mapped_tenant_is_required_and_never_falls_back() -> None:
    assert refused({"sub": "search"}, claims={"tenant": "tenant"}) == "tenant"
    assert refused({"sub": "search"}, claims={"tenant": "org.name"}, tenant="acme") == "tenant"
    assert mapped({"sub": "search"}, tenant="acme").tenant == "acme"


def test_a_path_through_something_that_is_no_object_is_refused() -> None:
    assert refused({"sub": "search", "org": "acme"}, claims={"tenant": "org.name"}) == "claim type"
    assert refused({"sub": "search", "realm": ["x"]}, claims={"groups": "realm.roles"}) == "claim type"


WRONG_LISTS: list[Any] = [
    None, True, 1, {}, [1], [None], [["a"]], [""], ["a", {}], ["a\nb"], ["a\x00"], ["\x1b[2J"], ["a\u2028"],
    ["a\u202eb"], ["a" * 257], ["a"] * 257,
]  # fmt: skip


@pytest.mark.parametrize("value", WRONG_LISTS, ids=lambda value: repr(value)[:30])
def test_scenario_60_groups_and_scopes_are_short_lists_of_short_printable_texts(value: Any) -> None:
    assert refused({"sub": "search", "groups": value}) == "groups"
    assert refused({"sub": "search", "scope": value}) == "scopes"


def test_groups_are_no_text() -> None:
    assert refused({"sub": "search", "groups": "admin"}) == "groups"


@pytest.mark.parametrize("scope", ["a  b", " a", "a ", "a\tb", "a\nb"])
def test_scopes_are_separated_by_one_space(scope: str) -> None:
    assert refused({"sub": "search", "scope": scope}) == "scopes"


@pytest.mark.parametrize("value", [None, 1, True, [], {}, "", "a\r\nb", "a\x7f", "\ufeffa", "a" * 129])
def test_scenario_60_a_tenant_is_a_short_printable_text(value: Any) -> None:
    assert refused({"sub": "search", "tenant": value}, claims={"tenant": "tenant"}) == "tenant"


@pytest.mark.parametrize("marks", [{"auth_time": 1_000}, {"amr": ["pwd"]}, {"idtyp": "user"}])
def test_a_token_a_person_logged_in_for_is_a_users(marks: dict[str, Any]) -> None:
    assert mapped({"sub": "alice", **marks}).kind == "user"


@pytest.mark.parametrize("marks", [{}, {"auth_time": 0}, {"idtyp": "app"}, {"acr": "1"}])
def test_without_a_sign_of_a_log_in_the_caller_is_a_service(marks: dict[str, Any]) -> None:
    assert mapped({"sub": "search", **marks}).kind == "service"


def test_claims_stay_out_of_the_repr() -> None:
    assert "alice@example.org" not in repr(mapped({"sub": "search", "email": "alice@example.org"}))
