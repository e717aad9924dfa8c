"""Makes what ext_authz would hand over for a body, with the real dialects, detection and keys."""

from __future__ import annotations

from rankgate import dialects, jsontext
from rankgate.credentials import fingerprint
from rankgate.detect import Detector
from rankgate.handoff import Handoff
from rankgate.masking import Keys, Masker, Maskers, Plan, keyed_digest
from rankgate.rewrite import detect_request, edits_of
from rankgate.settings import STRUCTURED_TYPES, ProfileSettings

KEYS = Keys(b"0123456789abcdef0123456789abcdef", "1")
EVERYTHING = Plan.of(ProfileSettings.model_validate({"types": STRUCTURED_TYPES}))
DETECTOR = Detector(STRUCTURED_TYPES, phone_regions=("US", "GB", "DE"), cache_bytes=1_000_000)
MASKERS = Maskers(KEYS, ("US", "GB", "DE"), remembers=True)
CREDENTIAL = "sk-upstream-0123456789"


def hand_over(
    body: bytes,
    dialect="cohere.v2",
    *,
    kept=None,
    request_plan=EVERYTHING,
    response_plan=EVERYTHING,
    spans=True,
    **changes,
) -> Handoff:
    """Return the handoff of an allowed call with `body`."""
    spoken = dialects.by_name(dialect)
    request = spoken.read(jsontext.parse(body))
    findings = detect_request(request, DETECTOR, "acme", lambda: None)
    fields = {
        "decision_id": "dec-1",
        "issuer": "https://issuer.example",
        "subject": "search-svc",
        "tenant": "acme",
        "route": "rerank",
        "dialect": dialect,
        "dialect_revision": spoken.revision,
        "body_digest": keyed_digest(KEYS.digest("acme"), body),
        "body_length": len(body),
        "text_count": len(request.texts),
        "document_count": request.document_count,
        "request_plan": request_plan.text,
        "response_plan": response_plan.text,
        "drop_mode": spoken.drop_mode("auto", request.top_n, request.document_count),
        "kept": kept,
        "top_n": request.top_n,
        "edits": edits_of(request, findings, Masker(KEYS, "acme", request_plan), lambda: None) if spans else None,
        "lease_fingerprint": fingerprint(KEYS.lease(), CREDENTIAL),
    }
    return Handoff(**{**fields, **changes})
