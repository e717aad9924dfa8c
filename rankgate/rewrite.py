"""What becomes of a body: masked at the spans handed over, documents dropped, answers mapped back.

Pure: bytes and values in, bytes out. An unchanged body keeps its bytes; a changed one is spliced.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rankgate import jsontext
from rankgate.credentials import contains, length
from rankgate.detect import Detector, Finding
from rankgate.dialects import Dialect, Listing
from rankgate.errors import GateError, Reason
from rankgate.handoff import VERSION, Handoff, Span
from rankgate.handoff import Edit as HandedEdit
from rankgate.jsontext import Edit, JsonText
from rankgate.masking import Masker, may_escape
from rankgate.request import RerankRequest, Role

__all__ = [
    "Inspector",
    "Sent",
    "detect_effort",
    "detect_request",
    "detect_structure",
    "edits_of",
    "findings_of",
    "is_plain_number",
    "mask_answer",
    "mask_effort",
    "mask_error",
    "mask_request",
    "splice_request",
    "unmaskable",
]

# An error longer than this is not worth reading; it is replaced.
MAX_ERROR_BYTES = 65_536
MIN_NUMBER = 8
# Members of rerank APIs, known to hold nothing sensitive; every call has them.
PLAIN_KEYS = frozenset({
    "api_version", "billed_units", "data", "document", "documents", "id", "index", "input", "instruction",
    "is_experimental", "logit", "max_tokens_per_doc", "meta", "model", "object", "passages", "priority",
    "prompt_tokens", "query", "rankings", "raw_scores", "relevance_score", "results", "return_documents",
    "return_text", "score", "search_units", "text", "texts", "tokens", "top_k", "top_n", "total_tokens",
    "truncate", "truncation", "usage", "version", "warnings",
})  # fmt: skip


Findings = Mapping[int, Sequence[Finding]]


Renderings = Sequence[Mapping[str, str]]
"""For each document that was sent, by its place: its texts as sent -> how they are shown to the caller."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What the reranker received. `renderings` is called only where an answer echoes documents."""

    body: bytes
    kept: tuple[int, ...]
    masked: Mapping[str, int]
    renderings: Callable[[], Renderings]


@dataclass(frozen=True, slots=True)
class Inspector:
    """What answers are inspected with: the detector, and the fingerprint of the credential that was lent."""

    detector: Detector
    tenant: str
    lease_key: bytes
    lease: str
    check: Callable[[], None]

    def refuse_credential(self, json: JsonText | None, body: bytes, numbers: Sequence[str] = ()) -> None:
        """Raise GateError(UPSTREAM_INVALID) where `body`, as written or as it reads, holds the lent credential.

        `numbers` were in it as well.
        """
        if not self.lease:
            return
        least = length(self.lease)
        said = b"\0".join((body, *(text.encode() for text in numbers if len(text) >= least)))
        if json is not None and b"\\" in body:
            said += b"\0" + "\0".join((*(string.value for string in json.strings), *json.keys)).encode()
        if contains(self.lease_key, self.lease, said, self.check):
            raise GateError(Reason.UPSTREAM_INVALID, "credential")


def detect_request(
    request: RerankRequest, detector: Detector, tenant: str, check: Callable[[], None]
) -> dict[int, tuple[Finding, ...]]:
    """Return the findings of every text, by ordinal. The only detection of a request.

    `check` is called again and again on the way, and raises where there is no time left.
    """
    check()
    found = detector.detect_all([text.value for text in request.texts], cache=tenant, check=check)
    return {text.ordinal: one for text, one in zip(request.texts, found, strict=True) if one}


def detect_effort(json: JsonText, request: RerankRequest, detector: Detector, tenant: str) -> int:
    """Return the effort of detection: each character it does not remember, names and numbers."""
    unknown = detector.unknown_chars([text.value for text in request.texts], cache=tenant)
    return unknown + 16 * (len(json.keys) + len(json.numbers))


def detect_structure(json: JsonText, detector: Detector) -> Iterator[tuple[str, Finding]]:
    """Yield what keys and numbers hold, each with the word `key` or `number`.

    Neither can be masked without changing what the body means.
    """
    for key in set(json.keys) - PLAIN_KEYS:
        yield from (("key", finding) for finding in detector.detect_key(key))
    for number in json.numbers:
        if not is_plain_number(number.text):
            name = next((part for part in reversed(number.pointer) if isinstance(part, str)), "")
            yield from (("number", finding) for finding in detector.detect_number(number.text, name))


