"""Header values that more than one part reads are read one way."""

import pytest

from rankgate.headers import is_json_type, traceparent

TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    "value",
    [
        b"application/json",
        b"Application/JSON",
        b"application/json; charset=utf-8",
        b'application/json ;charset="UTF-8"',
    ],
)
def test_json_in_utf_8_is_json(value):
    assert is_json_type([value])


@pytest.mark.parametrize(
    "values",
    [
        [],
        [b"application/json", b"application/json"],
        [b"application/json, text/html"],
        [b"application/json; charset=utf-7"],
        [b"application/json; note=a@example.org"],
        [b"application/json; charset=utf-8; note=x"],
        [b"application/jsonp"],
        [b"application/problem+json"],
        [b"text/json"],
        [b"application/json\n"],
    ],
)
def test_anything_else_is_not(values):
    assert not is_json_type(values)


def test_a_well_formed_trace_is_kept_and_nothing_else():
    assert traceparent([TRACE]) == TRACE.decode()
    for values in ([], [TRACE, TRACE], [b"maren@example.org"], [TRACE + b"\n"], [TRACE.upper()], [b" " + TRACE]):
        assert traceparent(values) == ""
