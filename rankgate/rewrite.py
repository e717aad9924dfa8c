"""What becomes of a body: masked at the spans handed over, documents dropped, answers mapped back.

Pure: bytes and values in, bytes out. An unchanged body keeps its bytes; a changed one is spliced.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field

from rankgate import jsontext
from rankgate.credentials import contains
from rankgate.detect import Detector, Finding
from rankgate.dialects import Dialect
from rankgate.errors import GateError, Reason
from rankgate.handoff import VERSION, Handoff
from rankgate.jsontext import Edit, JsonText
from rankgate.masking import Masker
from rankgate.request import RerankRequest, Role

__all__ = [
    "Inspector",
    "Sent",
    "detect_request",
    "findings_of",
    "mask_answer",
    "mask_error",
    "mask_request",
    "unmaskable",
]

# An error longer than this is not worth reading; it is replaced.
MAX_ERROR_BYTES = 65_536

Findings = Mapping[int, Sequence[Finding]]


@dataclass(frozen=True, slots=True)
class Sent:
    """What the reranker received: `renderings[i]` says how a text of its document i is shown to the caller."""

    body: bytes
    kept: tuple[int, ...]
    renderings: tuple[Mapping[str, str], ...]
    masked: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Inspector:
    """What answers are inspected with: the detector, and the fingerprint of the credential that was lent."""

    detector: Detector
    tenant: str
    lease_key: bytes
    lease: str
    check: Callable[[], None]

    def refuse_credential(self, json: JsonText | None, body: bytes) -> None:
        """Raise GateError(UPSTREAM_INVALID) where `body`, as written or as it reads, holds the lent credential."""
        if not self.lease:
            return
        said = body
        if json is not None and b"\\" in body:
            said += b"\0" + "\0".join((*(string.value for string in json.strings), *json.keys)).encode()
        if contains(self.lease_key, self.lease, said):
            raise GateError(Reason.UPSTREAM_INVALID, "credential")


def detect_request(
    request: RerankRequest, detector: Detector, tenant: str, check: Callable[[], None]
) -> dict[int, tuple[Finding, ...]]:
    """Return the findings of every text, by ordinal. The only detection of a request.

    `check` is called again and again on the way, and raises where there is no time left.
    """
    findings: dict[int, tuple[Finding, ...]] = {}
    for text in request.texts:
        check()
        if found := detector.detect(text.value, cache=tenant, check=check):
            findings[text.ordinal] = found
    return findings


def unmaskable(json: JsonText, detector: Detector, types: Container[str]) -> str:
    """Return where a key or a number holds data of `types`, as a word; empty for nowhere.

    Neither can be masked without changing what the body means, so the caller refuses.
    """
    if any(_named(finding, types) for key in set(json.keys) for finding in detector.detect_key(key)):
        return "key"
    for number in json.numbers:
        name = next((part for part in reversed(number.pointer) if isinstance(part, str)), "")
        if any(_named(finding, types) for finding in detector.detect_number(number.text, name)):
            return "number"
    return ""


def findings_of(handoff: Handoff, request: RerankRequest, dialect: Dialect) -> dict[int, tuple[Finding, ...]] | None:
    """Return the findings handed over, or None where they do not fit this reading of the body: detect again.

    Raises GateError(HANDOFF_MISMATCH) where documents are to be dropped by positions of another reading: there is no
    safe way to do that again.
    """
    same = (
        handoff.version == VERSION
        and handoff.dialect_revision == dialect.revision
        and handoff.text_count == len(request.texts)
        and handoff.document_count == request.document_count
    )
    if not same and handoff.kept is not None:
        raise GateError(Reason.HANDOFF_MISMATCH, "another reading")
    if not same or handoff.spans is None:
        return None
    texts = {text.ordinal: text for text in request.texts}
    findings: dict[int, list[Finding]] = {}
    for ordinal, start, end, (kind, *also) in handoff.spans:
        if ordinal not in texts or end > len(texts[ordinal].value):
            return None
        findings.setdefault(ordinal, []).append(Finding(kind, start, end, 1.0, tuple(also)))
    return {ordinal: tuple(found) for ordinal, found in findings.items()}


def mask_request(
    json: JsonText,
    request: RerankRequest,
    dialect: Dialect,
    kept: tuple[int, ...] | None,
    findings: Findings,
    outgoing: Masker,
    incoming: Masker,
    check: Callable[[], None],
) -> Sent:
    """Return what the reranker receives: `outgoing` masks, `kept` (positions; None: all) drops.

    `incoming` renders a document's text where the reranker echoes it unchanged.
    """
    kept = kept if kept is not None else tuple(range(request.document_count))
    place = {position: index for index, position in enumerate(kept)}
    renderings: list[dict[str, str]] = [{} for _ in kept]
    masked: Counter[str] = Counter()
    edits: list[Edit] = dialect.drop(json, request, kept) if len(kept) < request.document_count else []
    for text in request.texts:
        if text.position is not None and text.position not in place:
            continue
        found = findings.get(text.ordinal, ())
        value = outgoing.mask(text.value, found, check=check)
        if value != text.value:
            edits.append((text.start, text.end, jsontext.encode(value)))
            masked.update(_counted(found, outgoing))
        if text.role is Role.DOCUMENT and text.position is not None:
            rendering = value if incoming.plan == outgoing.plan else incoming.mask(text.value, found, check=check)
            renderings[place[text.position]][value] = rendering
    body = jsontext.splice(json.body, edits) if edits else json.body
    return Sent(body, kept, tuple(renderings), dict(masked))


def mask_answer(
    body: bytes, sent: Sent, handoff: Handoff, dialect: Dialect, inspector: Inspector, incoming: Masker
) -> tuple[bytes, dict[str, int]]:
    """Return a 2xx answer as the caller may see it, and what detection masked in it by type.

    An echo equal to what was sent for that document gets its planned rendering; every other text is detected.
    Raises GateError(UPSTREAM_INVALID) for what is no answer of this API, or quotes the lent credential.
    """
    try:
        json = jsontext.parse(body)
    except GateError:
        raise GateError(Reason.UPSTREAM_INVALID, "json") from None
    inspector.refuse_credential(json, body)
    results = dialect.results(json)
    if any(not 0 <= result.index < len(sent.kept) for result in results):
        raise GateError(Reason.UPSTREAM_INVALID, "index")
    echoed = {ordinal: sent.renderings[result.index] for result in results for ordinal in result.echo}
    edits, masked = _mask_leaves(json, echoed, inspector, incoming)
    if len(sent.kept) < handoff.document_count:
        edits += dialect.restore(json, results, sent.kept, handoff.document_count, handoff.drop_mode, handoff.top_n)
    return (jsontext.splice(body, edits) if edits else body), masked


def mask_error(body: bytes, inspector: Inspector, incoming: Masker) -> tuple[bytes, bool, dict[str, int]]:
    """Return an error answer (status >= 400) as the caller may see it, whether it is JSON, and what was masked.

    JSON is masked by its leaves, other text as a whole. Raises GateError(UPSTREAM_INVALID) where it is neither, is
    too long, only looks like JSON, or quotes the lent credential.
    """
    if len(body) > MAX_ERROR_BYTES:
        raise GateError(Reason.UPSTREAM_INVALID, "error size")
    # What another reader might take for JSON must be JSON here as well: its escapes would hide what it says.
    if body.lstrip()[:1] in {b"{", b"[", b'"'}:
        try:
            json = jsontext.parse(body)
        except GateError:
            raise GateError(Reason.UPSTREAM_INVALID, "error json") from None
        inspector.refuse_credential(json, body)
        edits, masked = _mask_leaves(json, {}, inspector, incoming)
        return (jsontext.splice(body, edits) if edits else body), True, masked
    inspector.refuse_credential(None, body)
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise GateError(Reason.UPSTREAM_INVALID, "error text") from None
    found = inspector.detector.detect(text, cache=inspector.tenant, check=inspector.check)
    return incoming.mask(text, found, check=inspector.check).encode(), False, dict(_counted(found, incoming))


def _mask_leaves(
    json: JsonText, echoed: Mapping[int, Mapping[str, str]], inspector: Inspector, incoming: Masker
) -> tuple[list[Edit], dict[str, int]]:
    if word := unmaskable(json, inspector.detector, incoming.plan.operators):
        raise GateError(Reason.UPSTREAM_INVALID, word)
    edits: list[Edit] = []
    masked: Counter[str] = Counter()
    for string in json.strings:
        rendering = echoed.get(string.ordinal, {}).get(string.value)
        if rendering is None:
            inspector.check()
            found = inspector.detector.detect(string.value, cache=inspector.tenant, check=inspector.check)
            rendering = incoming.mask(string.value, found, check=inspector.check) if found else string.value
            masked.update(_counted(found, incoming))
        if rendering != string.value:
            edits.append((string.start, string.end, jsontext.encode(rendering)))
    return edits, dict(masked)


def _named(finding: Finding, types: Container[str]) -> bool:
    return any(kind in types for kind in finding.types)


def _counted(found: Sequence[Finding], masker: Masker) -> Counter[str]:
    return Counter(finding.type for finding in found if _named(finding, masker.plan.operators))
