"""Signed statements: what the console signed is read, and nothing else is."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rankgate.approvals import Choice, Requirement, Revocation, Signer, Vote, VoteKeys, Voter
from rankgate.approvals.votes import STATEMENT_CHARS

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))
SIGNER = Signer(KEY)
KEYS = VoteKeys([KEY.public_key()])
VOTER = Voter("https://people", "ann", "https://people ann", ("ann@acme.test",), ("risk",))
# The order of the group (RFC 8032 section 5.1): a signature's second half counts modulo this.
ORDER = 2**252 + 27742317777372353535851937790883648493


def a_vote(**changes: Any) -> Vote:
    members: dict[str, Any] = {
        "approval": "apr-1", "record": "r", "use_digest": "u", "plan_digest": "p",
        "requirement": Requirement(("risk",)), "voter": VOTER,
        "choice": Choice.APPROVE, "reason": "fine", "time_ms": 1, "expires_ms": 2,
    }  # fmt: skip
    return Vote(**(members | changes))


REVOCATION = Revocation(person="https://people ann", reason="left", by="bob", time_ms=5)


@pytest.mark.parametrize(
    "vote",
    [
        a_vote(), a_vote(choice=Choice.DENY, reason="ü" * 2000), a_vote(use_from_ms=1, use_until_ms=2),
        a_vote(reason="x"), a_vote(reason="xy"), a_vote(reason="xyz"),
    ],
)  # fmt: skip
def test_a_vote_is_read_as_it_was_signed(vote: Vote) -> None:
    text = SIGNER.sign(vote)
    assert KEYS.vote(text) == vote
    assert KEYS.revocation(text) is None


def test_a_revocation_is_read_as_it_was_signed_and_never_as_a_vote() -> None:
    text = SIGNER.sign(REVOCATION)
    assert KEYS.revocation(text) == REVOCATION
    assert KEYS.vote(text) is None


def test_of_many_statements_the_votes_are_kept_and_the_latest_revocation_of_each_person() -> None:
    later, other = (
        msgspec.structs.replace(REVOCATION, **changes) for changes in ({"time_ms": 6}, {"person": "x", "time_ms": 1})
    )
    texts = [SIGNER.sign(one) for one in (later, REVOCATION, a_vote(), other)]
    texts += ["", "vote", Signer(OTHER).sign(a_vote())]
    for order in (texts, texts[::-1]):
        assert KEYS.votes(order) == [a_vote()]
        assert KEYS.revocations(order) == {REVOCATION.person: later, "x": other}


def test_a_statement_signed_as_one_kind_is_refused_as_the_other_even_with_its_members() -> None:
    key_id, _, signature = SIGNER.sign(a_vote()).split(".")
    payload = SIGNER.sign(REVOCATION).split(".")[1]
    assert KEYS.revocation(f"{key_id}.{payload}.{signature}") is None
    message = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    crossed = base64.urlsafe_b64encode(KEY.sign(b"rankgate vote 1\n" + message)).rstrip(b"=").decode()
    assert KEYS.vote(f"{key_id}.{payload}.{crossed}") is None
    assert KEYS.revocation(f"{key_id}.{payload}.{crossed}") is None


def test_a_flipped_bit_anywhere_is_refused() -> None:
    text = SIGNER.sign(a_vote())
    for place, letter in enumerate(text):
        for bit in range(8):
            changed = text[:place] + chr(ord(letter) ^ (1 << bit)) + text[place + 1 :]
            assert KEYS.vote(changed) is None, (place, bit)


def test_a_missing_added_or_doubled_character_anywhere_is_refused() -> None:
    text = SIGNER.sign(a_vote())
    for place in range(len(text)):
        assert KEYS.vote(text[:place] + text[place + 1 :]) is None
        for more in "A=\n. \u00e9\ud800":
            assert KEYS.vote(text[:place] + more + text[place:]) is None


@pytest.mark.parametrize("part", [1, 2])
def test_another_writing_of_the_same_bytes_is_refused(part: int) -> None:
    tried = 0
    for reason in ("", "x", "xy"):
        parts = SIGNER.sign(a_vote(reason=reason)).split(".")
        data = base64.urlsafe_b64decode(parts[part] + "==")
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        writings = {parts[part][:-1] + last for last in alphabet} | {parts[part] + "=", parts[part] + "=="}
        writings |= {parts[part].replace("-", "+").replace("_", "/")}
        for other in writings - {parts[part]}:
            if base64.urlsafe_b64decode(other + "==") == data:
                tried += 1
                assert KEYS.vote(".".join([*parts[:part], other, *parts[part + 1 :]])) is None
    assert tried > 0


def test_a_signature_moved_by_the_order_of_the_group_is_refused() -> None:
    key_id, payload, signature = SIGNER.sign(a_vote()).split(".")
    data = base64.urlsafe_b64decode(signature + "==")
    moved = (int.from_bytes(data[32:], "little") + ORDER).to_bytes(32, "little")
    other = base64.urlsafe_b64encode(data[:32] + moved).rstrip(b"=").decode()
    assert KEYS.vote(f"{key_id}.{payload}.{other}") is None


def test_a_key_that_is_not_ours_counts_for_nothing_under_any_name() -> None:
    text = Signer(OTHER).sign(a_vote())
    assert KEYS.vote(text) is None
    _, rest = text.split(".", 1)
    assert KEYS.vote(f"{SIGNER.key_id}.{rest}") is None
    assert VoteKeys([]).vote(SIGNER.sign(a_vote())) is None


def test_while_keys_are_exchanged_both_count() -> None:
    both = VoteKeys([KEY.public_key(), OTHER.public_key()])
    assert both.vote(SIGNER.sign(a_vote())) == both.vote(Signer(OTHER).sign(a_vote())) == a_vote()


def test_a_statement_of_any_length_is_refused_above_the_limit() -> None:
    overhead = len(SIGNER.sign(a_vote(reason="")))
    fits = a_vote(reason="x" * ((STATEMENT_CHARS - overhead) * 3 // 4 - 3))
    assert KEYS.vote(SIGNER.sign(fits)) == fits
    assert KEYS.vote(SIGNER.sign(a_vote(reason="x" * STATEMENT_CHARS))) is None


@pytest.mark.parametrize("payload", [b"", b"null", b"{}", b'{"type":"vote"}', b"\xff", b"[" * 40_000])
def test_what_is_signed_but_no_vote_is_none(payload: bytes) -> None:
    def text(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    signature = KEY.sign(b"rankgate vote 1\n" + payload)
    assert KEYS.vote(f"{SIGNER.key_id}.{text(payload)}.{text(signature)}") is None


@pytest.mark.parametrize("text", ["", ".", "..", "...", "x", "vote", "\ud800", "\x00.\x00.\x00"])
def test_garbage_is_no_statement(text: str) -> None:
    assert KEYS.vote(text) is None and KEYS.vote(f"{SIGNER.key_id}.{text}") is None and KEYS.revocation(text) is None


def test_a_signer_shows_its_key_by_name_alone() -> None:
    assert repr(SIGNER) == f"Signer({SIGNER.key_id})" and len(SIGNER.key_id) == 16
