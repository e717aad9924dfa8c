"""Whatever the body: what is sent has the same shape, none of the values, and every other byte unchanged."""

import json
from dataclasses import replace
from unittest.mock import patch

import pytest
from fakes.handing import CREDENTIAL, DETECTOR, EVERYTHING, KEYS, hand_over
from hypothesis import given, settings
from hypothesis import strategies as st

from rankgate import dialects, jsontext
from rankgate.dialects import dialect
from rankgate.errors import GateError, Reason
from rankgate.handoff import from_metadata, to_metadata
from rankgate.masking import Masker, Plan
from rankgate.rewrite import (
    PLAIN_KEYS,
    Inspector,
    detect_request,
    detect_structure,
    findings_of,
    is_plain_number,
    mask_answer,
    mask_error,
    mask_request,
    splice_request,
    unmaskable,
)
from rankgate.settings import ProfileSettings

VALUES = [
    "maren.oldfield@example.org",
    "4111 1111 1111 1111",
    "GB82 WEST 1234 5698 7654 32",
    "192.168.17.4",
    "078-05-1127",
    "AKIAIOSFODNN7EXAMPLE",
]
MASKER = Masker(KEYS, "acme", EVERYTHING)
WORDS = st.text(alphabet="abc xyz é", max_size=12)
TEXTS = st.one_of(WORDS, st.tuples(WORDS, st.sampled_from(VALUES), WORDS).map(" ".join))
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), TEXTS)
EXTRAS = st.recursive(
    LEAVES, lambda children: st.lists(children, max_size=3) | st.dictionaries(WORDS, children, max_size=3), max_leaves=8
)
BODIES = st.fixed_dictionaries(
    {"query": TEXTS.filter(str.strip), "documents": st.lists(TEXTS, min_size=1, max_size=6), "model": st.just("m")},
    optional={"extra": EXTRAS},
)


def sent_for(body, dialect="generic", **handed):
    handoff = hand_over(body, dialect, **handed)
    spoken = dialects.by_name(dialect)
    parsed = jsontext.parse(body)
    request = spoken.read(parsed)
    findings = detect_request(request, DETECTOR, "acme", lambda: None)
    return mask_request(parsed, request, spoken, handoff.kept, findings, MASKER, MASKER, lambda: None), handoff, spoken


def inspector(handoff):
    return Inspector(DETECTOR, "acme", KEYS.lease(), handoff.lease_fingerprint, lambda: None)


def shape(value):
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return "text" if isinstance(value, str) else value


@given(BODIES, st.sampled_from([None, 1]))
@settings(deadline=None)
def test_masking_keeps_the_shape_and_lets_no_value_through(call, indent):
    body = json.dumps(call, indent=indent).encode()
    sent, _, _ = sent_for(body)
    assert shape(json.loads(sent.body)) == shape(call)
    for value in VALUES:
        assert value not in json.dumps(json.loads(sent.body), ensure_ascii=False)


@given(BODIES)
@settings(deadline=None)
def test_without_findings_the_bytes_are_the_same(call):
    body = json.dumps(call).encode()
    if not any(value in body.decode() for value in VALUES):
        assert sent_for(body)[0].body == body


@given(BODIES, st.data())
@settings(deadline=None)
def test_kept_documents_are_exactly_those_sent_and_their_echo_is_recognised(call, data):
    body = json.dumps(call).encode()
    count = len(call["documents"])
    kept = tuple(sorted(data.draw(st.sets(st.integers(0, count - 1), min_size=1))))
    sent, handoff, spoken = sent_for(body, kept=None if len(kept) == count else kept)
    documents = json.loads(sent.body)["documents"]
    assert len(documents) == len(kept)
    results = [{"index": i, "relevance_score": 1.0 - i / 10, "document": {"text": t}} for i, t in enumerate(documents)]
    answer, masked = mask_answer(
        json.dumps({"results": results}).encode(), sent, handoff, spoken, inspector(handoff), MASKER
    )
    shown = {one["index"]: one.get("document") for one in json.loads(answer)["results"]}
    for index, position in enumerate(kept):
        assert shown[position] == {"text": documents[index]}
    assert masked == {}


