"""Audit events as the filters make them, and hypothesis strategies for hostile ones."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from rankgate.audit import (
    Approval,
    Ballot,
    Call,
    Caller,
    CompletionEvent,
    DecisionEvent,
    LifecycleEvent,
    Outcome,
    Plan,
    What,
    capture_texts,
    store_question,
)
from rankgate.audit.text import keyed
from rankgate.errors import Reason
from rankgate.policy.storing import STORING_FAULTS

__all__ = ["DIGEST", "TIME", "completion", "decision", "events", "lifecycle"]

DIGEST = keyed(b"a key for tests, 32 bytes long ..")
TIME = 1_790_000_000_123


def decision(number: int = 1, **changes: object) -> DecisionEvent:
    """Return an allow with everything in it; `changes` replace fields."""
    values: dict[str, object] = {
        "decision_id": f"decision-{number}",
        "time": TIME + number,
        "allowed": True,
        "reason": Reason.ALLOWED,
        "detail": "nothing to say",
        "caller": Caller("https://issuer.example", "indexer", "acme", ("search", "batch")),
        "call": Call(
            request_id="request-1", route="cohere-v2", method="POST", path="/v2/rerank", source_address="10.0.0.7",
            dialect="cohere.v2", operation="rerank", model="rerank-v3.5", document_count=3, total_chars=120,
            body_bytes=421, body_digest=DIGEST(b"body"),
        ),
        "policy_reasons": ("within hours",),
        "risk": 0.25,
        "policy_revision": "bundle-7",
        "policy_inputs": ("documents_text",),
        "detector_revision": "4",
        "plan": Plan("default", "default", (1,), 2, "masked"),
        "findings": {"EMAIL_ADDRESS": 2, "IBAN_CODE": 1},
        "lease": "32:aa",
        "capture": capture_texts("masked", "who pays?", None, [(0, "first"), (2, "third")], 65_536, DIGEST),
        "question_digest": DIGEST(b"question"),
        "duration_us": 1500,
        "trace": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "approval": Approval(
            "apr-1", "consumed", ("data-protection",), 2,
            (Ballot("ada", "approve", "known case", TIME), Ballot("grace", "approve", "agreed", TIME + 1)),
            break_glass="on call",
        ),
        "question": store_question('{"rerank":{"query":"who pays?","document_count":3}}', ("ids",), 65_536, ()),
        "ruling": {
            "allowed": True, "status": 403, "reasons": ["within hours"], "risk": "low", "mask_request": "strict",
            "approval": {"groups": ["data-protection"], "quorum": 2, "ttl_s": 900, "hold_s": 5}, "drop": [1],
            "mask_response": "none", "on_empty": "empty", "credential": "other", "capture": "masked",
            "limits": {"documents": 3, "total_chars": 200}, "masked": ["reasons"],
        },
    }  # fmt: skip
    return DecisionEvent(**{**values, **changes})  # type: ignore[arg-type]


def completion(number: int = 1, **changes: object) -> CompletionEvent:
    """Return the completion of `decision(number)`."""
    values: dict[str, object] = {
        "decision_id": f"decision-{number}",
        "time": TIME + number + 40,
        "outcome": Outcome.COMPLETE,
        "caller": Caller("https://issuer.example", "indexer", "acme"),
        "route": "cohere-v2",
        "status": 200,
        "upstream_status": 200,
        "forwarded_digest": DIGEST(b"forwarded"),
        "forwarded_bytes": 400,
        "response_digest": DIGEST(b"response"),
        "response_bytes": 210,
        "masked_request": {"EMAIL_ADDRESS": 2},
        "masked_response": {},
        "upstream_ms": 31,
        "trace": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }
    return CompletionEvent(**{**values, **changes})  # type: ignore[arg-type]


def lifecycle(what: What = What.START, **changes: object) -> LifecycleEvent:
    """Return an event about the gate itself."""
    values: dict[str, object] = {"what": what, "time": TIME, "component": "authz"}
    return LifecycleEvent(**{**values, **changes})  # type: ignore[arg-type]


_ODD = st.sampled_from(
    ["\r\n", "\x1b[31m", "\x00", "\u2028", "\u2029", "\x7f", "\x9b", "\ud800", "%s%n", "\u202e", '"', "\\"]
)
_TEXT = st.one_of(st.text(st.characters(), max_size=40), st.lists(_ODD, max_size=6).map("".join))
_COUNT = st.integers(0, 2**53)
_COUNTS = st.dictionaries(st.sampled_from(["EMAIL_ADDRESS", "IBAN_CODE", "JWT"]), _COUNT)
_CALLER = st.none() | st.builds(Caller, _TEXT, _TEXT, _TEXT, st.lists(_TEXT, max_size=3).map(tuple))
_CALL = st.builds(Call, _TEXT, _TEXT, _TEXT, _TEXT, _TEXT, _TEXT, _TEXT, st.none() | _TEXT, st.none() | _COUNT)
_CAPTURE = st.none() | st.builds(
    lambda query, texts, budget: capture_texts("masked", query, None, enumerate(texts), budget, DIGEST),
    _TEXT, st.lists(_TEXT, max_size=4), st.integers(0, 200),
)  # fmt: skip
_QUESTION = st.none() | st.builds(
    lambda query, claim, why, budget: store_question(
        json.dumps({"query": query.encode("utf-8", "replace").decode(), "claim": claim}, ensure_ascii=False),
        why, budget, (query,),
    ),
    _TEXT, st.none() | st.floats(allow_nan=False, allow_infinity=False) | _COUNT,
    st.lists(st.sampled_from(STORING_FAULTS), max_size=2).map(tuple), st.integers(0, 400),
)  # fmt: skip

events = st.one_of(
    st.builds(
        DecisionEvent,
        decision_id=_TEXT.filter(bool),
        time=_COUNT.map(lambda ms: ms % 10**14),
        allowed=st.booleans(),
        reason=st.sampled_from(Reason),
        caller=_CALLER,
        call=_CALL,
        policy_reasons=st.lists(_TEXT, max_size=3).map(tuple),
        risk=st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
        policy_revision=_TEXT,
        findings=_COUNTS,
        capture=_CAPTURE,
        trace=_TEXT,
        question=_QUESTION,
    ),
    st.builds(
        CompletionEvent,
        decision_id=_TEXT.filter(bool),
        time=_COUNT.map(lambda ms: ms % 10**14),
        outcome=st.sampled_from(Outcome),
        caller=_CALLER,
        route=_TEXT,
        status=st.none() | st.integers(100, 599),
        masked_request=_COUNTS,
        trace=_TEXT,
    ),
    st.builds(
        LifecycleEvent,
        what=st.sampled_from(What),
        time=_COUNT.map(lambda ms: ms % 10**14),
        component=st.just("authz"),
        word=st.just("log_damaged"),
        detail=st.dictionaries(st.just("log"), _TEXT | _COUNT),
    ),
)
"""Any event, with whatever strings a caller or a policy might get into it."""
