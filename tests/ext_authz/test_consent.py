"""Step 9: consent is used once, is written down before, and a store that loses an answer costs nobody their consent."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from fakes.asks import an_ask
from fakes.gate import Trail, call
from fakes.gate import gate as a_gate

from ext_authz.case import Case, Consent
from ext_authz.consent import spend
from rankgate.approvals import State, Use
from rankgate.errors import GateError, Reason

LOST = GateError(Reason.APPROVAL_STORE_UNAVAILABLE, "timeout")


class Room:
    def __init__(self):
        self.spent = {}

    def remember(self, approval, decision_id, until):
        self.spent[approval] = decision_id

    def spent_by(self, approval):
        return self.spent.get(approval, "")


class Store:
    """Answers `consume` with what is next; an answer that is an error is lost on the way back."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []
        self.during = lambda: None

    async def consume(self, approval, decision_id):
        self.asked.append((approval, decision_id))
        self.during()
        answer = self.answers.pop(0)
        if isinstance(answer, GateError):
            raise answer
        return answer


def scene(*answers, trail=None):
    ask = an_ask()
    case = Case(http=call(), decision_id="dec-1", now=0.0, consent=Consent(ask, State.APPROVED))
    store, room = Store(*answers), Room()

    async def pause(_):
        await asyncio.sleep(0)

    gate = a_gate(trail=trail, approvals=SimpleNamespace(store=store, room=room, pause=pause))
    return case, gate, store, room


async def test_what_is_used_is_written_down_before_and_remembered_after():
    case, gate, store, room = scene(Use.SPENT)
    store.during = lambda: written.extend(gate.audit.events)
    written = []
    await spend(case, gate)
    (event,) = written
    assert event.detail == {"approval_id": case.consent.ask.id, "decision_id": "dec-1"}
    assert case.consent.state is State.CONSUMED
    assert room.spent == {case.consent.ask.id: "dec-1"}


async def test_an_answer_that_is_lost_is_asked_for_again_under_the_same_decision():
    case, gate, store, _ = scene(LOST, Use.SPENT)
    await spend(case, gate)
    assert store.asked == [(case.consent.ask.id, "dec-1")] * 2
    assert case.consent.state is State.CONSUMED


async def test_a_store_that_answers_nothing_lets_nobody_pass():
    case, gate, store, room = scene(LOST, LOST)
    with pytest.raises(GateError) as refused:
        await spend(case, gate)
    assert refused.value.reason is Reason.APPROVAL_STORE_UNAVAILABLE
    assert len(store.asked) == 2 and not room.spent


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([Use.USED], Reason.APPROVAL_USED),
        ([Use.GONE], Reason.APPROVAL_EXPIRED),
        ([Use.YOUNGER, Use.USED], Reason.APPROVAL_USED),
        ([Use.YOUNGER] * 1000, Reason.APPROVAL_PENDING),
    ],
)
async def test_what_cannot_be_used_lets_nobody_pass(answers, reason):
    case, gate, _, room = scene(*answers)
    with pytest.raises(GateError) as refused:
        await spend(case, gate)
    assert refused.value.reason is reason and not room.spent


async def test_an_elder_caller_is_served_once_the_younger_one_left():
    case, gate, _, _ = scene(Use.YOUNGER, Use.YOUNGER, Use.SPENT)
    await spend(case, gate)
    assert case.consent.state is State.CONSUMED


async def test_what_cannot_be_written_down_is_not_used():
    case, gate, store, _ = scene(Use.SPENT, trail=Trail(GateError(Reason.AUDIT_UNAVAILABLE)))
    with pytest.raises(GateError):
        await spend(case, gate)
    assert not store.asked


async def test_a_caller_that_left_spends_nothing_and_one_that_leaves_meanwhile_is_recorded_as_having_spent():
    case, gate, store, _ = scene(Use.SPENT)
    case.left.set()
    with pytest.raises(GateError) as refused:
        await spend(case, gate)
    assert refused.value.reason is Reason.CALLER_LEFT and not store.asked

    case, gate, store, room = scene(Use.SPENT)
    store.during = case.left.set
    with pytest.raises(GateError) as refused:
        await spend(case, gate)
    assert refused.value.reason is Reason.CALLER_LEFT
    assert case.consent.state is State.CONSUMED and room.spent


async def test_without_consent_nothing_is_spent_and_nobody_passes():
    case, gate, store, _ = scene(Use.SPENT)
    case.consent = None
    with pytest.raises(GateError):
        await spend(case, gate)
    assert not store.asked
