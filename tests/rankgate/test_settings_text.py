"""Settings written as TOML read back as they were."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankgate.settings.text import to_toml

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALAR = TEXT | st.integers(-(2**40), 2**40) | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)
NAME = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
VALUE = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAME, inner, max_size=3), max_leaves=8
)


@given(st.dictionaries(NAME, VALUE, max_size=5))
def test_whatever_is_written_reads_back(values: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(values)) == values


def test_what_is_unset_is_left_out_and_a_path_is_its_text() -> None:
    values = {"audit": {"directory": Path("/a b"), "redis_url": None}, "deployment": None}
    assert tomllib.loads(to_toml(values)) == {"audit": {"directory": "/a b"}}


def test_a_section_is_a_table_so_that_people_can_read_it() -> None:
    text = to_toml({"deployment": "a", "listen": {"port": 1}, "issuers": [{"issuer": "x"}, {"issuer": "y"}]})
    assert text == 'deployment = "a"\n\n[listen]\nport = 1\n\n[[issuers]]\nissuer = "x"\n\n[[issuers]]\nissuer = "y"\n'


def test_what_is_no_settings_value_is_refused() -> None:
    with pytest.raises(TypeError, match="set is no settings value"):
        to_toml({"a": {1, 2}})
