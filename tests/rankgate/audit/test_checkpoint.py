"""Checkpoints are read strictly, and count only if a key of their deployment signed them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankgate.audit.checkpoint import (
    Checkpoint,
    Kind,
    read_checkpoint,
    read_rotation,
    sign_rotation,
    verify_checkpoint,
)
from rankgate.audit.note import NoteError, Signer, Verifiers, new_signing_key, sign, signers
from rankgate.audit.tree import EMPTY_ROOT, leaf_hash

LOG = "local/ext_authz-0/1790000000000"


def signer(name: str = "default") -> Signer:
    (one,) = signers(new_signing_key(), name)
    return one


ONE, NEXT, OTHER = signer(), signer(), signer("other")
HEAD = Checkpoint("default", LOG, 7, leaf_hash(b"x"), 3, Kind.REGULAR, 1_790_000_000_123)


def test_the_form_is_fixed() -> None:
    root = "PH6byTDck/AfppmF7yQtn56GHzxTVaokzl70tLinDMs="
    assert HEAD.text == f"default/{LOG}\n7\n{root}\nnumber 3\nkind regular\ntime 1790000000123\n"


@given(
    st.integers(1, 2**60), st.binary(min_size=32, max_size=32), st.integers(0, 2**60), st.sampled_from(Kind),
    st.integers(0, 2**60),
)  # fmt: skip
def test_what_was_signed_is_read_again(size: int, root: bytes, number: int, kind: Kind, time: int) -> None:
    made = Checkpoint("default", LOG, size, root, number, kind, time)
    note = made.sign(ONE)
    assert read_checkpoint(note) == made
    assert verify_checkpoint(note, Verifiers([ONE.verifier, OTHER.verifier])) == (made, ONE.verifier)
    assert read_checkpoint(note).note == note


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\n7\n", "\n07\n"), ("\n7\n", "\n-7\n"), ("\n7\n", "\n7 \n"), ("kind regular", "kind other"),
        ("number 3", "number 03"), ("number 3\n", ""), ("kind regular\n", ""), ("time 1", "tim 1"),
        ("default/", "default"), ("default/", "/"), ("default/", "de fault/"), ("=\n", "\n"),
        ("\n7\n", f"\n{10**20}\n"),
        ("number 3\n", "number 3\nextra 1\n"), ("\n7\n", "\n0\n"),
    ],
)  # fmt: skip
def test_any_other_text_is_no_checkpoint_though_it_be_signed(old: str, new: str) -> None:
    assert old in HEAD.text
    note = sign(HEAD.text.replace(old, new, 1), ONE)
    with pytest.raises(NoteError):
        verify_checkpoint(note, Verifiers([ONE.verifier]))


def test_a_root_has_one_way_to_be_written() -> None:
    root = HEAD.text.splitlines()[2]
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    twin = root[:-2] + last[last.index(root[-2]) ^ 1] + "="
    with pytest.raises(NoteError):
        read_checkpoint(sign(HEAD.text.replace(root, twin), ONE))


def test_nothing_but_the_empty_root_goes_with_no_entries() -> None:
    empty = Checkpoint("default", LOG, 0, EMPTY_ROOT, 0, Kind.OPEN, 1)
    assert read_checkpoint(empty.sign(ONE)) == empty


def test_the_key_of_another_deployment_signs_nothing_here() -> None:
    with pytest.raises(NoteError, match="another deployment"):
        verify_checkpoint(HEAD.sign(OTHER), Verifiers([ONE.verifier, OTHER.verifier]))
    with pytest.raises(NoteError, match="no key that is trusted"):
        verify_checkpoint(HEAD.sign(NEXT), Verifiers([ONE.verifier]))


def test_a_new_key_counts_once_the_old_one_and_itself_have_signed_for_it() -> None:
    note = sign_rotation("default", NEXT, ONE, 5)
    rotation = read_rotation(note, Verifiers([ONE.verifier]))
    assert (rotation.key, rotation.by, rotation.time) == (NEXT.verifier, ONE.verifier, 5)


@pytest.mark.parametrize("trusted", [[], [NEXT], [OTHER]])
def test_nobody_else_introduces_a_key(trusted: list[Signer]) -> None:
    note = sign_rotation("default", NEXT, ONE, 5)
    with pytest.raises(NoteError):
        read_rotation(note, Verifiers(one.verifier for one in trusted))


def test_a_key_that_did_not_sign_for_itself_is_not_introduced() -> None:
    text = f"rankgate key rotation\ndefault\n{NEXT.verifier}\ntime 5\n"
    with pytest.raises(NoteError):
        read_rotation(sign(text, ONE), Verifiers([ONE.verifier]))


def test_a_deployment_introduces_keys_of_its_own_only() -> None:
    for deployment, new, old in (("default", OTHER, ONE), ("other", ONE, OTHER), ("default", NEXT, OTHER)):
        with pytest.raises(NoteError):
            read_rotation(sign_rotation(deployment, new, old, 5), Verifiers([ONE.verifier, OTHER.verifier]))


def test_a_checkpoint_is_no_rotation_and_a_rotation_no_checkpoint() -> None:
    with pytest.raises(NoteError):
        read_rotation(HEAD.sign(ONE), Verifiers([ONE.verifier]))
    with pytest.raises(NoteError):
        read_checkpoint(sign_rotation("default", NEXT, ONE, 5))
