"""The handoff survives a protobuf Struct, and nothing else is taken for one."""

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from rankgate.errors import GateError, Reason
from rankgate.handoff import Handoff, from_metadata, to_metadata

TYPES = st.lists(st.sampled_from(["EMAIL_ADDRESS", "US_SSN", "CREDIT_CARD"]), min_size=1, unique=True).map(tuple)
SPANS = st.lists(
    st.tuples(st.integers(0, 5000), st.integers(0, 9000), st.integers(1, 500), TYPES).map(
        lambda t: (t[0], t[1], t[1] + t[2], t[3])
    ),
    max_size=40,
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
    body_length=st.integers(0, 2**31),
    text_count=st.integers(0, 100_000),
    document_count=st.integers(0, 10_000),
    request_plan=st.just("EMAIL_ADDRESS=pseudonym"),
    response_plan=st.just(""),
    drop_mode=st.sampled_from(["omit", "floor"]),
    kept=st.none() | st.lists(st.integers(0, 999), unique=True).map(lambda x: tuple(sorted(x))),
    top_n=st.none() | st.integers(1, 10_000),
    spans=st.none() | SPANS,
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
    values = through_envoy({**to_metadata(handoff), "added_later": {"x": 1}})
    assert from_metadata(values) == handoff


def example(**changes):
    values = to_metadata(
        Handoff("dec-1", "i", "s", "t", "r", "tei", 1, "00", 2, 3, 4, "", "", "omit", spans=((0, 1, 2, ("US_SSN",)),))
    )
    values.update(changes)
    return {name: value for name, value in values.items() if value is not ...}


@pytest.mark.parametrize("value", [None, "text", 3, [1]])
def test_no_handoff_is_missing(value):
    with pytest.raises(GateError) as caught:
        from_metadata(value)
    assert caught.value.reason is Reason.HANDOFF_MISSING


@pytest.mark.parametrize(
    "changes",
    [
        {"decision_id": ...},
        {"tenant": 3.0},
        {"body_length": "2"},
        {"body_length": 2.5},
        {"text_count": True},
        {"drop_mode": "anything"},
        {"kept": "0,x"},
        {"spans": "US_SSN|0:5:5:0"},
        {"spans": "US_SSN|0:1:2:7"},
        {"spans": "US_SSN|0:1:2:-1"},
        {"spans": "US_SSN|0:1:2"},
        {"version": ...},
    ],
    ids=str,
)
def test_a_broken_handoff_is_a_mismatch(changes):
    with pytest.raises(GateError) as caught:
        from_metadata(example(**changes))
    assert caught.value.reason is Reason.HANDOFF_MISMATCH


def test_spans_of_another_version_are_not_trusted():
    assert from_metadata(example(version=2.0)).spans is None


def test_spans_beyond_the_limit_are_left_out_so_that_ext_proc_detects_again():
    spans = tuple((n, 0, 5, ("US_SSN",)) for n in range(20_000))
    handoff = Handoff("dec-1", "i", "s", "t", "r", "tei", 1, "00", 2, 20_000, 4, "", "", "omit", spans=spans)
    assert from_metadata(through_envoy(to_metadata(handoff))).spans is None
