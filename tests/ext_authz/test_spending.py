"""A store that says whatever it likes, as one does that somebody else holds: what a gate makes of its answers."""

import asyncio
import dataclasses
import json

import pytest
from fakes.gate import call, gate
from fakes.handing import EVERYTHING, KEYS
from fakes.people import DATA_PROTECTION, People

from ext_authz.check import check
from ext_authz.gate import Approvals
from ext_authz.wire import rendered
from rankgate.approvals import Caps, Joined, Met, State, Stored, Use, new_approval_id
from rankgate.clients.votekeys import read_vote_keys
from rankgate.clients.waiting import WaitingRoom
from rankgate.decision import Allow
from rankgate.errors import Reason
from rankgate.settings import ApprovalSettings

ASKED = {"allowed": True, "rankgate": {"approval": {"groups": [DATA_PROTECTION], "hold_s": 0}}}


class Forgetful:
    """Holds one approval that somebody agreed to, and forgets each time that it was used."""

    def __init__(self, people):
        self.people = people
        self.stored = None
        self.met = Met.JOINED
        self.asks = []

    async def join(self, ask, mac, caps):
        self.asks.append(ask)
        if self.stored is None:
            asked = Stored(ask=ask, body=ask.encode(), mac=mac, state=State.APPROVED)
            vote = self.people.signer.sign(self.people.vote(asked, "ada"))
            self.stored = Stored(ask=ask, body=asked.body, mac=mac, state=State.APPROVED, votes=(vote,))
        return Joined(self.met, self.stored)

    async def consume(self, approval, decision_id):
        await asyncio.sleep(0.01)
        return Use.SPENT


@pytest.fixture
def asking(tmp_path):
    """Return a gate whose calls were all agreed to, at a store that forgets."""
    people = People(tmp_path)
    store = Forgetful(people)
    approvals = Approvals(
        store=store,
        votes=read_vote_keys([people.public_key]),
        sealer=None,
        redact=EVERYTHING,
        room=WaitingRoom(store, waiters=10, memory=10_000),
        key=KEYS.approval(),
        caps=Caps(10, 100),
        new_id=lambda now: new_approval_id(now, 1),
        pause=asyncio.sleep,
    )
    one = gate(ASKED, approvals=approvals)
    section = ApprovalSettings.model_validate(people.settings("redis://127.0.0.1:9"))
    return dataclasses.replace(one, settings=one.settings.model_copy(update={"approvals": section}))


async def passed(one, *decision_ids):
    """Send one call under each of `decision_ids`, side by side; return how many passed."""
    decisions = await asyncio.gather(*(check(call(), one, decision_id, rendered) for decision_id in decision_ids))
    return sum(isinstance(decision, Allow) for decision, _ in decisions)


async def test_a_process_uses_consent_once_though_the_store_lets_calls_side_by_side_use_it(asking):
    assert await passed(asking, "dec-1", "dec-2", "dec-3") == 1


async def test_a_process_uses_consent_once_though_the_store_forgets_that_it_did(asking):
    assert await passed(asking, "dec-1") == 1
    assert await passed(asking, "dec-2") == 0


async def test_consent_that_another_deployment_asked_for_is_none(asking):
    assert await passed(asking, "dec-1") == 1
    other = dataclasses.replace(asking, settings=asking.settings.model_copy(update={"deployment": "staging"}))
    other.approvals.room.remember(other.approvals.store.stored.ask.id, "", 0)
    assert await passed(other, "dec-2") == 0


@pytest.mark.parametrize("met", [Met.VARIANT, Met.DENIED])
async def test_a_caller_never_hears_of_what_others_wait_for_or_were_refused(asking, met):
    assert await passed(asking, "dec-1") == 1
    asking.approvals.store.met = met
    others = json.dumps({"model": "m", "query": "another", "documents": ["a"]}).encode()
    decision, _ = await check(call(others), asking, "dec-2", rendered)
    assert decision.reason is Reason.APPROVAL_STORE_UNAVAILABLE
    assert asking.approvals.store.stored.ask.id not in str(decision)


async def test_a_header_that_is_set_is_another_plan_than_a_query_parameter_of_the_same_name(asking):
    for change in ({"headers": {"x-top": "1"}}, {"query_parameters_to_set": {"x-top": "1"}}):
        asking.policy.result = ASKED | change
        await passed(asking, "dec-1")
    with_header, with_parameter = asking.approvals.store.asks
    assert with_header.use_digest == with_parameter.use_digest
    assert with_header.plan_digest != with_parameter.plan_digest
