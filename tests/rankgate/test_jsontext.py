"""rankgate.jsontext: what is refused, what is read, and that editing touches nothing else."""

from __future__ import annotations

import gc
import json
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankgate import jsontext
from rankgate.errors import GateError, Reason
from rankgate.jsontext import JsonText, Pointer

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/json/strictness.json").read_text(encoding="ascii"))
SAYINGS = {case["refused"] for case in VECTORS} - {None} | {"the body has too many values"}


def body_of(case) -> bytes:
    return bytes.fromhex(case["hex"]) if "hex" in case else case["text"].encode()


def named(cases):
    return [pytest.param(case, id=case["name"]) for case in cases]


def of_scenario(number):
    return named(case for case in VECTORS if case.get("scenario") == number)


def refusal(body: bytes, **options) -> str:
    with pytest.raises(GateError) as caught:
        jsontext.parse(body, **options)
    assert caught.value.reason is Reason.BODY_INVALID
    return caught.value.public


# Strictness


@pytest.mark.parametrize("case", of_scenario(39))
def test_scenario_39_other_encodings_and_other_formats_are_refused(case):
    assert refusal(body_of(case)) == case["refused"]


@pytest.mark.parametrize("case", of_scenario(40))
def test_scenario_40_duplicate_members_are_refused(case):
    assert refusal(body_of(case)) == case["refused"]


@pytest.mark.parametrize("case", of_scenario(41))
def test_scenario_41_depth_numbers_and_surrogates_are_refused(case):
    assert refusal(body_of(case)) == case["refused"]


@pytest.mark.parametrize("case", named(c for c in VECTORS if c["refused"] and "scenario" not in c))
def test_what_is_not_json_is_refused(case):
    assert refusal(body_of(case)) == case["refused"]


@pytest.mark.parametrize("case", named(c for c in VECTORS if not c["refused"]))
def test_what_is_json_is_read_as_the_standard_library_reads_it(case):
    assert jsontext.parse(body_of(case)).value == json.loads(body_of(case))


HOSTILE = {
    "arrays 99k deep": (b"[" * 99_000, "the body is nested too deeply"),
    "closed arrays 99k deep": (b"[" * 99_000 + b"]" * 99_000, "the body is nested too deeply"),
    "objects 100k deep": (b'{"a":' * 100_000, "the body has too many values"),
    "100k keys": (json.dumps({f"k{i}": i for i in range(100_000)}).encode(), "the body has too many values"),
    "an integer of 10k digits": (b"9" * 10_000, "the body has a number that is too long"),
    "an integer of 2M digits": (b"[" + b"9" * 2_000_000 + b"]", "the body has a number that is too long"),
    "a million numbers": (b"[" + b"0," * 1_000_000 + b"0]", "the body has too many values"),
    "an open string of escaped quotes": (
        b"[" + b"0," * 210_000 + b'"' + b'\\"' * 700_000,
        "the body has too many values",
    ),
    "an open string of backslashes": (b'["' + b"\\" * 2_000_001, "the body is not valid JSON"),
}


@pytest.mark.parametrize(("body", "says"), HOSTILE.values(), ids=HOSTILE.keys())
def test_scenario_41_hostile_bodies_are_refused_at_once(body, says):
    def took() -> float:
        begin = time.perf_counter()
        assert refusal(body) == says
        return time.perf_counter() - begin

    # Several times what it takes: what is told apart is linear work from work that explodes. bench/ has the figures.
    assert min(took() for _ in range(3)) < 0.5


def test_very_many_empty_strings_are_refused_before_any_is_read():
    body = b"[" + b'"",' * 600_000 + b'""]'

    def took() -> float:
        begin = time.thread_time()
        assert refusal(body) == "the body has too many values"
        return time.thread_time() - begin

    assert min(took() for _ in range(5)) < 0.2


def test_a_thousand_documents_of_thirty_members_are_read():
    documents = [{f"member{number}": "a value, of a kind" for number in range(30)} for _ in range(1000)]
    assert len(jsontext.parse(json.dumps({"documents": documents}).encode()).strings) == 30_000


def test_as_many_values_as_allowed_are_read_and_one_more_is_refused():
    def body(values: int) -> bytes:
        return b"[" + b"0," * (values - 1) + b"0]"

    assert len(jsontext.parse(body(jsontext.MAX_NODES - 1)).numbers) == jsontext.MAX_NODES - 1
    assert refusal(body(jsontext.MAX_NODES)) == "the body has too many values"


