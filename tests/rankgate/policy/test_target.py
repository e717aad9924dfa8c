from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankgate.errors import GateError, Reason
from rankgate.policy.target import parse_path, parse_query


@pytest.mark.parametrize(
    ("path", "segments"),
    [
        ("/", [""]),
        ("", [""]),
        ("/v2/rerank", ["v2", "rerank"]),
        ("/v2/rerank/", ["v2", "rerank", ""]),
        ("//x/people", ["x", "people"]),
        ("//admin/dashboard", ["admin", "dashboard"]),
        ("///a//b", ["a", "", "b"]),
        ("%2Fv2%2frerank", ["v2", "rerank"]),
        ("/a%2Fb", ["a", "b"]),
        ("/caf%C3%A9/+", ["café", "+"]),
        ("/a:b@c/../d", ["a:b@c", "..", "d"]),
    ],
)
def test_a_path_is_decoded_before_it_is_split(path: str, segments: list[str]) -> None:
    assert parse_path(path) == segments


@pytest.mark.parametrize("path", ["/%", "/%2", "/%zz", "/a%2/b", "/%ff", "/%C3"])
def test_a_path_that_decodes_to_no_text_is_refused(path: str) -> None:
    with pytest.raises(GateError) as refused:
        parse_path(path)
    assert refused.value.reason is Reason.PATH_UNKNOWN


@pytest.mark.parametrize(
    ("query", "parsed"),
    [
        ("", {}),
        ("a=1", {"a": ["1"]}),
        ("a=1&a=2", {"a": ["1", "2"]}),
        ("a=1&b=2", {"a": ["1"], "b": ["2"]}),
        ("a=1&a=new%0aline", {"a": ["1", "new\nline"]}),
        ("a=2&b=x&a=1", {"a": ["2", "1"], "b": ["x"]}),
        ("a+b=c+d", {"a b": ["c d"]}),
        ("a%2Bb=%26%3D", {"a+b": ["&="]}),
        ("a", {"a": [""]}),
        ("a=b=c", {"a": ["b=c"]}),
        ("&&a=1&", {"a": ["1"]}),
        ("=1", {"": ["1"]}),
    ],
)
def test_a_query_is_form_decoded_in_order(query: str, parsed: dict[str, list[str]]) -> None:
    assert parse_query(query) == parsed


@pytest.mark.parametrize("query", ["a=1;b=2", "a=%", "%zz=1", "a=%ff"])
def test_a_query_that_servers_read_differently_is_refused(query: str) -> None:
    with pytest.raises(GateError) as refused:
        parse_query(query)
    assert refused.value.reason is Reason.QUERY_PARAMETER_REFUSED


@given(st.text(st.characters(codec="ascii")))
def test_any_target_is_parsed_or_refused(text: str) -> None:
    for parse in (parse_path, parse_query):
        with contextlib.suppress(GateError):
            assert parse(text) is not None
