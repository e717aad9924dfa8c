"""One text, one meaning: what two readers could understand differently is refused."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankgate.strict import MalformedError, base64url, json_object

REFUSED_JSON = {
    "not an object": b"[1]",
    "empty": b"",
    "two values": b"{}{}",
    "byte order mark": b"\xef\xbb\xbf{}",
    "not utf-8": b'{"a":"\xff"}',
    "utf-16": '{"a":1}'.encode("utf-16"),
    "duplicate member": b'{"a":1,"a":1}',
    "duplicate member by escape": b'{"a":1,"\\u0061":1}',
    "duplicate member inside": b'{"x":{"a":1,"a":2}}',
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":-Infinity}',
    "overflow": b'{"a":1e400}',
    "integer beyond 2^53": b'{"a":9007199254740993}',
    "ten thousand digits": b'{"a":' + b"9" * 10_000 + b"}",
    "lone surrogate": b'{"a":"\\ud800"}',
    "lone surrogate in a key": b'{"\\udfff":1}',
    "lone surrogate at the bottom": b'{"a":[["\\ud800"]]}',
    "one level too deep": b'{"a":[[[1]]]}',
    "nested a hundred thousand times": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "never closed": b'{"a":' + b"[" * 100_000,
}


@pytest.mark.parametrize("text", REFUSED_JSON.values(), ids=REFUSED_JSON)
def test_json_with_two_readings_is_refused(text: bytes) -> None:
    with pytest.raises(MalformedError):
        json_object(text, depth=3)


def test_json_within_every_bound_is_read() -> None:
    text = '{"a":[[9007199254740992,-1,1.5,"\\ud83d\\ude00é",null,true]],"b":{}}'
    assert json_object(text.encode(), depth=3) == {"a": [[2**53, -1, 1.5, "😀é", None, True]], "b": {}}


@settings(deadline=None)
@given(st.binary())
def test_whatever_the_bytes_json_is_an_object_or_malformed(data: bytes) -> None:
    try:
        value = json_object(data, depth=3)
    except MalformedError:
        return
    assert value == json.loads(data)


@pytest.mark.parametrize("text", ["YQ==", "YQ=", "YR", "Y", "Y Q", "YQ\n", "-_+/", "YWJ!", "ＹＱ"])
def test_base64url_with_two_spellings_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        base64url(text)


@settings(deadline=None)
@given(st.binary())
def test_every_byte_string_has_one_base64url(data: bytes) -> None:
    assert base64url(base64.urlsafe_b64encode(data).rstrip(b"=").decode()) == data
