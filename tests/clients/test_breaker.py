from __future__ import annotations

from rankgate.clients.breaker import Breaker


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def opened(time: Time) -> Breaker:
    breaker = Breaker(2, 10.0, clock=time)
    for _ in range(2):
        assert breaker.permit()
        breaker.failed()
    return breaker


def test_it_opens_after_failures_in_a_row() -> None:
    breaker = Breaker(2, 10.0, clock=Time())
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
