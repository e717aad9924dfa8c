"""Rulings: properties of the parser. Its cases are the corpus, which needs no engine where a policy is a constant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from clients.contract_policy import CASES, Case, told
from hypothesis import given
from hypothesis import strategies as st

from rankgate.errors import GateError, Reason
from rankgate.policy import Limits, Ruling, parse_ruling

SCHEMA = json.loads((Path(__file__).parents[3] / "policies" / "schemas" / "ruling.json").read_text("utf-8"))


def constant(case: Case) -> Any:
    """The decision that the case's policy always gives; raises ValueError where it depends on something."""
    policy = case.given.get("policy", "")
    if "\n" in policy or "question" in case.given:
        raise ValueError
    return json.loads(policy.removeprefix("decision := "))


def constants() -> list[Any]:
    found = []
    for case in CASES:
        try:
            found.append(pytest.param(case, constant(case), id=case.name))
        except ValueError:
            continue
    return found


def parse(result: Any, count: int = 3, header: str = "authorization") -> Ruling:
    return parse_ruling(result, document_count=count, credential_header=header)


def outcome(case: Case, result: Any) -> dict[str, Any]:
    try:
        ruling = parse(
            result, case.given.get("document_count", 0), case.given.get("credential_header", "authorization")
        )
    except GateError as refused:
        return {"reason": refused.reason.value}
    return {"ruling": told(ruling)}


@pytest.mark.parametrize(("case", "result"), constants())
def test_the_corpus_is_read_as_written(case: Case, result: Any) -> None:
    assert outcome(case, result) == case.expected("opa")


READ = [each for each in constants() if "ruling" in each.values[0].given and "not read" not in each.values[0].name]


@pytest.mark.parametrize(("case", "result"), READ)
def test_what_is_accepted_keeps_the_shipped_schema(case: Case, result: Any) -> None:
    jsonschema.validate(result, SCHEMA)


def allows(result: Any) -> bool:
    """Whether `result` allows; a refusal does not, and is one of the two a ruling may end in."""
    try:
        return parse(result).allowed
    except GateError as refused:
        if refused.reason not in {Reason.POLICY_INVALID, Reason.POLICY_UNDEFINED}:
            raise
        return False


def test_nothing_but_true_allows() -> None:
    assert allows(True)
    assert allows({"allowed": True})
    for other in (False, None, 0, 1, "true", [], [True], {}, {"allowed": 1}, {"allow": True}, 1.0, "yes"):
        assert not allows(other)


def test_absence_leaves_everything_to_the_route() -> None:
    ruling = parse({"allowed": True, "rankgate": {}})
    assert ruling == Ruling(allowed=True)
    assert (ruling.mask_request, ruling.mask_response, ruling.credential, ruling.capture) == (None,) * 4
    assert ruling.limits == Limits()


def test_a_refusal_names_the_member_and_never_a_value() -> None:
    for result in (
        {"allowed": "jonas"},
        {"allowed": True, "headers": {"jonas\n": "x"}},
        {"allowed": True, "rankgate": {"jonas": 1}},
        {"allowed": True, "rankgate": {"risk": "jonas"}},
        {"allowed": False, "http_status": "jonas"},
    ):
        with pytest.raises(GateError) as refused:
            parse(result)
        assert refused.value.detail
        assert "jonas" not in refused.value.detail + refused.value.public + str(refused.value)


@pytest.mark.parametrize(
    "result",
    [
        {"allowed": False, "body": "\ud800"},
        {"allowed": False, "body": "a\x00"},
        {"allowed": True, "rankgate": {"approval": {"groups": ["\ud800"]}}},
        {"allowed": True, "rankgate": {"reasons": ["\ud800"]}},
    ],
)
def test_a_text_that_has_no_utf8_form_is_refused_before_anyone_encodes_it(result: Any) -> None:
    with pytest.raises(GateError) as refused:
        parse(result)
    assert refused.value.reason is Reason.POLICY_INVALID


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
PLUGIN = (
    "headers", "response_headers_to_add", "request_headers_to_remove", "query_parameters_to_set",
    "query_parameters_to_remove", "body", "http_status", "dynamic_metadata",
)  # fmt: skip
OWN = ("reasons", "risk", "approval", "mask", "documents", "credential", "capture", "limits")
MEMBERS = st.fixed_dictionaries(
    {"allowed": st.booleans() | JSON},
    optional=dict.fromkeys(PLUGIN, JSON) | {"rankgate": st.fixed_dictionaries({}, optional=dict.fromkeys(OWN, JSON))},
)


@given(JSON | MEMBERS)
def test_whatever_the_answer_it_is_a_safe_ruling_or_our_own_error(result: Any) -> None:
    if not allows(result):
        return
    ruling = parse(result)
    assert result is True or result["allowed"] is True
    assert all(0 <= position < 3 for position in ruling.drop)
    for name, value in (*ruling.headers, *ruling.response_headers):
        assert name.isascii()
        assert name == name.lower()
        assert not set(name + value) & set("\r\n\x00")