def test_separators_inside_strings_are_not_values():
    text = ",:[{" * jsontext.MAX_NODES + '\\"'
    assert jsontext.parse(json.dumps([text]).encode()).value == [text]


def test_the_depth_is_a_setting():
    assert jsontext.parse(b"[[1]]", max_depth=2).value == [[1]]
    assert refusal(b"[[1]]", max_depth=1) == "the body is nested too deeply"
    assert jsontext.parse(b"1", max_depth=0).value == 1


def test_a_refusal_says_nothing_of_the_content():
    for case in VECTORS:
        if case["refused"]:
            with pytest.raises(GateError) as caught:
                jsontext.parse(body_of(case))
            assert caught.value.public in SAYINGS
            assert caught.value.detail in SAYINGS
            assert str(caught.value) in SAYINGS
            assert caught.value.__suppress_context__


def test_a_body_does_not_show_in_its_representation():
    assert "secret" not in repr(jsontext.parse(b'{"secret":["secret",1]}'))


# Properties

# A shared machine pauses; only the tests that measure time judge it.
unhurried = settings(deadline=None)

# Quotes, backslashes and structure weigh more than they do in plain text.
texts = st.text(st.one_of(st.sampled_from('"\\/,:[]{}u0d8\n\u2028é😀'), st.characters(codec="utf-8")), max_size=12)
numbers = st.integers(-(10**62), 10**62) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    scalars,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(texts, children, max_size=4),
    max_leaves=20,
)


@st.composite
def bodies(draw, of=values) -> bytes:
    return json.dumps(
        draw(of), ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from((None, 1, "\t"))),
        separators=draw(st.sampled_from((None, (",", ":"), (" , ", "\r\n:\t")))),
    ).encode()  # fmt: skip


def leaves(value, pointer: Pointer = ()):
    """Yield (pointer, value) of everything, parents first, in document order."""
    yield pointer, value
    if isinstance(value, list):
        for position, child in enumerate(value):
            yield from leaves(child, (*pointer, position))
    elif isinstance(value, dict):
        for key, child in value.items():
            yield from leaves(child, (*pointer, key))


@unhurried
@given(bodies())
def test_every_string_key_and_number_is_found_where_it_stands(body):
    text = jsontext.parse(body)
    expected = json.loads(body)
    assert text.value == expected
    assert text.body == body
    everything = list(leaves(expected))
    assert [(s.pointer, s.value) for s in text.strings] == [(p, v) for p, v in everything if isinstance(v, str)]
    assert [s.ordinal for s in text.strings] == list(range(len(text.strings)))
    assert [json.loads(body[s.start : s.end]) for s in text.strings] == [s.value for s in text.strings]
    wanted = [(p, v) for p, v in everything if type(v) in (int, float)]
    assert [(n.pointer, json.loads(n.text)) for n in text.numbers] == wanted
    assert [body[n.start : n.end].decode() for n in text.numbers] == [n.text for n in text.numbers]
    assert list(text.keys) == [p[-1] for p, _ in everything if p and isinstance(p[-1], str)]


@unhurried
@given(bodies())
def test_every_value_can_be_located(body):
    text = jsontext.parse(body)
    for pointer, value in leaves(text.value):
        start, end = jsontext.locate(text, pointer)
        assert json.loads(body[start:end]) == value
        assert body[start:end] == body[start:end].strip()


@unhurried
@given(bodies())
def test_edits_that_change_nothing_return_the_same_bytes(body):
    text = jsontext.parse(body)
    edits = [(s.start, s.end, body[s.start : s.end]) for s in (*text.strings, *text.numbers)]
    assert jsontext.splice(body, edits) == body
    assert jsontext.splice(body, []) == body


@unhurried
@given(bodies(), texts, st.randoms())
def test_replaced_strings_are_replaced_and_all_else_stays(body, replacement, random):
    text = jsontext.parse(body)
    edits = [(s.start, s.end, jsontext.encode(replacement)) for s in text.strings]
    random.shuffle(edits)
    edited = jsontext.parse(jsontext.splice(body, edits))
    assert [s.value for s in edited.strings] == [replacement] * len(text.strings)
    assert [s.pointer for s in edited.strings] == [s.pointer for s in text.strings]
    assert (edited.keys, [n.text for n in edited.numbers]) == (text.keys, [n.text for n in text.numbers])


