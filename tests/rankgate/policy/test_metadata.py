"""What passes as dynamic metadata is what a protobuf Struct gives back."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from rankgate.errors import GateError, Reason
from rankgate.policy import parse_ruling
from rankgate.policy.metadata import MAX_CHARS, MAX_DEPTH, fault_of, is_text

NUMBERS = st.integers(-(10**20), 10**20) | st.integers(2**53 - 2, 2**53 + 2) | st.floats()
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_what_passes_comes_back_from_a_struct_as_it_was(metadata: dict[str, Any]) -> None:
    if fault_of(metadata):
        return
    struct = Struct()
    struct.update(metadata)
    assert MessageToDict(Struct.FromString(struct.SerializeToString())) == metadata


def levels(count: int) -> dict[str, Any]:
    nested: Any = 1
    for _ in range(count):
        nested = {"a": nested}
    return nested


def itself() -> dict[str, Any]:
    endless: dict[str, Any] = {}
    endless["a"] = [endless]
    return endless


REFUSED = {
    "an integer beyond 2^53": {"a": 2**53 + 1},
    "a negative integer beyond 2^53": {"a": [-(2**53) - 1]},
    "an integer of four hundred digits": {"a": 10**400},
    "an integer too long to print": {"a": 10**5000},
    "a float that stands for a longer integer": {"a": 1e20},
    "infinity": {"a": float("inf")},
    "minus infinity": {"a": {"b": float("-inf")}},
    "NaN": {"a": [float("nan")]},
    "a lone surrogate": {"a": "\ud800"},
    "a key with a lone surrogate": {"\udfff": 1},
    "NUL": {"a": "x\x00"},
    "a key with NUL": {"a": {"\x00": 1}},
    "bytes": {"a": b"x"},
    "a key that is no text": {"a": {1: 2}},
    "too many levels": levels(MAX_DEPTH + 1),
    "itself": itself(),
    "too many characters": {"a": "x" * MAX_CHARS},
    "too many members": {f"k{number}": number for number in range(2_000)},
}


@pytest.mark.parametrize("metadata", REFUSED.values(), ids=REFUSED.keys())
def test_what_a_struct_would_change_or_refuse_makes_the_ruling_invalid(metadata: dict[str, Any]) -> None:
    for allowed in (True, False):
        with pytest.raises(GateError) as refused:
            parse_ruling(
                {"allowed": allowed, "dynamic_metadata": metadata}, document_count=0, credential_header="authorization"
            )
        assert refused.value.reason is Reason.POLICY_INVALID


@pytest.mark.parametrize(
    "metadata",
    [{}, {"": ""}, {"a": 2**53, "b": -(2**53)}, {"a": [0.5, -0.0, True, None]}, {"é": "😀"}, levels(MAX_DEPTH)],
)
def test_the_rest_passes(metadata: dict[str, Any]) -> None:
    assert fault_of(metadata) == ""


def test_a_text_is_a_string_with_a_utf8_form_and_without_nul() -> None:
    assert [value for value in ("", "é😀", "\n", "\x00", "\ud800", b"x", None) if is_text(value)] == ["", "é😀", "\n"]
