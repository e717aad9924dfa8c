from __future__ import annotations

from itertools import pairwise

import pytest

from rankgate.clients.breaker import Breaker

# A power of two, so that times are sums without a rest.
STEP_S = 1 / 256


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def opened(time: Time) -> Breaker:
    breaker = Breaker(2, 10.0, 10.0, clock=time)
    for _ in range(2):
        assert breaker.permit()
        breaker.failed()
    return breaker


def test_it_opens_after_failures_in_a_row() -> None:
    breaker = Breaker(2, 10.0, 10.0, clock=Time())
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert breaker.closed
    breaker.failed()
    assert not breaker.closed
    assert not breaker.permit()


def test_one_call_at_a_time_tries_again_after_the_cool_down() -> None:
    time = Time()
    breaker = opened(time)
    time.now = 9.9
    assert not breaker.permit()
    time.now = 10.0
    assert breaker.permit()
    assert not breaker.permit()


def test_a_trial_that_succeeds_closes() -> None:
    time = Time()
    breaker = opened(time)
    time.now = 10.0
    assert breaker.permit()
    breaker.succeeded()
    assert breaker.closed
    breaker.failed()
    assert breaker.closed


def test_a_trial_that_fails_opens_for_another_cool_down() -> None:
    time = Time()
    breaker = opened(time)
    time.now = 10.0
    assert breaker.permit()
    breaker.failed()
    time.now = 19.9
    assert not breaker.permit()
    time.now = 20.0
    assert breaker.permit()


def test_an_abandoned_trial_leaves_room_for_the_next() -> None:
    time = Time()
    breaker = opened(time)
    time.now = 10.0
    assert breaker.permit()
    breaker.abandoned()
    assert not breaker.closed
    assert breaker.permit()


def tried_at(seconds: float) -> list[float]:
    """Return when a breaker with its usual numbers lets a call try, of a side that is away for `seconds`."""
    time = Time()
    breaker = Breaker(clock=time)
    tried = []
    while time.now < seconds:
        if breaker.permit():
            tried.append(time.now)
            breaker.failed()
        time.now += STEP_S
    return tried


@pytest.mark.parametrize("away_s", [0.1, 0.2, 0.5, 2.0, 4.0, 30.0])
def test_calls_are_refused_for_a_quarter_longer_than_the_other_side_was_away(away_s: float) -> None:
    time = Time()
    breaker = Breaker(clock=time)
    while time.now < away_s or not breaker.closed:
        if breaker.permit():
            breaker.failed() if time.now < away_s else breaker.succeeded()
        time.now += STEP_S
    assert time.now - away_s <= min(max(0.05, 0.25 * away_s), 1.0) + 0.01


def test_what_stays_away_is_asked_less_and_less_and_at_last_once_a_second() -> None:
    tried = tried_at(60.0)
    waits = [later - sooner for sooner, later in pairwise(tried)][5:]
    assert waits == sorted(waits)
    assert waits[-1] == pytest.approx(1.0, abs=0.01)
    assert len(tried) < 90


def test_a_new_row_of_failures_begins_with_the_shortest_cool_down() -> None:
    time = Time()
    breaker = Breaker(1, 0.05, 1.0, clock=time)
    breaker.failed()
    time.now = 60.0
    assert breaker.permit()
    breaker.succeeded()
    breaker.failed()
    time.now = 60.06
    assert breaker.permit()
