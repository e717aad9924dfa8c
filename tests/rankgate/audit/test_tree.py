"""The tree is that of RFC 6962 and RFC 9162: published vectors, and a naive reading of the definitions."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankgate.audit.tree import (
    EMPTY_ROOT,
    HASH_BYTES,
    RightEdge,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

# The leaves and roots that implementations of certificate transparency are tested with.
LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def hashes(count: int) -> list[bytes]:
    return [leaf_hash(str(number).encode()) for number in range(count)]


def split(size: int) -> int:
    """Return the largest power of two smaller than `size`, by counting."""
    power = 1
    while power * 2 < size:
        power *= 2
    return power


def naive_root(leaves: list[bytes]) -> bytes:
    """Return MTH(D[n]), RFC 9162 section 2.1.1, word by word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """Return PATH(m, D[n]), RFC 9162 section 2.1.3.1."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if index < k:
        return [*naive_path(index, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(index - k, leaves[k:]), naive_root(leaves[:k])]


def naive_subproof(old: int, leaves: list[bytes], known: bool) -> list[bytes]:
    """Return SUBPROOF(m, D[n], b), RFC 9162 section 2.1.4.1."""
    if old == len(leaves):
        return [] if known else [naive_root(leaves)]
    k = split(len(leaves))
    if old <= k:
        return [*naive_subproof(old, leaves[:k], known), naive_root(leaves[k:])]
    return [*naive_subproof(old - k, leaves[k:], False), naive_root(leaves[:k])]


@pytest.mark.parametrize("size", range(len(ROOTS)))
def test_the_published_roots(size: int) -> None:
    assert root_of(map(leaf_hash, LEAVES[:size])).hex() == ROOTS[size]


def test_the_published_paths() -> None:
    leaves = [leaf_hash(leaf) for leaf in LEAVES]
    assert [one.hex() for one in inclusion_proof(5, 8, leaves.__getitem__)] == [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]
    assert [one.hex() for one in consistency_proof(6, 8, leaves.__getitem__)] == [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


def test_leaves_and_nodes_are_never_taken_for_each_other() -> None:
    left, right = hashes(2)
    assert leaf_hash(left + right) != node_hash(left, right)
    assert leaf_hash(b"") != EMPTY_ROOT


@pytest.mark.parametrize("size", range(70))
def test_everything_agrees_with_the_definitions(size: int) -> None:
    leaves = hashes(size)
    root = naive_root(leaves)
    assert root_of(leaves) == root
    for index in range(size):
        proof = inclusion_proof(index, size, leaves.__getitem__)
        assert proof == naive_path(index, leaves)
        assert verify_inclusion(leaves[index], index, size, proof, root)
    for old in range(size + 1):
        proof = consistency_proof(old, size, leaves.__getitem__)
        assert proof == ([] if old == 0 else naive_subproof(old, leaves, True))
        assert verify_consistency(old, size, naive_root(leaves[:old]), root, proof)


@given(st.integers(0, 3000), st.integers(0, 300))
def test_an_edge_holds_few_hashes_and_goes_on_from_them(size: int, more: int) -> None:
    leaves = hashes(size + more)
    edge = RightEdge()
    for leaf in leaves[:size]:
        edge.append(leaf)
    assert len(edge.hashes) <= max(1, size.bit_length())
    again, copy = RightEdge(edge.size, edge.hashes), edge.copy()
    for leaf in leaves[size:]:
        again.append(leaf)
    assert again.root() == root_of(leaves)
    assert (copy.size, copy.root()) == (size, root_of(leaves[:size]))


@pytest.mark.parametrize(("size", "count"), [(1, 0), (0, 1), (3, 1), (4, 2), (-1, 0)])
def test_an_edge_that_is_none_is_refused(size: int, count: int) -> None:
    with pytest.raises(ValueError, match="right edge"):
        RightEdge(size, hashes(count))
    with pytest.raises(ValueError, match="right edge"):
        RightEdge(1, [b"short"])


@given(st.data())
def test_a_proof_of_inclusion_holds_for_nothing_else(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 200))
    leaves = hashes(size)
    index = data.draw(st.integers(0, size - 1))
    root, proof = root_of(leaves), inclusion_proof(index, size, leaves.__getitem__)
    other = sha256(b"another").digest()
    assert not verify_inclusion(other, index, size, proof, root)
    assert not verify_inclusion(leaves[index], index, size, proof, other)
    assert not verify_inclusion(leaves[index], index, size, [*proof, other], root)
    wrong = data.draw(st.integers(-1, size))
    assert wrong == index or not verify_inclusion(leaves[index], wrong, size, proof, root)
    if proof:
        place = data.draw(st.integers(0, len(proof) - 1))
        assert not verify_inclusion(leaves[index], index, size, proof[:-1], root)
        assert not verify_inclusion(leaves[index], index, size, [*proof[:place], other, *proof[place + 1 :]], root)
        assert not verify_inclusion(leaves[index], index, size, [*proof[:place], b"", *proof[place + 1 :]], root)


@given(st.data())
def test_a_proof_of_consistency_holds_for_nothing_else(data: st.DataObject) -> None:
    new = data.draw(st.integers(1, 200))
    old = data.draw(st.integers(0, new))
    leaves = hashes(new)
    old_root, root = root_of(leaves[:old]), root_of(leaves)
    proof = consistency_proof(old, new, leaves.__getitem__)
    other = sha256(b"another").digest()
    assert not verify_consistency(old, new, other, root, proof)
    assert old == 0 or not verify_consistency(old, new, old_root, other, proof)
    assert not verify_consistency(old, new, old_root, root, [*proof, other])
    assert not verify_consistency(new + 1, new, old_root, root, proof)
    if proof:
        place = data.draw(st.integers(0, len(proof) - 1))
        assert not verify_consistency(old, new, old_root, root, proof[:-1])
        assert not verify_consistency(old, new, old_root, root, [*proof[:place], other, *proof[place + 1 :]])


@given(st.integers(-2, 40), st.integers(-2, 40), st.lists(st.binary(max_size=HASH_BYTES + 1), max_size=8), st.binary())
def test_whatever_is_given_is_judged_and_not_thrown_back(a: int, b: int, proof: list[bytes], root: bytes) -> None:
    assert not verify_inclusion(root, a, b, proof, root[:31])
    assert not verify_consistency(a, b, root[:31], root, proof)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (3, 3), (-1, 3)])
def test_there_is_no_proof_of_what_is_not_there(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="no such leaf"):
        inclusion_proof(index, size, hashes(4).__getitem__)
    with pytest.raises(ValueError, match="never shrinks"):
        consistency_proof(size + 1, size, hashes(9).__getitem__)