@unhurried
@given(texts)
def test_an_encoded_text_is_one_json_string(text):
    literal = jsontext.encode(text)
    assert jsontext.parse(literal).value == text
    assert "\u2028" not in literal.decode()
    assert "\u2029" not in literal.decode()


fragments = st.sampled_from(rb'" \ [ ] { } , : 1 - . e null a \ud800'.split())
almost_json = st.lists(fragments | st.binary(max_size=2) | bodies(scalars)).map(b"".join)


def outcome(body: bytes) -> JsonText | GateError:
    try:
        return jsontext.parse(body)
    except GateError as error:
        return error


@unhurried
@given(almost_json)
def test_whatever_the_bytes_they_are_read_exactly_or_refused(body):
    text = outcome(body)
    if isinstance(text, GateError):
        assert text.reason is Reason.BODY_INVALID
        assert text.public in SAYINGS
    else:
        assert text.value == json.loads(body)
        assert [json.loads(body[s.start : s.end]) for s in text.strings] == [s.value for s in text.strings]


# Places and edits


def test_elements_and_members_are_spans_without_the_white_space_around():
    body = b' { "a,\\"" : [ 1 , "x]" ,{} ] , "b":{"c":[]} } '
    members = jsontext.members(body, 1)
    assert {key: body[slice(*span)] for key, span in members.items()} == {
        'a,"': b'[ 1 , "x]" ,{} ]',
        "b": b'{"c":[]}',
    }
    assert [body[slice(*s)] for s in jsontext.elements(body, members['a,"'].start)] == [b"1", b'"x]"', b"{}"]
    assert jsontext.elements(b"[ ]", 0) == ()
    assert jsontext.members(b"{ }", 0) == {}


@pytest.mark.parametrize("body", [b"", b"1", b'"[1]"', b"[1", b"{", b'{"a":1', b"{1:2}"])
def test_what_is_no_container_has_no_children(body):
    for children in (jsontext.elements, jsontext.members):
        with pytest.raises(ValueError):
            children(body, 0)


@pytest.mark.parametrize("pointer", [("b",), ("a", 1)])
def test_a_pointer_to_nothing_is_a_lookup_error(pointer):
    with pytest.raises(LookupError):
        jsontext.locate(jsontext.parse(b'{"a":[0]}'), pointer)


@pytest.mark.parametrize("edits", [[(0, 2, b""), (1, 3, b"")], [(2, 1, b"")], [(-1, 1, b"")], [(3, 5, b"")]])
def test_edits_that_overlap_or_leave_the_body_are_refused(edits):
    with pytest.raises(ValueError):
        jsontext.splice(b"abcd", edits)


def test_insertions_at_one_place_keep_their_order():
    assert jsontext.splice(b"ad", [(1, 1, b"b"), (1, 1, b"c"), (0, 1, b"A")]) == b"Abcd"


def test_only_what_must_be_escaped_is_escaped():
    assert jsontext.encode('é😀/\x7f"\\\n\x00\u2028\u2029') == '"é😀/\x7f\\"\\\\\\n\\u0000\\u2028\\u2029"'.encode()


def test_half_of_a_surrogate_pair_cannot_be_encoded():
    with pytest.raises(ValueError, match="surrogate"):
        jsontext.encode("\ud800")


@pytest.mark.parametrize(
    "documents",
    [
        ["d" * 180] * 20,
        [f"{number} " * 400 for number in range(200)],
        [{"text": "x" * 900, "a": 1, "b": "c", "id": str(number)} for number in range(100)],
        ["a"] * 20_000,
        [1.5] * 20_000,
        [["a"]] * 10_000,
        [{"a": {"b": {"c": {}}}}] * 5_000,
        ["\u00e9" * 900] * 100,
        ["\U0001f600" * 900] * 100,
    ],
    ids=["few", "long", "objects", "small strings", "numbers", "lists", "nested", "accents", "wide"],
)
def test_the_memory_that_a_body_takes_is_not_underestimated(documents):
    body = json.dumps({"query": "q", "documents": documents}, ensure_ascii=False).encode()
    gc.collect()
    tracemalloc.start()
    held = jsontext.parse(body)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken <= held.held_bytes
