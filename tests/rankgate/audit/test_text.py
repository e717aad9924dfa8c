from __future__ import annotations

import json

from fakes.events import DIGEST
from hypothesis import given
from hypothesis import strategies as st

from rankgate.audit.text import clip, clip_all, dump, printable

ANY = st.text(st.characters())


def test_a_short_text_is_not_touched() -> None:
    assert clip("é" * 10, 10, DIGEST) == "é" * 10


def test_a_long_text_keeps_its_length_and_keyed_hash() -> None:
    text = "x" * 1_048_576
    clipped = clip(text, 8, DIGEST)
    assert clipped == f"xxxxxxxx…(1048576 characters, {DIGEST(text.encode())})"


def test_two_long_texts_with_the_same_beginning_stay_apart() -> None:
    assert clip("a" * 20 + "b", 8, DIGEST) != clip("a" * 20 + "c", 8, DIGEST)


def test_a_long_list_tells_how_many_more() -> None:
    assert clip_all("abcd", 8, 2, DIGEST)[:2] == ["a", "b"]
    assert clip_all("abcd", 8, 2, DIGEST)[2].startswith("…(2 more, hmac-sha256:")


@given(st.lists(ANY, max_size=5))
def test_json_is_one_line_and_keeps_every_value_but_lone_surrogates(texts: list[str]) -> None:
    data = dump(texts)
    assert json.loads(data) == [
        text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if _lone(text) else text for text in texts
    ] or any(map(_lone, texts))
    assert printable(data.decode()) == data.decode()
    assert len(data.decode().splitlines()) == 1


@given(ANY)
def test_nothing_printed_can_command_a_terminal(text: str) -> None:
    safe = printable(text)
    assert printable(safe) == safe
    assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 or 0xD800 <= ord(char) < 0xE000 for char in safe)


def test_numbers_are_exact() -> None:
    assert dump([2**70, 0.1, 1e-7]) == b"[1180591620717411303424,0.1,1e-7]"


def _lone(text: str) -> bool:
    return any(0xD800 <= ord(char) < 0xE000 for char in text)
