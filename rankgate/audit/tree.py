"""The Merkle tree over a log: RFC 9162 section 2.1, which is that of RFC 6962, with SHA-256.

A leaf is the exact stored bytes of an entry. Leaves and nodes are hashed under different prefixes, and nothing here is
a variant of the RFCs: home-made proofs have been forged before. A hash is 32 bytes; a proof is a list of them, lowest
first; a root belongs to a size, the number of leaves under it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

__all__ = [
    "EMPTY_ROOT",
    "HASH_BYTES",
    "RightEdge",
    "consistency_proof",
    "inclusion_proof",
    "leaf_hash",
    "node_hash",
    "root_of",
    "verify_consistency",
    "verify_inclusion",
]

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()

HashAt = Callable[[int], bytes]
"""Returns the leaf hash of an entry by its number."""


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf, `SHA-256(0x00 || data)`."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node over two others, `SHA-256(0x01 || left || right)`."""
    return sha256(b"\x01" + left + right).digest()


class RightEdge:
    """A tree that only grows, of which the roots of its whole subtrees are kept: log2(size) hashes at most.

    `hashes` are those, largest subtree first, one for each bit of `size` that is set.
    """

    __slots__ = ("_hashes", "_size")

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        """Go on from a known edge; raises ValueError where `hashes` are not those of a tree of `size`."""
        self._size, self._hashes = size, list(hashes)
        if size < 0 or len(self._hashes) != size.bit_count() or any(len(one) != HASH_BYTES for one in self._hashes):
            raise ValueError("not the right edge of a tree of this size")

    @property
    def size(self) -> int:
        """Return the number of leaves."""
        return self._size

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """Return the roots of the whole subtrees, largest first."""
        return tuple(self._hashes)

    def append(self, leaf: bytes) -> None:
        """Add a leaf by its hash."""
        hashes, size = self._hashes, self._size
        # Each set bit at the low end is a whole subtree of the size that this one has grown to.
        while size & 1:
            leaf = node_hash(hashes.pop(), leaf)
            size >>= 1
        hashes.append(leaf)
        self._size += 1

    def root(self) -> bytes:
        """Return the root over all leaves so far, EMPTY_ROOT over none."""
        if not self._hashes:
            return EMPTY_ROOT
        root = self._hashes[-1]
        for left in reversed(self._hashes[:-1]):
            root = node_hash(left, root)
        return root

    def copy(self) -> RightEdge:
        """Return a tree of the same leaves that grows by itself."""
        return RightEdge(self._size, self._hashes)


def root_of(leaves: Iterable[bytes]) -> bytes:
    """Return the root over leaf hashes in order."""
    edge = RightEdge()
    for leaf in leaves:
        edge.append(leaf)
    return edge.root()


def inclusion_proof(index: int, size: int, hash_at: HashAt) -> list[bytes]:
    """Return the path from leaf `index` to the root over the first `size` leaves: RFC 9162 section 2.1.3.1.

    Asks `hash_at` for every other leaf once. Raises ValueError where there is no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError("the tree has no such leaf")
    path: list[bytes] = []
    first, last = 0, size
    while last - first > 1:
        middle = first + _split(last - first)
        if index < middle:
            path.append(_root_between(middle, last, hash_at))
            last = middle
        else:
            path.append(_root_between(first, middle, hash_at))
            first = middle
    path.reverse()
    return path


def consistency_proof(old: int, new: int, hash_at: HashAt) -> list[bytes]:
    """Return what proves that the first `new` leaves begin with the first `old`: RFC 9162 section 2.1.4.1.

    Empty where the sizes are equal or `old` is 0. Raises ValueError where `old` is greater than `new`.
    """
    if not 0 <= old <= new:
        raise ValueError("a tree never shrinks")
    if old in {0, new}:
        return []
    path: list[bytes] = []
    first, last = 0, new
    whole = True  # the old tree's root is known to whoever verifies, a root within it is not
    while old != last - first:
        middle = first + _split(last - first)
        if first + old <= middle:
            path.append(_root_between(middle, last, hash_at))
            last = middle
        else:
            path.append(_root_between(first, middle, hash_at))
            old -= middle - first
            first, whole = middle, False
    if not whole:
        path.append(_root_between(first, last, hash_at))
    path.reverse()
    return path


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Tell whether `proof` leads from the leaf hash to `root` over `size` leaves: RFC 9162 section 2.1.3.2."""
    if not 0 <= index < size or not _well_formed(leaf, root, *proof):
        return False
    place, last, found = index, size - 1, leaf
    for step in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            found = node_hash(step, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, step)
        place, last = place >> 1, last >> 1
    return last == 0 and found == root


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Tell whether the tree of `new` leaves begins with that of `old`: RFC 9162 section 2.1.4.2.

    The RFC leaves `old` 0 out: every tree begins with the empty one, whose root is EMPTY_ROOT and needs no proof.
    """
    if not 0 <= old <= new or not _well_formed(old_root, new_root, *proof):
        return False
    if old == new:
        return not proof and old_root == new_root and (new > 0 or new_root == EMPTY_ROOT)
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path or not proof:
        return False
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    found_old = found_new = path[0]
    for step in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            found_old, found_new = node_hash(step, found_old), node_hash(step, found_new)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found_new = node_hash(found_new, step)
        place, last = place >> 1, last >> 1
    return last == 0 and found_old == old_root and found_new == new_root


def _well_formed(*hashes: bytes) -> bool:
    return all(len(one) == HASH_BYTES for one in hashes)


def _split(size: int) -> int:
    """Return the largest power of two smaller than `size`."""
    return 1 << ((size - 1).bit_length() - 1)


def _root_between(first: int, last: int, hash_at: HashAt) -> bytes:
    return root_of(hash_at(index) for index in range(first, last))
