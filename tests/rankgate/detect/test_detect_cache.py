"""The cache is bounded, and tenants never meet in it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rankgate.detect.cache import Cache
from rankgate.detect.finding import Finding

FOUND = (Finding("US_SSN", 0, 4, 1.0),)


def test_what_is_put_is_got_by_equal_text() -> None:
    cache = Cache(100_000)
    cache.put("acme", "some text", FOUND)
    assert cache.get("acme", "".join(["some", " text"])) == FOUND


def test_many_texts_are_got_as_each_of_them_is() -> None:
    cache = Cache(100_000)
    cache.put("acme", "clean", ())
    cache.put("acme", "some text", FOUND)
    texts = ["new", "some text", "clean", "some text"]
    assert cache.get_all("acme", texts) == [cache.get("acme", text) for text in texts] == [None, FOUND, (), FOUND]
    assert (cache.hits, cache.misses) == (6, 2)
    assert cache.get_all("globex", texts) == [None] * 4


def test_many_texts_that_are_got_stay_longest() -> None:
    cache = Cache(3_000)
    cache.put("acme", "first", ())
    cache.put("acme", "second", ())
    for number in range(30):
        cache.get_all("acme", ["first"])
        cache.put("acme", f"filler {number}", ())
    assert cache.get_all("acme", ["first", "second"]) == [(), None]


def test_only_what_was_never_put_is_unknown() -> None:
    cache = Cache(100_000)
    cache.put("acme", "known", ())
    assert cache.unknown_chars("acme", ["known", "new", "newer"]) == 8
    assert cache.unknown_chars("globex", ["known"]) == 5
    assert (cache.hits, cache.misses) == (0, 0)


def test_partitions_never_share() -> None:
    cache = Cache(100_000)
    cache.put("acme", "some text", FOUND)
    assert cache.get("globex", "some text") is None


def test_no_findings_are_remembered_as_such() -> None:
    cache = Cache(100_000)
    cache.put("acme", "clean", ())
    assert cache.get("acme", "clean") == ()


def test_the_least_recently_used_goes_first() -> None:
    cache = Cache(3_000)
    cache.put("acme", "first", ())
    cache.put("acme", "second", ())
    while cache.get("acme", "first") is not None and cache.size <= 2_700:
        cache.put("acme", f"filler {cache.size}", ())
    for number in range(3):
        cache.put("acme", f"one more {number}", ())
    assert cache.get("acme", "first") == ()
    assert cache.get("acme", "second") is None


def test_a_flood_of_one_tenant_leaves_anothers_share() -> None:
    cache = Cache(20_000)
    cache.put("quiet", "kept", FOUND)
    for number in range(500):
        cache.put("loud", f"text {number}", ())
    assert cache.get("quiet", "kept") == FOUND


def test_nothing_is_kept_at_zero_bytes_and_no_giant_ever() -> None:
    cache = Cache(0)
    cache.put("acme", "text", ())
    assert cache.get("acme", "text") is None
    cache = Cache(10_000)
    cache.put("acme", "x" * 5_000, ())
    assert cache.size == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.text(max_size=40)), max_size=120))
def test_the_bound_holds_over_all_partitions(puts: list[tuple[str, str]]) -> None:
    cache = Cache(4_000)
    for partition, text in puts:
        cache.put(partition, text, FOUND)
        assert cache.size <= 4_000