@given(
    results=st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["0.5", "-7.25", "4111111111111111"])), max_size=5),
    extra=EXTRAS,
    lent=st.booleans(),
)
@settings(deadline=None)
def test_a_plain_list_of_results_is_answered_as_any_other_reading_of_it_would_be(results, extra, lent):
    body = json.dumps({"query": "q", "documents": ["a", "b", "c", "d"], "model": "m"}).encode()
    sent, handoff, spoken = sent_for(body)
    array = ",".join(f'{{"index": {index}, "relevance_score": {score}}}' for index, score in results)
    said = json.dumps({"extra": extra, "key": CREDENTIAL if lent else ""})
    answer = f'{said[:-1]}, "results": [{array}], "id": "{VALUES[0]}"}}'.encode()

    def answered():
        try:
            return mask_answer(answer, sent, handoff, spoken, inspector(handoff), MASKER)
        except GateError as refusal:
            return refusal.reason, refusal.detail

    fast = answered()
    with patch.object(dialect, "read_listing", lambda *_: None):
        assert answered() == fast


def test_an_answer_with_an_index_nobody_sent_is_refused():
    body = json.dumps({"query": "q", "documents": ["a", "b"], "model": "m"}).encode()
    sent, handoff, spoken = sent_for(body, kept=(1,))
    answer = b'{"results":[{"index":1,"relevance_score":0.1}]}'
    with pytest.raises(GateError) as caught:
        mask_answer(answer, sent, handoff, spoken, inspector(handoff), MASKER)
    assert caught.value.reason is Reason.UPSTREAM_INVALID


def is_plain_text(data):
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return False
    return text.encode().lstrip()[:1] not in {b"{", b"[", b'"'}


@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
@settings(deadline=None)
def test_an_error_of_any_bytes_is_shown_masked_or_refused(data):
    handoff = hand_over(json.dumps({"query": "q", "documents": ["a"], "model": "m"}).encode(), "generic")
    error = data + b" maren.oldfield@example.org"
    if is_plain_text(error):
        shown, _, _ = mask_error(error, inspector(handoff), MASKER)
        assert b"maren" not in shown
    else:
        with pytest.raises(GateError) as caught:
            mask_error(error, inspector(handoff), MASKER)
        assert caught.value.reason is Reason.UPSTREAM_INVALID


def test_an_error_that_holds_the_credential_is_refused_however_it_is_written():
    handoff = hand_over(json.dumps({"query": "q", "documents": ["a"], "model": "m"}).encode(), "generic")
    for error in (CREDENTIAL, json.dumps(CREDENTIAL), json.dumps([f"<{CREDENTIAL}>"]).replace("s", "\\u0073")):
        with pytest.raises(GateError):
            mask_error(error.encode(), inspector(handoff), MASKER)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b'{"maren.oldfield@example.org":1}', "key"),
        (b'{"a":{"b":[4111111111111111]}}', "number"),
        (b'{"created":1732512345,"score":0.4111111111111111,"tokens":4096}', ""),
    ],
)
def test_what_cannot_be_masked_in_place_is_named(body, word):
    assert unmaskable(detect_structure(jsontext.parse(body), DETECTOR), EVERYTHING.operators) == word


def test_a_type_nobody_masks_is_no_reason_to_refuse():
    found = list(detect_structure(jsontext.parse(b'{"maren.oldfield@example.org":1}'), DETECTOR))
    assert unmaskable(found, {"EMAIL_ADDRESS"}) == "key"
    assert unmaskable(found, {"US_SSN"}) == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"edits": None},
        {"dialect_revision": 99},
        {"text_count": 99},
        {"edits": ((0, 10, 20, ((0, 999, ("US_SSN",)),)),)},
        {"edits": ((99, 10, 20, ((0, 1, ("US_SSN",)),)),)},
    ],
)
def test_findings_that_do_not_fit_this_reading_are_not_used(changes):
    body = json.dumps({"query": "to maren.oldfield@example.org", "documents": ["a"], "model": "m"}).encode()
    spoken = dialects.by_name("generic")
    request = spoken.read(jsontext.parse(body))
    handoff = hand_over(body, "generic")
    handed = findings_of(handoff, request, spoken)
    detected = detect_request(request, DETECTOR, "acme", lambda: None)
    assert {o: [(f.types, f.start, f.end) for f in found] for o, found in handed.items()} == {
        o: [(f.types, f.start, f.end) for f in found] for o, found in detected.items()
    }
    assert findings_of(replace(handoff, **changes), request, spoken) is None