def unmaskable(found: Iterable[tuple[str, Finding]], types: Container[str]) -> str:
    """Return the word of the first of `found` that holds data of `types`, empty for none: the caller refuses."""
    return next((word for word, finding in found if _named(finding, types)), "")


def mask_effort(request: RerankRequest, findings: Findings) -> int:
    """Return the effort of masking a request: each finding, and each text that may hold a look-alike."""
    escaping = sum([len(text.value) for text in request.texts if may_escape(text.value)])
    return escaping + 16 * sum(len(found) for found in findings.values())


def edits_of(
    request: RerankRequest, findings: Findings, outgoing: Masker, check: Callable[[], None]
) -> tuple[HandedEdit, ...]:
    """Return what is handed over of `findings`: every text that `outgoing` may change, and where its literal is."""
    return tuple(
        (text.ordinal, text.start, text.end, tuple((one.start, one.end, one.types) for one in found))
        for text in request.texts
        if (found := findings.get(text.ordinal, ())) or outgoing.escapes(text.value, check=check)
    )


def is_plain_number(text: str) -> bool:
    """Tell whether a number can be nothing that detection knows: too few digits, or below one, as scores are."""
    return len(text) < MIN_NUMBER or (text.startswith(("0.", "-0.")) and "e" not in text.lower())


def findings_of(handoff: Handoff, request: RerankRequest, dialect: Dialect) -> dict[int, tuple[Finding, ...]] | None:
    """Return the findings handed over, or None where they do not fit this reading of the body: detect again.

    Raises GateError(HANDOFF_MISMATCH) where documents are to be dropped by positions of another reading: there is no
    safe way to do that again.
    """
    same = (
        _same_rules(handoff, dialect)
        and handoff.text_count == len(request.texts)
        and handoff.document_count == request.document_count
    )
    if not same and handoff.kept is not None:
        raise GateError(Reason.HANDOFF_MISMATCH, "another reading")
    if not same or handoff.edits is None:
        return None
    texts = {text.ordinal: text for text in request.texts}
    findings: dict[int, tuple[Finding, ...]] = {}
    for ordinal, _, _, spans in handoff.edits:
        if ordinal not in texts or any(end > len(texts[ordinal].value) for _, end, _ in spans):
            return None
        findings[ordinal] = _findings(spans)
    return findings


def splice_request(
    body: bytes, handoff: Handoff, dialect: Dialect, outgoing: Masker, incoming: Masker, check: Callable[[], None]
) -> Sent | None:
    """Return what the reranker receives, made by the edits handed over, without reading the body as a whole.

    Exact only for the very bytes that were authorised, read by the same rules, with every document kept; None where
    that is not so.
    """
    if handoff.edits is None or handoff.kept is not None or not _same_rules(handoff, dialect):
        return None
    edits: list[Edit] = []
    masked: list[Finding] = []
    for _, start, end, spans in handoff.edits:
        try:
            text = jsontext.decode(body[start:end])
        except ValueError:
            return None
        found = _findings(spans)
        value = outgoing.mask(text, found, check=check)
        if value != text:
            edits.append((start, end, jsontext.encode(value)))
            masked += found

    def renderings() -> Renderings:
        json = jsontext.parse(body)
        request = dialect.read(json)
        findings = findings_of(handoff, request, dialect)
        if findings is None:
            raise GateError(Reason.HANDOFF_MISMATCH, "another reading")
        return mask_request(json, request, dialect, None, findings, outgoing, incoming, check).renderings()

    sent = jsontext.splice(body, edits) if edits else body
    return Sent(sent, tuple(range(handoff.document_count)), _counted(masked, outgoing), renderings)


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
    masked: list[Finding] = []
    edits: list[Edit] = dialect.drop(json, request, kept) if len(kept) < request.document_count else []
    for text in request.texts:
        if text.position is not None and text.position not in place:
            continue
        found = findings.get(text.ordinal, ())
        value = outgoing.mask(text.value, found, check=check)
        if value != text.value:
            edits.append((text.start, text.end, jsontext.encode(value)))
            masked += found
        if text.role is Role.DOCUMENT and text.position is not None:
            rendering = value if incoming.plan == outgoing.plan else incoming.mask(text.value, found, check=check)
            renderings[place[text.position]][value] = rendering
    body = jsontext.splice(json.body, edits) if edits else json.body
    return Sent(body, kept, _counted(masked, outgoing), lambda: renderings)


