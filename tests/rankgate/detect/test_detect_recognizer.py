"""A rule is a pattern and a check."""

from __future__ import annotations

import re

from rankgate.detect.finding import Finding
from rankgate.detect.recognizer import Recognizer, Rule


def test_a_check_narrows_or_refuses_a_match() -> None:
    def odd(match: re.Match[str]) -> tuple[int, int] | None:
        return (match.start() + 1, match.end()) if int(match.group()[1:]) % 2 else None

    rule: Recognizer = Rule("PIN", ("#",), re.compile(r"#\d+"), ("#1",), odd, 0.5)
    assert list(rule.find("#1 #2 #13")) == [Finding("PIN", 1, 2, 0.5), Finding("PIN", 7, 9, 0.5)]
    assert rule.types == ("PIN",)
    assert rule.positives == (("PIN", "#1"),)