TYPES = ("EMAIL_ADDRESS", "CREDIT_CARD", "IP_ADDRESS", "PHONE_NUMBER", "API_KEY", "URL_CREDENTIALS", "US_SSN")
MIXED = st.sampled_from(
    [
        "https://h.example/?token=x1y2z3w4&mail=jane.roe@example.org",
        "https://h.example/pay?key=abc123&card=4111111111111111",
        "https://user:pass@10.20.30.40/",
        "078-05-1127",
        "call 030 1234567 or jane.roe@example.org",
    ]
)


@given(st.lists(MIXED, min_size=1, max_size=4), st.sets(st.sampled_from(TYPES), min_size=1))
@settings(deadline=None)
def test_any_plan_masks_through_the_handoff_what_it_masks_by_detection(documents, types):
    """Findings that were merged keep all their types on the way, so that a narrow plan loses none."""
    plan = Plan.of(ProfileSettings.model_validate({"types": sorted(types)}))
    body = json.dumps({"query": documents[0], "documents": documents, "model": "m"}).encode()
    spoken = dialects.by_name("generic")
    parsed = jsontext.parse(body)
    request = spoken.read(parsed)
    handed = findings_of(from_metadata(to_metadata(hand_over(body, "generic"))), request, spoken)
    detected = detect_request(request, DETECTOR, "acme", lambda: None)
    masker = Masker(KEYS, "acme", plan)
    for text in request.texts:
        found = detected.get(text.ordinal, ())
        assert masker.mask(text.value, handed.get(text.ordinal, ())) == masker.mask(text.value, found)
    for kind, value in (
        ("EMAIL_ADDRESS", "jane.roe@example.org"),
        ("CREDIT_CARD", "4111111111111111"),
        ("IP_ADDRESS", "10.20.30.40"),
    ):
        if kind in types:
            sent = mask_request(parsed, request, spoken, None, handed, masker, masker, lambda: None)
            assert value.encode() not in sent.body


@pytest.mark.parametrize(
    "changes", [{"dialect_revision": 99}, {"text_count": 99}, {"document_count": 3}, {"version": 2}]
)
def test_documents_are_never_dropped_by_positions_of_another_reading(changes):
    body = json.dumps({"query": "q", "documents": ["a", "b"], "model": "m"}).encode()
    spoken = dialects.by_name("generic")
    request = spoken.read(jsontext.parse(body))
    with pytest.raises(GateError) as caught:
        findings_of(replace(hand_over(body, "generic", kept=(1,)), **changes), request, spoken)
    assert caught.value.reason is Reason.HANDOFF_MISMATCH


@pytest.mark.parametrize(
    "said",
    [
        {"debug": CREDENTIAL},
        {"debug": f"key={CREDENTIAL}!"},
        {CREDENTIAL: 1},
    ],
)
def test_an_answer_that_holds_the_credential_is_refused_however_it_is_written(said):
    body = json.dumps({"query": "q", "documents": ["a"], "model": "m"}).encode()
    sent, handoff, spoken = sent_for(body)
    plain = json.dumps({"results": [], **said})
    for answer in (plain, plain.replace("-", "\\u002d")):
        with pytest.raises(GateError) as caught:
            mask_answer(answer.encode(), sent, handoff, spoken, inspector(handoff), MASKER)
        assert caught.value.detail == "credential"


@pytest.mark.parametrize("error", [b'{"a":1,"a":2}', b'["\\ud800"]', b'  {"a":', b'"\\x"'])
def test_an_error_that_only_looks_like_json_is_refused(error):
    handoff = hand_over(json.dumps({"query": "q", "documents": ["a"], "model": "m"}).encode(), "generic")
    with pytest.raises(GateError) as caught:
        mask_error(error, inspector(handoff), MASKER)
    assert caught.value.detail == "error json"


