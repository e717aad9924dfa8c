"""How long a caller is kept waiting: never longer than it will wait."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankgate.approvals import hold_seconds


def held(
    configured: float = 280, ruled: float | None = None, dialect: str = "cohere.v2", **headers: list[bytes]
) -> float:
    def header(name: str) -> Sequence[bytes]:
        return headers.get(name.replace("-", "_"), [])

    return hold_seconds(configured, ruled, dialect, header)


@pytest.mark.parametrize(
    ("dialect", "seconds"),
    [
        ("cohere.v1", 240), ("cohere.v2", 240), ("voyage", 240), ("jina", 240), ("nvidia.ranking", 240), ("tei", 50),
        ("unheard.of", 50), ("", 50),
    ],
)  # fmt: skip
def test_each_dialect_has_the_patience_of_its_clients(dialect: str, seconds: float) -> None:
    assert held(dialect=dialect) == seconds


def test_the_shortest_of_setting_ruling_and_dialect_counts() -> None:
    assert held(25) == held(25, 30) == 25
    assert held(25, 5) == 5
    assert held(25, 0) == held(0) == 0
    assert held(280, 280) == 240


@pytest.mark.parametrize(
    ("stated", "seconds"),
    [
        ([b"30"], 28), ([b" 30.5 "], 28.5), ([b"2"], 0), ([b"1"], 0), ([b"600"], 240), ([b"999999"], 240),
        ([b"30", b"10"], 8),
    ],
)  # fmt: skip
def test_a_stated_read_timeout_counts_less_two_seconds(stated: list[bytes], seconds: float) -> None:
    assert held(x_stainless_read_timeout=stated) == seconds


@pytest.mark.parametrize(
    "stated",
    [b"", b"soon", b"NaN", b"inf", b"-30", b"+30", b"1e3", b"30s", b"30,40", b"0x1e", b"1_0", b"\xff", b"9" * 7,
     "٣٠".encode(), b"30\n30", b".5", b"5."],
)  # fmt: skip
def test_a_stated_read_timeout_that_cannot_be_read_lets_nobody_wait(stated: bytes) -> None:
    assert held(x_stainless_read_timeout=[stated]) == held(x_stainless_read_timeout=[b"30", stated]) == 0


@pytest.mark.parametrize("name", ["user_agent", "x_elastic_client_meta"])
def test_elastic_gives_up_after_ten_seconds(name: str) -> None:
    assert held(**{name: [b"Elastic-Inference/9.1"]}) == 8
    assert held(**{name: [b"other", b"x elasticsearch-java"]}) == 8
    assert held(3, **{name: [b"ELASTIC"]}) == 3


@given(st.floats(0, 280), st.none() | st.floats(0, 1000), st.lists(st.binary(max_size=8), max_size=3))
def test_nobody_is_held_longer_than_any_limit_nor_for_less_than_nothing(
    configured: float, ruled: float | None, stated: list[bytes]
) -> None:
    seconds = held(configured, ruled, x_stainless_read_timeout=stated)
    assert 0 <= seconds <= min(configured, 240, 1000 if ruled is None else ruled)
