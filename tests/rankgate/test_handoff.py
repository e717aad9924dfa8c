"""The handoff survives a protobuf Struct, and nothing else is taken for one."""

import json

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from rankgate.errors import GateError, Reason
from rankgate.handoff import Handoff, from_metadata, to_metadata

TYPES = st.lists(st.sampled_from(["EMAIL_ADDRESS", "US_SSN", "CREDIT_CARD"]), min_size=1, unique=True).map(tuple)
SPANS = st.tuples(st.integers(0, 9000), st.integers(1, 500), TYPES).map(lambda t: (t[0], t[0] + t[1], t[2]))
EDITS = st.lists(
    st.tuples(st.integers(0, 5000), st.integers(0, 900), st.integers(1, 90), st.lists(SPANS, max_size=4)).map(
        lambda t: (t[0], t[1], t[1] + t[2], tuple(t[3]))
    ),
    max_size=20,
).map(tuple)
HANDOFFS = st.builds(
    Handoff,
    decision_id=st.text(max_size=40),
    issuer=st.just("https://issuer.example"),
    subject=st.text(max_size=40).filter(lambda s: s.isprintable()),
    tenant=st.just("acme"),
    route=st.just("cohere-v2"),
    dialect=st.just("cohere.v2"),
    dialect_revision=st.integers(1, 9),
    body_digest=st.just("ab" * 32),
    body_length=st.integers(1000, 2**31),
    text_count=st.integers(0, 100_000),
    document_count=st.integers(0, 10_000),
    request_plan=st.just("EMAIL_ADDRESS=pseudonym"),
    response_plan=st.just(""),
    drop_mode=st.sampled_from(["omit", "floor"]),
    kept=st.none() | st.lists(st.integers(0, 999), unique=True).map(lambda x: tuple(sorted(x))),
    top_n=st.none() | st.integers(1, 10_000),
    edits=st.none() | EDITS,
    lease_fingerprint=st.just("40:" + "cd" * 32),
)


def through_envoy(values):
    """Return `values` as they arrive at ext_proc: a Struct turned into plain values, every number a float."""
    struct = Struct()
    struct.update(values)
    return MessageToDict(Struct.FromString(struct.SerializeToString()))


@given(HANDOFFS)
def test_a_handoff_comes_out_of_the_metadata_as_it_went_in(handoff):
    assert from_metadata(through_envoy(to_metadata(handoff))) == handoff


@given(HANDOFFS)
def test_unknown_members_are_ignored(handoff):
    values = through_envoy(to_metadata(handoff))
    values["handoff"] = json.dumps({**json.loads(values["handoff"]), "added_later": {"x": 1}})
    assert from_metadata(values) == handoff


SPAN = (1, 2, ("US_SSN",))


def example(**changes):
    handoff = Handoff(
        "dec-1",
        "i",
        "s",
        "t",
        "r",
        "tei",
        1,
        "00",
        20,
        3,
        4,
        "",
        "",
        "omit",
        edits=((0, 3, 9, ((1, 2, ("US_SSN",)),)),),
    )
    values = json.loads(to_metadata(handoff)["handoff"])
    values.update(changes)
    return {"handoff": json.dumps({name: value for name, value in values.items() if value is not ...})}


@pytest.mark.parametrize("value", [None, "text", 3, [1]])
def test_no_handoff_is_missing(value):
    with pytest.raises(GateError) as caught:
        from_metadata(value)
    assert caught.value.reason is Reason.HANDOFF_MISSING


@pytest.mark.parametrize(
    "changes",
    [
        {"decision_id": ...},
        {"tenant": 3},
        {"body_length": "2"},
        {"body_length": 2.5},
        {"body_length": -1},
        {"body_length": float("inf")},
        {"text_count": True},
        {"drop_mode": "anything"},
        {"drop_mode": ["omit"]},
        {"kept": "0"},
        {"kept": ["x"]},
        {"edits": [[0, 3, 9]]},
        {"edits": [[0, 9, 3, []]]},
        {"edits": [[0, 3, 21, []]]},
        {"edits": [[0, 3, 9, [[5, 5, ["US_SSN"]]]]]},
        {"edits": [[0, 3, 9, [[1, 2, []]]]]},
        {"edits": [[0, 3, 9, [[1, 2, "US_SSN"]]]]},
        {"edits": {"0": 1}},
        {"version": ...},
    ],
    ids=str,
)
def test_a_broken_handoff_is_a_mismatch(changes):
    with pytest.raises(GateError) as caught:
        from_metadata(example(**changes))
    assert caught.value.reason is Reason.HANDOFF_MISMATCH


def test_edits_of_another_version_are_not_trusted():
    assert from_metadata(example(version=2)).edits is None


def test_edits_beyond_the_limit_are_left_out_so_that_ext_proc_detects_again():
    edits = tuple((n, 0, 5, ((0, 5, ("US_SSN",)),)) for n in range(20_000))
    handoff = Handoff("dec-1", "i", "s", "t", "r", "tei", 1, "00", 20, 20_000, 4, "", "", "omit", edits=edits)
    assert from_metadata(through_envoy(to_metadata(handoff))).edits is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000])
def test_what_is_no_handoff_at_all_is_a_mismatch(text):
    with pytest.raises(GateError) as caught:
        from_metadata({"handoff": text})
    assert caught.value.reason is Reason.HANDOFF_MISMATCH
