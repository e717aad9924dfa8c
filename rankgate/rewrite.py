"""What becomes of a body: masked at the spans handed over, documents dropped, answers mapped back.

Pure: bytes and values in, bytes out. An unchanged body keeps its bytes; a changed one is spliced.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

from rankgate import jsontext
from rankgate.credentials import contains
from rankgate.detect import Detector, Finding
from rankgate.dialects import Dialect
from rankgate.errors import GateError, Reason
from rankgate.handoff import Handoff
from rankgate.jsontext import Edit, JsonText
from rankgate.masking import Masker
from rankgate.request import RerankRequest, Role

__all__ = ["Sent", "detect_request", "findings_of", "mask_answer", "mask_error", "mask_request", "unmaskable"]

# Error bodies are searched for the credential byte by byte; a longer one is not worth reading.
MAX_ERROR_BYTES = 65_536

Findings = Mapping[int, Sequence[Finding]]


@dataclass(frozen=True, slots=True)
class Sent:
    """What the reranker received: `renderings[i]` says how a text of its document i is shown to the caller."""

    body: bytes
    kept: tuple[int, ...]
    renderings: tuple[Mapping[str, str], ...]
    masked: Mapping[str, int] = field(default_factory=dict)


def detect_request(request: RerankRequest, detector: Detector, tenant: str) -> dict[int, tuple[Finding, ...]]:
    """Return the findings of every text, by ordinal. The only detection of a request."""
    found = ((text.ordinal, detector.detect(text.value, cache=tenant)) for text in request.texts)
    return {ordinal: findings for ordinal, findings in found if findings}


def unmaskable(json: JsonText, detector: Detector, types: Container[str]) -> str:
    """Return where a key or a number holds data of `types`, as a word; empty for nowhere.

    Neither can be masked without changing what the body means, so the caller refuses.
    """
    if any(finding.type in types for key in set(json.keys) for finding in detector.detect_key(key)):
        return "key"
    for number in json.numbers:
        name = next((part for part in reversed(number.pointer) if isinstance(part, str)), "")
        if any(finding.type in types for finding in detector.detect_number(number.text, name)):
            return "number"
    return ""


def findings_of(handoff: Handoff, request: RerankRequest, dialect: Dialect) -> dict[int, tuple[Finding, ...]] | None:
    """Return the findings handed over, or None where they do not fit this reading of the body: detect again."""
    if (
        handoff.spans is None
        or handoff.dialect_revision != dialect.revision
        or handoff.text_count != len(request.texts)
    ):
        return None
    texts = {text.ordinal: text for text in request.texts}
    findings: dict[int, tuple[Finding, ...]] = {}
    for ordinal, start, end, kind in handoff.spans:
        if ordinal not in texts or end > len(texts[ordinal].value):
            return None
        findings[ordinal] = (*findings.get(ordinal, ()), Finding(kind, start, end, 1.0))
    return findings


def mask_request(
    json: JsonText, request: RerankRequest, handoff: Handoff, dialect: Dialect, findings: Findings,
    outgoing: Masker, incoming: Masker,
) -> Sent:  # fmt: skip
    """Return what the reranker receives: `outgoing` masks, `handoff.kept` drops.

    `incoming` renders a document's text where the reranker echoes it unchanged.
    """
    kept = handoff.kept if handoff.kept is not None else tuple(range(request.document_count))
    place = {position: index for index, position in enumerate(kept)}
    renderings: list[dict[str, str]] = [{} for _ in kept]
    masked: Counter[str] = Counter()
    edits: list[Edit] = dialect.drop(json, request, kept) if len(kept) < request.document_count else []
    for text in request.texts:
        if text.role is Role.DOCUMENT and text.position not in place:
            continue
        found = findings.get(text.ordinal, ())
        value = outgoing.mask(text.value, found)
        if value != text.value:
            edits.append((text.start, text.end, jsontext.encode(value)))
            masked.update(finding.type for finding in found if finding.type in outgoing.plan.operators)
        if text.position is not None:
            renderings[place[text.position]][value] = incoming.mask(text.value, found)
    body = jsontext.splice(json.body, edits) if edits else json.body
    return Sent(body, kept, tuple(renderings), dict(masked))


def mask_answer(
    body: bytes, sent: Sent, handoff: Handoff, dialect: Dialect, detector: Detector, incoming: Masker
) -> tuple[bytes, dict[str, int]]:
    """Return a 2xx answer as the caller may see it, and what was masked in it by type.

    An echo equal to what was sent for that document gets its planned rendering; every other text is detected.
    Raises GateError(UPSTREAM_INVALID) for what is no answer of this API.
    """
    try:
        json = jsontext.parse(body)
    except GateError:
        raise GateError(Reason.UPSTREAM_INVALID, "json") from None
    results = dialect.results(json)
    if any(not 0 <= result.index < len(sent.kept) for result in results):
        raise GateError(Reason.UPSTREAM_INVALID, "index")
    echoed = {ordinal: sent.renderings[result.index] for result in results for ordinal in result.echo}
    edits, masked = _mask_leaves(json, echoed, detector, handoff.tenant, incoming)
    if len(sent.kept) < handoff.document_count:
        edits += dialect.restore(json, results, sent.kept, handoff.document_count, handoff.drop_mode, handoff.top_n)
    return (jsontext.splice(body, edits) if edits else body), masked


def mask_error(
    body: bytes, handoff: Handoff, detector: Detector, incoming: Masker, lease_key: bytes
) -> tuple[bytes, dict[str, int]]:
    """Return an error answer (status >= 400) as the caller may see it: JSON by its leaves, other text as a whole.

    Raises GateError(UPSTREAM_INVALID) where it is not text, too long, or quotes the lent credential.
    """
    if len(body) > MAX_ERROR_BYTES:
        raise GateError(Reason.UPSTREAM_INVALID, "error size")
    if handoff.lease_fingerprint and contains(lease_key, handoff.lease_fingerprint, body):
        raise GateError(Reason.UPSTREAM_INVALID, "credential")
    try:
        json = jsontext.parse(body)
    except GateError:
        try:
            text = body.decode()
        except UnicodeDecodeError:
            raise GateError(Reason.UPSTREAM_INVALID, "error text") from None
        found = detector.detect(text, cache=handoff.tenant)
        return incoming.mask(text, found).encode(), dict(Counter(finding.type for finding in found))
    if handoff.lease_fingerprint and any(
        contains(lease_key, handoff.lease_fingerprint, string.value.encode()) for string in json.strings
    ):
        raise GateError(Reason.UPSTREAM_INVALID, "credential")
    edits, masked = _mask_leaves(json, {}, detector, handoff.tenant, incoming)
    return (jsontext.splice(body, edits) if edits else body), masked


def _mask_leaves(
    json: JsonText, echoed: Mapping[int, Mapping[str, str]], detector: Detector, tenant: str, incoming: Masker
) -> tuple[list[Edit], dict[str, int]]:
    if word := unmaskable(json, detector, incoming.plan.operators):
        raise GateError(Reason.UPSTREAM_INVALID, word)
    edits: list[Edit] = []
    masked: Counter[str] = Counter()
    for string in json.strings:
        rendering = echoed.get(string.ordinal, {}).get(string.value)
        if rendering is None:
            found = detector.detect(string.value, cache=tenant)
            rendering = incoming.mask(string.value, found) if found else string.value
            masked.update(finding.type for finding in found if finding.type in incoming.plan.operators)
        if rendering != string.value:
            edits.append((string.start, string.end, jsontext.encode(rendering)))
    return edits, dict(masked)
