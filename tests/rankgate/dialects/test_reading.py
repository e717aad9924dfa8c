"""rankgate.dialects.reading: what is no request, what is left alone, and what a drop leaves."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from speaking import call, shape, with_top_n, written

from rankgate import dialects, jsontext
from rankgate.dialects.forms import OBJECT, PARTS
from rankgate.errors import GateError, Reason
from rankgate.request import Role

CANARY = "canary-7731"
EVERY = pytest.mark.parametrize("name", dialects.NAMES)
WITH_TOP_N = pytest.mark.parametrize("name", with_top_n)


def member(name: str) -> str:
    return shape(name).documents


def asked(name: str) -> str:
    return shape(name).query


def kinds(forms, which: str) -> str:
    return " or ".join(getattr(form, which) for form in forms)


def read(name: str, body):
    return dialects.by_name(name).read(jsontext.parse(json.dumps(body).encode()))


def request(name: str, documents=("a", "b"), **more):
    return call(name, documents, **more)


def refusal(name: str, body) -> str:
    with pytest.raises(GateError) as caught:
        read(name, body)
    assert caught.value.reason is Reason.BODY_INVALID
    assert CANARY not in caught.value.public + caught.value.detail
    return caught.value.public


@EVERY
@pytest.mark.parametrize("body", [[], [CANARY], CANARY, 1, None, True])
def test_a_body_that_is_no_object_is_refused(name, body):
    assert refusal(name, body) == "the body must be a JSON object"


@EVERY
@pytest.mark.parametrize("documents", [None, [], {}, {CANARY: CANARY}, CANARY, 3, False])
def test_documents_must_be_a_non_empty_array(name, documents):
    if documents == CANARY and shape(name).single:
        return
    body = request(name, query=CANARY) | {member(name): documents}
    assert refusal(name, body) == f"field '{member(name)}' must be a non-empty array"


@EVERY
def test_absent_documents_are_refused(name):
    body = request(name, query=CANARY)
    del body[member(name)]
    assert refusal(name, body) == f"field '{member(name)}' must be a non-empty array"


@EVERY
@pytest.mark.parametrize("document", [None, 1, True, [CANARY]])
def test_a_document_of_another_kind_is_refused(name, document):
    expected = kinds(shape(name).document_forms, "many")
    assert refusal(name, request(name, ["a", document])) == f"field '{member(name)}' must be an array of {expected}"


@pytest.mark.parametrize("name", ["tei", "voyage"])
def test_an_api_of_strings_takes_no_objects(name):
    says = f"field '{member(name)}' must be an array of strings"
    assert refusal(name, request(name, [{"text": CANARY}])) == says


@EVERY
@pytest.mark.parametrize("query", [None, "", {"text": ""}, {"words": CANARY}, 1, True, [1.5], ["", CANARY], []])
def test_the_query_must_be_a_text_that_is_not_empty(name, query):
    says = refusal(name, request(name, query=written("", shape(name).query_forms[0])) | {asked(name): query})
    expected = kinds(shape(name).query_forms, "one")
    assert says.removeprefix(f"field '{asked(name)}' must be ").startswith((expected, "text: images"))


@EVERY
def test_several_queries_are_for_apis_that_pair_them_alone(name):
    if shape(name).paired:
        assert read(name, request(name, query=["x", "y"])).query == "x\ny"
    else:
        expected = kinds(shape(name).query_forms, "one")
        assert refusal(name, request(name, query=[CANARY])) == f"field '{asked(name)}' must be {expected}"


@EVERY
def test_an_empty_document_is_a_document(name):
    assert read(name, request(name, ["", "b"])).document_count == 2


@WITH_TOP_N
@pytest.mark.parametrize("top_n", [-1, True, False, 1.0, 2.5, "2", [2], {}])
def test_top_n_must_be_an_integer(name, top_n):
    field, least = shape(name).top_n, shape(name).least_top_n
    expected = f"field '{field}' must be an integer of at least {least}"
    assert refusal(name, request(name, **{field: top_n})) == expected


@WITH_TOP_N
def test_top_n_null_is_none(name):
    assert read(name, request(name, **{shape(name).top_n: None})).top_n is None


@WITH_TOP_N
def test_top_n_0_means_all_or_is_refused(name):
    body = request(name, **{shape(name).top_n: 0})
    if name in {"generic", "vllm.rerank"}:
        assert read(name, body).top_n is None
    else:
        assert refusal(name, body) == f"field '{shape(name).top_n}' must be an integer of at least 1"


def test_tei_has_no_top_n_and_no_model():
    got = read("tei", request("tei", top_n=CANARY, model=CANARY))
    assert (got.top_n, got.model) == (None, None)


@pytest.mark.parametrize("name", [name for name in dialects.NAMES if shape(name).return_documents])
@pytest.mark.parametrize("flag", ["true", 1, 0, [], {}])
def test_the_echo_flag_must_be_a_boolean(name, flag):
    field = shape(name).return_documents
    assert refusal(name, request(name) | {field: flag}) == f"field '{field}' must be a boolean"
    for value in (True, False):
        assert read(name, request(name) | {field: value}).return_documents is value


@EVERY
def test_without_the_echo_flag_an_api_does_what_it_does(name):
    expected = name in {"jina", "vllm.rerank"}
    assert read(name, request(name)).return_documents is expected
    assert read(name, request(name) | {shape(name).return_documents or "x": None}).return_documents is expected


@pytest.mark.parametrize("name", [name for name in dialects.NAMES if shape(name).model])
@pytest.mark.parametrize("model", [1, True, [CANARY], {}])
def test_the_model_must_be_a_string(name, model):
    assert refusal(name, request(name, model=model)) == "field 'model' must be a string"


@EVERY
@pytest.mark.parametrize("instruction", [1, [CANARY], {"a": CANARY}])
def test_an_instruction_must_be_a_string(name, instruction):
    assert refusal(name, request(name, instruct=instruction)) == "field 'instruct' must be a string"


@EVERY
def test_two_instructions_are_refused(name):
    body = request(name, instruction=CANARY, instruct=CANARY)
    assert refusal(name, body) == "field 'instruction' must be absent where 'instruct' is given"
    assert read(name, request(name, instruction="i", instruct=None)).instruction == "i"


@EVERY
@pytest.mark.parametrize(
    "rival",
    ["texts", "documents", "input", "inputs", "passages", "records", "items", "data", "data_1", "data_2", "text_1",
     "text_2", "query", "queries", "sources"],
)  # fmt: skip
def test_texts_of_another_api_beside_its_own_are_refused_in_any_spelling(name, rival):
    if rival in {member(name), asked(name)}:
        return
    says = f"field '{rival}' must be absent where '{member(name)}' is given"
    for key in (rival, rival.upper(), rival.title(), rival.replace("s", "\u017f")):
        assert refusal(name, request(name) | {key: [CANARY]}) == says
        assert refusal(name, request(name) | {key: None}) == says


@EVERY
def test_texts_of_another_api_inside_a_member_are_tolerated(name):
    got = read(name, request(name) | {"meta": {"input": ["x"], "passages": "y"}})
    assert [text.value for text in got.texts if text.role is Role.OTHER] == ["x", "y"]


@EVERY
def test_a_known_field_in_another_spelling_is_refused(name):
    field = asked(name)
    for key in (field.title(), field.upper()):
        assert refusal(name, request(name) | {key: CANARY}) == f"field '{field}' must be written in lower case"
    says = "field 'instruct' must be written in lower case"
    assert refusal(name, request(name) | {"In\u017ftruct": CANARY}) == says


@EVERY
def test_unknown_members_are_tolerated_and_their_texts_listed(name):
    got = read(name, request(name) | {"user": "u", "meta": {"deep": ["x", {"y": "z"}]}, "priority": 1})
    assert [text.value for text in got.texts if text.role is Role.OTHER] == ["u", "x", "z"]


@pytest.mark.parametrize("name", ["cohere.v1", "cohere.v2", "generic"])
def test_ids_and_labels_are_taken_from_object_documents_where_they_have_the_right_type(name):
    documents = [
        {"id": "d0", "labels": ["a", "b"]}, {"id": 7, "labels": "c"}, "text",
        {"id": None, "labels": {"a": 1}}, {"labels": ["a", 1, None, "b"]}, {"meta": {"id": "inner"}},
    ]  # fmt: skip
    got = read(name, request(name, documents))
    assert got.ids == ("d0", None, None, None, None, None)
    assert got.labels == (("a", "b"), ("c",), (), (), ("a", "b"), ())


@EVERY
def test_its_own_texts_in_another_spelling_are_refused(name):
    own = member(name)
    for key in (own.upper(), own.replace("s", "\u017f")):
        assert refusal(name, request(name) | {key: [CANARY]}) == f"field '{own}' must be written in lower case"


WITH_OBJECTS = pytest.mark.parametrize("name", ["cohere.v1", "cohere.v2", "generic"])


@WITH_OBJECTS
@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"labels": ["l"] * 33}, "a document has at most 32 labels"),
        ({"labels": [None] * 33}, "a document has at most 32 labels"),
        ({"labels": ["a", "b" * 65]}, "a label of a document has at most 64 characters"),
        ({"labels": "b" * 65}, "a label of a document has at most 64 characters"),
        ({"id": "i" * 257}, "an id of a document has at most 256 characters"),
    ],
    ids=["labels", "no labels", "long label", "long single label", "long id"],
)
def test_what_a_document_claims_about_itself_is_bounded(name, document, says):
    assert refusal(name, request(name, ["x", document])) == says


@WITH_OBJECTS
def test_claims_at_their_bounds_are_read(name):
    got = read(name, request(name, [{"id": "i" * 256, "labels": ["b" * 64] * 32}] * 128))
    assert got.ids == ("i" * 256,) * 128
    assert got.labels == (("b" * 64,) * 32,) * 128
    says = "all documents together have at most 4096 labels"
    assert refusal(name, request(name, [{"labels": ["l"] * 32}] * 128 + [{"labels": "l"}])) == says


@EVERY
def test_without_ids_and_labels_there_are_none(name):
    got = read(name, request(name))
    assert (got.ids, got.labels) == ((), ())


unhurried = settings(deadline=None)
names = st.sampled_from(dialects.NAMES)
texts = st.text('ab"\\[]{},: é\n', max_size=8)
objects = st.dictionaries(
    texts,
    st.recursive(texts | st.integers() | st.none(), lambda inner: st.lists(inner, max_size=3), max_leaves=4),
    max_size=3,
)


def values(forms, of=texts):
    """Texts in any of `forms`, and objects of any kind where those pass."""
    in_forms = [st.tuples(of, st.just(form)).map(lambda pair: written(*pair)) for form in forms if form is not OBJECT]
    return st.one_of(*in_forms, *([objects] if OBJECT in forms else []))


@st.composite
def requests(draw):
    """A dialect, one of its shapes, a request of it as a value, and the same as bytes in some layout."""
    dialect = dialects.by_name(draw(names))
    of = draw(st.sampled_from(dialect.requests))
    documents = draw(st.lists(values(of.document_forms), min_size=1, max_size=7))
    queries = values(of.query_forms, texts.filter(bool))
    query = draw(queries)
    if of.paired and draw(st.booleans()):
        query = draw(st.lists(queries, min_size=len(documents), max_size=len(documents)))
    if of.single and len(documents) == 1 and draw(st.booleans()):
        documents = documents[0]
    body = {of.query: query, of.documents: documents, "user": draw(texts)}
    top_n = draw(st.none() | st.integers(1, 9))
    if of.top_n and top_n is not None:
        body[of.top_n] = top_n
    items = draw(st.permutations(list(body.items())))
    layout = {"indent": draw(st.sampled_from((None, 2))), "ensure_ascii": draw(st.booleans())}
    separators = draw(st.sampled_from(((",", ":"), (" , ", " : "))))
    return dialect, of, dict(items), json.dumps(dict(items), separators=separators, **layout).encode()


def listed(value) -> list:
    return value if isinstance(value, list) else [value]


@unhurried
@given(requests(), st.data())
def test_a_drop_leaves_what_python_would_leave(made, data):
    dialect, of, body, raw = made
    documents, queries = listed(body[of.documents]), listed(body[of.query])
    count = len(documents)
    keep = data.draw(st.lists(st.integers(0, count - 1), min_size=1, unique=True))
    json_text = jsontext.parse(raw)
    left = jsontext.splice(raw, dialect.drop(json_text, dialect.read(json_text), keep))
    expected = dict(body)
    if len(keep) < count:
        expected[of.documents] = [documents[position] for position in sorted(keep)]
        if len(queries) > 1:
            expected[of.query] = [queries[position] for position in sorted(keep)]
        if of.top_n in body:
            expected[of.top_n] = min(body[of.top_n], len(keep))
    assert json.loads(left) == expected
    assert list(json.loads(left)) == list(expected)
    assert jsontext.parse(left).value == expected
    if len(keep) == count:
        assert left == raw


@unhurried
@given(requests())
def test_what_is_left_is_a_call_of_the_same_api(made):
    dialect, _of, _body, raw = made
    json_text = jsontext.parse(raw)
    got = dialect.read(json_text)
    last = got.document_count - 1
    left = dialect.read(jsontext.parse(jsontext.splice(raw, dialect.drop(json_text, got, [last]))))
    assert left.document_count == 1
    assert [text.value for text in left.of_document(0)] == [text.value for text in got.of_document(last)]
    queries = [text.value for text in got.texts if text.role is Role.QUERY and text.position in {None, last}]
    assert left.query == "\n".join(queries)


def strings_of(value, forms) -> list[str]:
    """The strings of a query or document that are its texts."""
    inner = jsontext.parse(json.dumps(value).encode())
    kinds_of_parts = PARTS in forms and isinstance(value, dict)
    return [string.value for string in inner.strings if not (kinds_of_parts and string.pointer[-1] == "type")]


@unhurried
@given(requests())
def test_every_string_of_a_body_is_a_text_with_its_role(made):
    dialect, of, body, raw = made
    json_text = jsontext.parse(raw)
    got = dialect.read(json_text)
    assert [text.value for text in got.texts] == [string.value for string in json_text.strings]
    for position, document in enumerate(listed(body[of.documents])):
        assert [text.value for text in got.of_document(position)] == strings_of(document, of.document_forms)
    queries = listed(body[of.query])
    expected = [(string, place) for place, query in enumerate(queries) for string in strings_of(query, of.query_forms)]
    own = [(text.value, text.position) for text in got.texts if text.role is Role.QUERY]
    assert own == [(string, place if len(queries) > 1 else None) for string, place in expected]
    assert got.query == "\n".join(string for string, _ in expected)
    other = [text.value for text in got.texts if text.role is Role.OTHER]
    assert sorted(set(other) - {"text"}) == sorted({body["user"]} - {"text"})
    assert all(text.position is not None for text in got.texts if text.role is Role.DOCUMENT)


keys = st.sampled_from(
    ["content", "documents", "id", "instruct", "items", "labels", "model", "passages", "queries", "query", "text",
     "text_1", "text_2", "texts", "top_k", "top_n", "type", "x"]
)  # fmt: skip
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner),
    max_leaves=12,
)


@unhurried
@given(names, anything)
def test_whatever_the_body_it_is_read_or_refused(name, body):
    json_text = jsontext.parse(json.dumps(body).encode())
    try:
        got = dialects.by_name(name).read(json_text)
    except GateError as error:
        reason = error.reason
    else:
        reason = None
        own = next(of.documents for of in dialects.by_name(name).requests if of.fits(body))
        assert got.document_count == len(listed(body[own]))
        assert len(got.texts) == len(json_text.strings)
    assert reason in {None, Reason.BODY_INVALID}


@EVERY
@pytest.mark.parametrize("keep", [[], [2], [-1], [0, 0], [0, 1, 2]])
def test_a_drop_must_keep_some_of_the_documents(name, keep):
    json_text = jsontext.parse(json.dumps(request(name)).encode())
    dialect = dialects.by_name(name)
    with pytest.raises(ValueError):
        dialect.drop(json_text, dialect.read(json_text), keep)