def test_work_on_a_request_ends_when_its_time_is_over():
    def over():
        raise GateError(Reason.DEADLINE_EXCEEDED)

    body = json.dumps({"query": "q", "documents": ["a"], "model": "m"}).encode()
    request = dialects.by_name("generic").read(jsontext.parse(body))
    with pytest.raises(GateError) as caught:
        detect_request(request, DETECTOR, "acme", over)
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED


def test_a_query_that_belongs_to_a_dropped_document_leaves_with_it():
    sides = {"text_1": [f"who is {value}" for value in VALUES[:3]], "text_2": [f"it is {v}" for v in VALUES[:3]]}
    sent, handoff, spoken = sent_for(json.dumps(sides).encode(), "vllm.score", kept=(0, 2))
    left = json.loads(sent.body)
    assert (len(left["text_1"]), len(left["text_2"])) == (2, 2)
    for asked, document in zip(left["text_1"], left["text_2"], strict=True):
        assert asked.removeprefix("who is ") == document.removeprefix("it is ")
    assert all(value not in sent.body.decode() for value in VALUES)
    # A query is no echo of its document.
    assert [len(rendering) for rendering in sent.renderings()] == [1, 1]
    answer = json.dumps({"data": [{"index": 0, "score": 0.5}, {"index": 1, "score": 0.25}]}).encode()
    shown, _ = mask_answer(answer, sent, handoff, spoken, inspector(handoff), MASKER)
    assert [(one["index"], one["score"]) for one in json.loads(shown)["data"]] == [(0, 0.5), (1, 0.0), (2, 0.25)]


def test_a_document_of_several_parts_leaves_whole():
    parts = {"content": [{"type": "text", "text": VALUES[0]}, {"type": "text", "text": VALUES[1]}]}
    body = json.dumps({"query": "q", "documents": [parts, parts, "c"]}).encode()
    sent, _, _ = sent_for(body, "vllm.rerank", kept=(1, 2))
    left = json.loads(sent.body)["documents"]
    assert [shape(document) for document in left] == [shape(parts), "text"]
    assert [part["type"] for part in left[0]["content"]] == ["text", "text"]
    assert all(value not in sent.body.decode() for value in VALUES)


@given(BODIES, st.sampled_from([None, 1]), st.booleans())
@settings(deadline=None)
def test_splicing_by_the_edits_handed_over_gives_what_masking_the_whole_body_gives(call, indent, ascii_only):
    call = {**call, "user": "EMAIL_ADDRESS_abcdefghijk23"}
    body = json.dumps(call, indent=indent, ensure_ascii=ascii_only).encode()
    spoken = dialects.by_name("generic")
    handoff = from_metadata(to_metadata(hand_over(body, "generic")))
    spliced = splice_request(body, handoff, spoken, MASKER, MASKER, lambda: None)
    whole, _, _ = sent_for(body)
    assert (spliced.body, spliced.masked, spliced.kept) == (whole.body, whole.masked, whole.kept)
    assert list(spliced.renderings()) == list(whole.renderings())


@pytest.mark.parametrize(
    "changes", [{"edits": None}, {"kept": (0,)}, {"version": 2}, {"dialect_revision": 99}, {"edits": ((0, 1, 5, ()),)}]
)
def test_a_body_is_read_as_a_whole_where_the_edits_are_not_exact(changes):
    body = json.dumps({"query": "q", "documents": ["a"], "model": "m"}).encode()
    handoff = replace(hand_over(body, "generic"), **changes)
    assert splice_request(body, handoff, dialects.by_name("generic"), MASKER, MASKER, lambda: None) is None


@pytest.mark.parametrize("key", sorted(PLAIN_KEYS))
def test_a_key_that_is_not_looked_at_holds_nothing(key):
    assert DETECTOR.detect_key(key) == ()


@given(st.integers(-(10**8), 10**8) | st.floats(-1, 1) | st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_that_is_not_looked_at_holds_nothing(number):
    text = json.dumps(number)
    if is_plain_number(text):
        for key in ("", "ssn", "nhs", "card", "value"):
            assert DETECTOR.detect_number(text, key) == ()