def mask_answer(
    body: bytes, sent: Sent, handoff: Handoff, dialect: Dialect, inspector: Inspector, incoming: Masker
) -> tuple[bytes, dict[str, int]]:
    """Return a 2xx answer as the caller may see it, and what detection masked in it by type.

    An echo equal to what was sent for that document gets its planned rendering; every other text is detected.
    Raises GateError(UPSTREAM_INVALID) for what is no answer of this API, or quotes the lent credential.
    """
    if len(sent.kept) == handoff.document_count and (listing := dialect.listing(body)) is not None:
        return _mask_listing(body, listing, sent, inspector, incoming)
    try:
        json = jsontext.parse(body)
    except GateError:
        raise GateError(Reason.UPSTREAM_INVALID, "json") from None
    inspector.refuse_credential(json, body)
    results = dialect.results(json)
    if any(not 0 <= result.index < len(sent.kept) for result in results):
        raise GateError(Reason.UPSTREAM_INVALID, "index")
    renderings = sent.renderings() if any(result.echo for result in results) else ()
    echoed = {ordinal: renderings[result.index] for result in results for ordinal in result.echo}
    edits, masked = _mask_leaves(json, echoed, inspector, incoming)
    if len(sent.kept) < handoff.document_count:
        edits += dialect.restore(json, results, sent.kept, handoff.document_count, handoff.drop_mode, handoff.top_n)
    return (jsontext.splice(body, edits) if edits else body), masked


def _mask_listing(
    body: bytes, listing: Listing, sent: Sent, inspector: Inspector, incoming: Masker
) -> tuple[bytes, dict[str, int]]:
    """Do what `mask_answer` does, for an answer without echoes whose indices stay as they are."""
    # Between the numbers stand two names that are ours.
    inspector.refuse_credential(listing.frame, listing.frame.body, listing.scores)
    if any(index >= len(sent.kept) for index in listing.indices):
        raise GateError(Reason.UPSTREAM_INVALID, "index")
    for score in listing.scores:
        if not is_plain_number(score):
            found = inspector.detector.detect_number(score, listing.score_name)
            if any(_named(finding, incoming.plan.operators) for finding in found):
                raise GateError(Reason.UPSTREAM_INVALID, "number")
    edits, masked = _mask_leaves(listing.frame, {}, inspector, incoming)
    return (jsontext.splice(body, listing.edits(edits)) if edits else body), masked


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
    return incoming.mask(text, found, check=inspector.check).encode(), False, _counted(found, incoming)


def _mask_leaves(
    json: JsonText, echoed: Mapping[int, Mapping[str, str]], inspector: Inspector, incoming: Masker
) -> tuple[list[Edit], dict[str, int]]:
    if word := unmaskable(detect_structure(json, inspector.detector), incoming.plan.operators):
        raise GateError(Reason.UPSTREAM_INVALID, word)
    edits: list[Edit] = []
    masked: list[Finding] = []
    for string in json.strings:
        rendering = echoed.get(string.ordinal, {}).get(string.value)
        if rendering is None:
            inspector.check()
            found = inspector.detector.detect(string.value, cache=inspector.tenant, check=inspector.check)
            rendering = incoming.mask(string.value, found, check=inspector.check) if found else string.value
            masked += found
        if rendering != string.value:
            edits.append((string.start, string.end, jsontext.encode(rendering)))
    return edits, _counted(masked, incoming)


def _same_rules(handoff: Handoff, dialect: Dialect) -> bool:
    return handoff.version == VERSION and handoff.dialect_revision == dialect.revision


def _findings(spans: Sequence[Span]) -> tuple[Finding, ...]:
    return tuple(Finding(types[0], start, end, 1.0, tuple(types[1:])) for start, end, types in spans)


def _named(finding: Finding, types: Container[str]) -> bool:
    return any(kind in types for kind in finding.types)


def _counted(found: Sequence[Finding], masker: Masker) -> dict[str, int]:
    return dict(Counter(finding.type for finding in found if _named(finding, masker.plan.operators)))
