"""Signed notes: the published example verifies, and nothing that differs from what was signed does."""

from __future__ import annotations

import base64
import contextlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from rankgate.audit.note import NoteError, Signer, Verifier, Verifiers, new_signing_key, sign, signers, split

# The example of golang.org/x/mod/sumdb/note.
NEUMANN = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
SAID = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
NOTE = (
    f"{SAID}\n— PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def signer(name: str = "default") -> Signer:
    (one,) = signers(new_signing_key(), name)
    return one


ONE, OTHER = signer(), signer()


def test_the_published_note_verifies() -> None:
    key = Verifier.parse(NEUMANN)
    assert str(key) == NEUMANN
    assert Verifiers([key]).verified(NOTE) == (SAID, (key,))


@pytest.mark.parametrize(
    "text",
    [
        "", "PeterNeumann", NEUMANN + "\n", NEUMANN.replace("c74f20a3", "c74f20a4"), NEUMANN.replace("c7", "C7"),
        NEUMANN.replace("Peter", "Paul"), NEUMANN[:-4], NEUMANN.replace("+ARpc", "+AhpC"), " " + NEUMANN,
    ],
)  # fmt: skip
def test_what_is_no_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="verifier key"):
        Verifier.parse(text)


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])))
def test_what_was_signed_comes_back(text: str) -> None:
    note = sign(f"{text}\n", ONE, OTHER)
    assert Verifiers([OTHER.verifier, ONE.verifier]).verified(note) == (f"{text}\n", (ONE.verifier, OTHER.verifier))
    assert Verifiers([OTHER.verifier]).verified(note) == (f"{text}\n", (OTHER.verifier,))


@given(st.data())
def test_a_note_with_any_character_changed_is_refused(data: st.DataObject) -> None:
    note = sign("origin\n7\nroot\n", ONE)
    place = data.draw(st.integers(0, len(note) - 1))
    character = data.draw(st.characters(exclude_categories=["Cs"]))
    changed = note[:place] + character + note[place + 1 :]
    if changed != note:
        with pytest.raises(NoteError):
            Verifiers([ONE.verifier]).verified(changed)


def test_a_bad_signature_of_a_trusted_key_spoils_the_note_a_strangers_does_not() -> None:
    note = sign("text\n", ONE)
    forged = OTHER.line("another text\n")
    assert Verifiers([ONE.verifier]).verified(note + forged) == ("text\n", (ONE.verifier,))
    with pytest.raises(NoteError, match="does not hold"):
        Verifiers([ONE.verifier, OTHER.verifier]).verified(note + forged)


def test_a_note_of_strangers_is_refused() -> None:
    with pytest.raises(NoteError, match="no key that is trusted"):
        Verifiers([OTHER.verifier]).verified(sign("text\n", ONE))
    with pytest.raises(NoteError, match="no key that is trusted"):
        Verifiers([signer("other").verifier]).verified(sign("text\n", ONE))


@pytest.mark.parametrize(
    "note",
    [
        "", "\n", "text\n", "text\n\n", "text\n\n— name\n", "text\n\n- name AAAAAAA=\n", "text\n\n— na+me AAAAAAA=\n",
        "text\n\n— name AAAA\n", "text\n\n— name AAAAAAA=", "te\rxt\n\n— name AAAAAAA=\n", "text\n\n— name AAAAAAB=\n",
        "x" * 70_000 + "\n\n— name AAAAAAA=\n", "text\n\n" + "— name AAAAAAA=\n" * 17,
    ],
)  # fmt: skip
def test_what_is_no_note_is_refused(note: str) -> None:
    with pytest.raises(NoteError):
        split(note)


@given(st.text())
def test_any_text_is_a_note_or_refused(text: str) -> None:
    with contextlib.suppress(NoteError):
        split(text)


@pytest.mark.parametrize("text", ["", "no end", "a\rb\n", "a\x00\n"])
def test_what_cannot_be_the_text_of_a_note_is_not_signed(text: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        sign(text, ONE)


def test_keys_are_read_in_order_and_never_shown() -> None:
    pem = new_signing_key() + b"a remark\n" + new_signing_key()
    first, second = signers(pem, "default")
    assert first.verifier != second.verifier
    assert Verifier.parse(str(first.verifier)) == first.verifier
    assert "Ed25519" not in repr(first)


@pytest.mark.parametrize(
    "pem",
    [
        b"", b"text", new_signing_key()[:-40], new_signing_key() * 17,
        generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        b"-----BEGIN PRIVATE KEY-----\n" + base64.b64encode(b"x" * 40) + b"\n-----END PRIVATE KEY-----\n",
    ],
)  # fmt: skip
def test_what_holds_no_key_is_refused(pem: bytes) -> None:
    with pytest.raises(ValueError, match="no Ed25519 private key"):
        signers(pem, "default")


def test_a_key_that_is_there_twice_and_a_name_that_is_none_are_refused() -> None:
    pem = new_signing_key()
    with pytest.raises(ValueError, match="twice"):
        signers(pem * 2, "default")
    for name in ("", "a b", "a+b"):
        with pytest.raises(ValueError, match="name"):
            signers(pem, name)
