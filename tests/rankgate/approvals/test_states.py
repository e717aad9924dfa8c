"""The life of an approval: every pair of states."""

from __future__ import annotations

from itertools import product

import pytest

from rankgate.approvals import OPEN, State, may_become

ALLOWED = {
    ("pending", "approved"), ("pending", "denied"), ("pending", "expired"), ("pending", "cancelled"),
    ("approved", "pending"), ("approved", "denied"), ("approved", "expired"), ("approved", "cancelled"),
    ("approved", "consumed"),
}  # fmt: skip


@pytest.mark.parametrize(("state", "after"), list(product(State, State)))
def test_an_approval_goes_only_where_the_design_lets_it(state: State, after: State) -> None:
    assert may_become(state, after) is ((state.value, after.value) in ALLOWED)


def test_what_is_pending_or_approved_is_open_and_nothing_else() -> None:
    assert {State.PENDING, State.APPROVED} == OPEN


def test_only_consent_is_ever_used_up() -> None:
    assert [state for state in State if may_become(state, State.CONSUMED)] == [State.APPROVED]
