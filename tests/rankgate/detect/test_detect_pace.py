"""A check is heard at the start and again and again, and what it raises ends the work."""

from __future__ import annotations

from itertools import count, islice

import pytest

from rankgate.detect.pace import paced, unhurried
from rankgate.errors import GateError, Reason


def test_items_pass_in_order() -> None:
    assert list(paced(range(1000), unhurried)) == list(range(1000))
    assert list(paced([], unhurried)) == []


def test_the_check_comes_before_the_first_item_and_at_least_every_256_after_it() -> None:
    calls: list[int] = []
    for item in islice(paced(count(), lambda: calls.append(1)), 2560):
        assert len(calls) > item // 256


def test_what_the_check_raises_ends_the_work() -> None:
    def late() -> None:
        raise GateError(Reason.DEADLINE_EXCEEDED)

    with pytest.raises(GateError) as caught:
        next(paced(count(), late))
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED
