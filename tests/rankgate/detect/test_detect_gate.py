"""The gate tells what could fire, and lets everything run when it cannot tell."""

from __future__ import annotations

from rankgate.detect.gate import Gate


class Silent:
    """What RE2's Set answers when it runs out of memory: no match, not even of the empty pattern."""

    def Match(self, text: str) -> list[int]:  # noqa: N802  re2's name
        return []


def test_only_matching_triggers_fire() -> None:
    gate = Gate({0: ["abc"], 1: ["x+", "y"], 2: ["nope"]})
    assert gate.fired("an abc and a y") == {0, 1}
    assert gate.fired("") == set()


def test_names_without_triggers_always_fire() -> None:
    assert Gate({0: [], 1: ["x"]}).fired("nothing") == {0}


def test_at_signs_and_long_digit_runs_force_their_recognisers() -> None:
    gate = Gate({0: ["never"], 1: ["never"]}, at=[0], digits=[1])
    assert gate.fired("a@b") == {0}
    assert gate.fired("4012-8888-8888") == {1}
    assert gate.fired("4012 8888") == set()


def test_a_failed_match_runs_everything() -> None:
    gate = Gate({0: ["abc"], 1: ["x"]})
    gate._set = Silent()
    assert gate.fired("clean") == {0, 1}
