"""Ruling -> verdict: what of a ruling is recorded, and compared when the same question is asked again.

A verdict is JSON: `allowed`, and of the terms only those that the ruling gives. What it writes for callers, upstream or
Envoy (headers, query parameters, the body, metadata) is no part of it. A policy that gave no valid ruling has the
verdict `{"allowed": false, "fault": WORD}`. Growth rule: add members and kinds of change, never change a meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from rankgate.errors import GateError, Reason
from rankgate.policy.ruling import Limits, Ruling, parse_ruling

__all__ = ["CHANGES", "FAULTS", "Verdict", "changes", "cleaned", "fault_verdict", "verdict", "verdict_of"]

Verdict = Mapping[str, Any]

FAULTS = frozenset({Reason.POLICY_UNDEFINED, Reason.POLICY_INVALID, Reason.POLICY_ERROR})
"""What a policy does by itself, and does again when asked again."""

CHANGES = (
    "newly_denied", "newly_allowed", "other_refusal", "reasons", "risk", "approval_added", "approval_dropped",
    "approval_changed", "mask_tighter", "mask_looser", "mask_other", "more_dropped", "fewer_dropped", "others_dropped",
    "terms",
)  # fmt: skip
"""Every kind of change, in the order in which they are told."""

_NO_LIMITS = Limits()
_PLAIN = {
    "fault": "other_refusal", "status": "other_refusal", "reasons": "reasons", "risk": "risk",
    "on_empty": "terms", "credential": "terms", "capture": "terms", "limits": "terms",
}  # fmt: skip


def verdict(ruling: Ruling) -> dict[str, Any]:
    """Return the verdict of a ruling."""
    told: dict[str, Any] = {"allowed": ruling.allowed}
    if not ruling.allowed:
        told["status"] = ruling.status
    if ruling.reasons:
        told["reasons"] = list(ruling.reasons)
    if ruling.risk is not None:
        told["risk"] = ruling.risk.value
    if ruling.approval is not None:
        told["approval"] = _given(asdict(ruling.approval)) | {"groups": list(ruling.approval.groups)}
    for name in ("mask_request", "mask_response", "credential", "capture"):
        if (value := getattr(ruling, name)) is not None:
            told[name] = value
    if ruling.drop:
        told["drop"] = list(ruling.drop)
    if ruling.on_empty != "deny":
        told["on_empty"] = ruling.on_empty
    if ruling.limits != _NO_LIMITS:
        told["limits"] = _given(asdict(ruling.limits))
    return told


def fault_verdict(word: str) -> dict[str, Any]:
    """Return the verdict of a policy that gave no valid ruling."""
    return {"allowed": False, "fault": word}


def verdict_of(answer: Callable[[], Any], *, document_count: int, credential_header: str) -> dict[str, Any]:
    """Return the verdict on what `answer` returns or raises, as the gate would read it."""
    try:
        return verdict(parse_ruling(answer(), document_count=document_count, credential_header=credential_header))
    except GateError as fault:
        return fault_verdict(fault.reason.value)


def cleaned(told: Verdict, clean: Callable[[str], str]) -> dict[str, Any]:
    """Return a verdict fit for a record: a policy's words may quote the call.

    `masked` names the members whose texts `clean` changed; they cannot be compared any more.
    """
    kept = dict(told)
    for name in ("reasons", "mask_request", "mask_response", "credential"):
        if name in kept:
            kept[name] = [clean(one) for one in kept[name]] if name == "reasons" else clean(kept[name])
    if "approval" in kept:
        kept["approval"] = {**kept["approval"], "groups": [clean(one) for one in kept["approval"]["groups"]]}
    masked = [name for name in kept if kept[name] != told[name]]
    return kept | ({"masked": masked} if masked else {})


def changes(before: Verdict, after: Verdict) -> list[str]:
    """Return the words of CHANGES for how `after` differs from `before`; none where they are the same.

    Where the verdict itself turned, nothing else is told. Members that are `masked` in `before` are not compared.
    """
    if before["allowed"] != after["allowed"]:
        return ["newly_allowed" if after["allowed"] else "newly_denied"]
    skip = {*before.get("masked", ())}

    def both(name: str) -> tuple[Any, Any]:
        return (None, None) if name in skip else (before.get(name), after.get(name))

    found: set[str] = set()
    for name, word in _PLAIN.items():
        one, other = both(name)
        if one != other:
            found.add(word)
    found |= _approval(*both("approval")) | _drops(*both("drop"))
    for name in ("mask_request", "mask_response"):
        found |= _mask(*both(name))
    return [word for word in CHANGES if word in found]


def _approval(before: Any, after: Any) -> set[str]:
    if before == after:
        return set()
    return {"approval_added" if before is None else "approval_dropped" if after is None else "approval_changed"}


def _drops(before: Any, after: Any) -> set[str]:
    one, other = set(before or ()), set(after or ())
    if one == other:
        return set()
    return {"more_dropped" if one < other else "fewer_dropped" if other < one else "others_dropped"}


def _mask(before: Any, after: Any) -> set[str]:
    """Compare by name alone: none named is the route's own, and a named one is added to it unless it is `none`."""
    if before == after:
        return set()
    if "none" in {before, after}:
        return {"mask_looser" if after == "none" else "mask_tighter"}
    return {"mask_tighter" if before is None else "mask_looser" if after is None else "mask_other"}


def _given(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
