"""What an approval is bound to: any change of anything is another request, and no writing of the same is."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankgate.approvals import canonical_digest, canonical_json, plan_digest, use_digest

KEY = b"k" * 32
HEAD = ("issuer", "subject", "tenant", "upstream", "route")
USE: dict[str, Any] = {
    "issuer": "https://i", "subject": "s", "tenant": "t", "upstream": "u", "route": "r", "method": "POST",
    "path": "/v2/rerank?a=b", "content_type": b"application/json", "body": b'{"query":"q"}',
}  # fmt: skip
PLAN: dict[str, Any] = {
    "mask_request": "m", "mask_response": "n", "dropped": (1, 2), "on_empty": "refuse", "credential": "file",
    "changes": ("set x: y",),
}  # fmt: skip

TEXTS = st.text(alphabet=st.characters(codec=None), max_size=5)
# Few characters, so that what is cut elsewhere often joins to the same.
PIECES = st.text(alphabet="a\x00/", max_size=3)
REQUESTS = st.fixed_dictionaries(
    {name: PIECES if isinstance(value, str) else PIECES.map(str.encode) for name, value in USE.items()}
)
SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(alphabet="ab \n", max_size=6)
JSON = st.recursive(
    SCALARS | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet="ab", max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(REQUESTS, REQUESTS)
def test_requests_are_equal_where_their_digests_are(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (use_digest(KEY, **one) == use_digest(KEY, **other)) is (one == other)


@pytest.mark.parametrize("name", USE)
@given(addition=TEXTS.filter(bool))
def test_a_change_of_any_part_is_another_request(name: str, addition: str) -> None:
    added = addition if isinstance(USE[name], str) else addition.encode("utf-8", "surrogatepass")
    for value in (USE[name] + added, added + USE[name], USE[name][1:]):
        assert value == USE[name] or use_digest(KEY, **(USE | {name: value})) != use_digest(KEY, **USE)


@pytest.mark.parametrize(("left", "right"), [*zip(list(USE)[:6], list(USE)[1:7], strict=True)])
def test_what_moves_from_one_part_to_the_next_makes_another_request(left: str, right: str) -> None:
    moved = USE | {left: USE[left] + USE[right][0], right: USE[right][1:]}
    assert use_digest(KEY, **moved) != use_digest(KEY, **USE)


@pytest.mark.parametrize(
    "change",
    [
        {"mask_request": "mm"}, {"mask_response": ""}, {"dropped": (1,)}, {"dropped": (12,)}, {"dropped": (2, 1)},
        {"on_empty": "pass"}, {"credential": "minted"}, {"changes": ()}, {"changes": ("set x: ", "y")},
    ],
)  # fmt: skip
def test_a_change_of_the_plan_is_another_plan(change: dict[str, Any]) -> None:
    assert plan_digest(KEY, **(PLAN | change)) != plan_digest(KEY, **PLAN)


def test_digests_of_other_kinds_and_keys_differ() -> None:
    head = {name: USE[name] for name in HEAD}
    every = [
        digest
        for key in (KEY, b"l" * 32)
        for digest in (use_digest(key, **USE), plan_digest(key, **PLAN), canonical_digest(key, **head, value={}))
    ]
    assert len(set(every)) == 6 and all(len(digest) == 64 for digest in every)


@pytest.mark.parametrize("name", HEAD)
def test_the_same_question_of_another_caller_or_elsewhere_is_another_question(name: str) -> None:
    head = {name: USE[name] for name in HEAD}
    assert canonical_digest(KEY, **head, value={}) != canonical_digest(KEY, **(head | {name: "x"}), value={})


@given(JSON, st.randoms(use_true_random=False))
def test_a_question_is_the_same_however_it_is_written(value: Any, chance: random.Random) -> None:
    rewritten = json.loads(json.dumps(shuffled(value, chance), indent=chance.choice([None, 1, 4])))
    assert canonical_json(rewritten) == canonical_json(value)


@given(JSON, JSON)
def test_questions_that_read_the_same_mean_the_same(one: Any, other: Any) -> None:
    assert (canonical_json(one) == canonical_json(other)) is (plain(one) == plain(other))


def test_white_space_of_every_kind_is_one_and_none_at_the_ends() -> None:
    assert canonical_json({"query": " who\u00a0\n is\u3000it "}) == canonical_json({"query": "who is it"})
    assert canonical_json({"query": "whois it"}) != canonical_json({"query": "who is it"})


def test_one_number_is_one_however_it_is_written_and_truth_is_none() -> None:
    assert canonical_json(json.loads("[1,1.0,1e0]")) == canonical_json([1, 1, 1])
    assert canonical_json([True]) != canonical_json([1])
    assert canonical_json([2**53 + 1]) != canonical_json([2**53])


def test_a_lone_surrogate_is_a_character_like_others() -> None:
    head = {name: USE[name] for name in HEAD}
    digests = {canonical_digest(KEY, **head, value={"query": text}) for text in ("\ud800", "\ud801", "?")}
    digests |= {use_digest(KEY, **(USE | {"subject": text})) for text in ("\ud800", "\ud801", "?")}
    assert len(digests) == 6


def shuffled(value: Any, chance: random.Random) -> Any:
    """Return the same with its names in another order and its white space of another kind."""
    if isinstance(value, dict):
        items = [(name, shuffled(member, chance)) for name, member in value.items()]
        chance.shuffle(items)
        return dict(items)
    if isinstance(value, list):
        return [shuffled(item, chance) for item in value]
    if isinstance(value, str):
        return chance.choice(["", " ", "\t\n"]) + value.replace(" ", chance.choice([" ", "  ", "\r\n"]))
    return value


def plain(value: Any) -> Any:
    """Return what a value means, in a form that Python compares as we mean it."""
    if isinstance(value, dict):
        return {name: plain(member) for name, member in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, bool) or value is None:
        return (value,)
    return repr(float(value)) if abs(value) < 2**53 else repr(value)
