"""The question in a decision's event: what was asked, where the event may hold it, and nothing that it may not."""

from __future__ import annotations

import base64
import dataclasses
import json

import pytest
from fakes.gate import BODY, MAIL, Policy, call
from fakes.gate import gate as a_gate
from fakes.handing import KEYS

from ext_authz.check import check
from ext_authz.wire import rendered
from rankgate.errors import GateError, Reason
from rankgate.masking import keyed_digest
from rankgate.policy import encode_question

CLEAN = json.dumps({"model": "m", "query": "river bank", "documents": ["a", "b"]}).encode()


def gate(*arguments, route=None, **options):
    """Return a gate whose route keeps the question."""
    return a_gate(*arguments, route={"capture_question": True, **(route or {})}, **options)


async def event_of(one, http=None):
    await check(http or call(CLEAN), one, "dec-1", rendered)
    (event,) = one.audit.events
    return event


async def test_without_anything_sensitive_the_very_question_is_in_the_event():
    one = gate()
    event = await event_of(one)
    (asked,) = one.policy.questions
    assert json.loads(event.question.input) == asked
    assert (event.question.exact, event.question.why) == (True, ())
    again = encode_question(json.loads(event.question.input))
    assert event.question_digest == keyed_digest(KEYS.digest("acme"), again.encode())


async def test_a_masked_query_is_the_one_the_event_has_and_no_longer_exact():
    event = await event_of(gate(), call(BODY))
    assert (event.question.exact, event.question.why) == (False, ("query",))
    stored = json.loads(event.question.input)
    assert stored["rerank"]["query"] == event.capture.query.text
    assert stored["findings"]["total"] == 2
    assert MAIL not in repr(event)


async def test_a_finding_in_a_document_alone_changes_nothing_of_the_question():
    body = json.dumps({"query": "river", "documents": [f"by {MAIL}"]}).encode()
    event = await event_of(gate(), call(body))
    assert event.question.exact
    assert MAIL not in repr(event)


async def test_opt_ins_are_left_out_and_named():
    route = {"policy_inputs": ["documents_text", "parsed_body", "raw_body", "authorization"]}
    event = await event_of(gate(route=route))
    assert not event.question.exact
    assert event.question.why == ("documents_text", "parsed_body", "raw_body", "authorization")
    for secret in (b"good", base64.b64encode(CLEAN), b"parsed_body", b"documents_text"):
        assert secret not in event.question.input


@pytest.mark.parametrize(
    ("route", "held"),
    [
        ({"capture_question": True}, True),
        ({"capture_question": False}, False),
        ({"capture": "none", "capture_question": False}, False),
    ],
)
async def test_a_route_says_whether_the_question_is_kept(route, held):
    event = await event_of(gate({"allowed": True, "rankgate": {"risk": "low"}}, route=route))
    assert (event.question is not None) is held
    assert (event.ruling == {"allowed": True, "risk": "low"}) is held


async def test_a_ruling_that_turns_capture_off_turns_the_question_off():
    one = gate({"allowed": True, "rankgate": {"capture": "none"}}, route={"may_relax": True})
    event = await event_of(one)
    assert (event.question, event.capture) == (None, None)


async def test_what_the_budget_does_not_take_is_not_stored_and_says_so():
    body = json.dumps({"query": "q" * 3900, "documents": ["a"]}).encode()
    one = gate()
    settings = one.settings.model_copy(
        update={"audit": one.settings.audit.model_copy(update={"event_bytes": 4096})},
    )
    event = await event_of(dataclasses.replace(one, settings=settings), call(body))
    assert event.question.why == ("budget",)
    assert (event.question.input, event.question.exact) == (b"", False)
    assert event.capture.query.text == "q" * 3900


async def test_the_question_comes_before_the_documents_and_within_the_same_budget():
    body = json.dumps({"query": "q", "documents": ["d" * 3900, "e"]}).encode()
    one = gate()
    settings = one.settings.model_copy(
        update={"audit": one.settings.audit.model_copy(update={"event_bytes": 4096})},
    )
    event = await event_of(dataclasses.replace(one, settings=settings), call(body))
    assert event.question.exact
    assert not event.capture.complete


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, Reason.POLICY_UNDEFINED),
        ({"allowed": 1}, Reason.POLICY_INVALID),
        (GateError(Reason.POLICY_ERROR), Reason.POLICY_ERROR),
        (GateError(Reason.POLICY_TIMEOUT), Reason.POLICY_TIMEOUT),
    ],
)
async def test_a_question_without_a_ruling_is_kept_too_with_its_query_masked(answer, reason):
    event = await event_of(gate(Policy(answer)), call(BODY))
    assert (event.reason, event.ruling, event.capture) == (reason, {}, None)
    assert event.question.why == ("query",)
    assert MAIL not in repr(event)


async def test_the_ruling_is_the_policy_s_whatever_the_gate_makes_of_it():
    event = await event_of(gate({"allowed": True, "rankgate": {"mask": {"request": "unknown"}, "reasons": ["a"]}}))
    assert (event.allowed, event.reason) == (False, Reason.POLICY_INVALID)
    assert event.ruling == {"allowed": True, "reasons": ["a"], "mask_request": "unknown"}


async def test_a_policy_s_words_that_quote_the_call_are_masked_in_its_ruling():
    event = await event_of(gate({"allowed": False, "rankgate": {"reasons": [f"ask {MAIL}"]}}))
    assert event.ruling["masked"] == ["reasons"]
    assert MAIL not in repr(event)


async def test_a_refusal_before_the_policy_holds_no_question():
    event = await event_of(gate(), call(b"not json"))
    assert (event.question, event.ruling, event.question_digest) == (None, {}, "")
