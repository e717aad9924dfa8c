"""Two verdicts are the same or differ in words that can be counted."""

from __future__ import annotations

from typing import Any

import pytest

from rankgate.errors import GateError, Reason
from rankgate.policy import Approval, Limits, Risk, Ruling
from rankgate.policy.verdict import CHANGES, changes, cleaned, fault_verdict, verdict, verdict_of

PLAIN = verdict(Ruling(allowed=True))


def of(**changed: Any) -> dict[str, Any]:
    return verdict(Ruling(**{"allowed": True, **changed}))


def test_a_verdict_holds_only_what_the_ruling_gives() -> None:
    assert PLAIN == {"allowed": True}
    assert of(allowed=False) == {"allowed": False, "status": 403}
    full = of(
        reasons=("a",), risk=Risk.LOW, approval=Approval(("x",)), mask_request="strict", mask_response="none",
        drop=(1,), on_empty="empty", credential="c", capture="none", limits=Limits(3),
    )  # fmt: skip
    assert full == {
        "allowed": True, "reasons": ["a"], "risk": "low", "mask_request": "strict", "mask_response": "none",
        "approval": {"groups": ["x"], "quorum": 1, "ttl_s": 900}, "drop": [1], "on_empty": "empty", "credential": "c",
        "capture": "none", "limits": {"documents": 3},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (PLAIN, of(allowed=False, reasons=("no",)), ["newly_denied"]),
        (of(allowed=False), PLAIN, ["newly_allowed"]),
        (PLAIN, fault_verdict("policy_error"), ["newly_denied"]),
        (of(allowed=False), of(allowed=False, status=404), ["other_refusal"]),
        (of(allowed=False), fault_verdict("policy_error"), ["other_refusal"]),
        (PLAIN, of(reasons=("a",), risk=Risk.HIGH), ["reasons", "risk"]),
        (PLAIN, of(approval=Approval(("x",))), ["approval_added"]),
        (of(approval=Approval(("x",))), PLAIN, ["approval_dropped"]),
        (of(approval=Approval(("x",))), of(approval=Approval(("x",), 2)), ["approval_changed"]),
        (PLAIN, of(mask_request="strict"), ["mask_tighter"]),
        (of(mask_response="strict"), PLAIN, ["mask_looser"]),
        (PLAIN, of(mask_request="none"), ["mask_looser"]),
        (of(mask_request="none"), PLAIN, ["mask_tighter"]),
        (of(mask_request="a"), of(mask_request="b"), ["mask_other"]),
        (PLAIN, of(mask_request="a", mask_response="none"), ["mask_tighter", "mask_looser"]),
        (PLAIN, of(drop=(1,)), ["more_dropped"]),
        (of(drop=(1, 2)), of(drop=(2,)), ["fewer_dropped"]),
        (of(drop=(1,)), of(drop=(2,)), ["others_dropped"]),
        (PLAIN, of(limits=Limits(3)), ["terms"]),
        (PLAIN, PLAIN, []),
    ],
)
def test_a_difference_has_words(before: dict[str, Any], after: dict[str, Any], words: list[str]) -> None:
    assert changes(before, after) == words
    assert set(words) <= set(CHANGES)
    assert bool(changes(after, before)) is bool(words)


def test_words_of_a_policy_that_quote_the_call_are_masked_and_no_longer_compared() -> None:
    told = of(reasons=("ask 4711",), approval=Approval(("team 4711",)), mask_request="n4711", risk=Risk.LOW)
    kept = cleaned(told, lambda text: text.replace("4711", "*"))
    assert "4711" not in repr(kept)
    assert kept["masked"] == ["reasons", "approval", "mask_request"]
    assert changes(kept, told) == []
    assert changes(kept, told | {"risk": "high"}) == ["risk"]
    assert cleaned(told, lambda text: text) == told


def test_an_answer_is_read_as_the_gate_reads_it() -> None:
    def fails() -> Any:
        raise GateError(Reason.POLICY_ERROR)

    def read(answer: Any) -> dict[str, Any]:
        return verdict_of(answer, document_count=2, credential_header="authorization")

    assert read(lambda: True) == {"allowed": True}
    assert read(lambda: None) == fault_verdict("policy_undefined")
    assert read(lambda: {"allowed": 1}) == fault_verdict("policy_invalid")
    assert read(lambda: {"allowed": True, "rankgate": {"documents": {"drop": [2]}}}) == fault_verdict("policy_invalid")
    assert read(fails) == fault_verdict("policy_error")
