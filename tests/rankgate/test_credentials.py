"""A lent credential shows in no text form, and is recognised by its fingerprint alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankgate.credentials import Lease, Secret, contains, fingerprint, length

KEY = b"k" * 32


def test_no_text_form_of_a_lease_shows_the_credential():
    lease = Lease("authorization", Secret("Bearer sk-upstream-12345"), fingerprint(KEY, "sk-upstream-12345"))
    assert "sk-upstream-12345" not in f"{lease} {lease!r} {lease.value} {[lease]}"


def test_a_fingerprint_of_another_key_recognises_nothing():
    assert not contains(b"o" * 32, fingerprint(KEY, "sk-upstream-12345"), b"sk-upstream-12345")


CREDENTIALS = {
    "sk-upstream-12345": "t",
    "dXNlcjpwYXNzd29yZA==": "t",
    "p@ss{word}$with:signs!": "v",
    '"quoted"-credential"': "v",
}


@pytest.mark.parametrize("credential", CREDENTIALS)
@given(before=st.binary(max_size=60), after=st.binary(max_size=60))
def test_the_credential_is_found_wherever_it_stands(credential, before, after):
    assert contains(KEY, fingerprint(KEY, credential), before + credential.encode() + after)


@pytest.mark.parametrize("credential", CREDENTIALS)
def test_a_fingerprint_tells_the_length_and_the_kind_alone(credential):
    mark = fingerprint(KEY, credential)
    assert length(mark) == len(credential)
    assert mark.startswith(f"{len(credential)}{CREDENTIALS[credential]}")


def test_the_sum_in_a_fingerprint_says_nothing_without_the_key():
    sums = {fingerprint(key, "sk-upstream-12345")[3:7] for key in (b"a" * 32, b"b" * 32, b"c" * 32)}
    assert len(sums) == 3


def test_what_is_no_fingerprint_has_no_length():
    assert [length(mark) for mark in ("", "t", "12:ab", "17t:ab", "17x0000:" + "ab" * 32)] == [0] * 5


@given(st.binary(max_size=200).filter(lambda data: b"sk-upstream-12345" not in data))
def test_nothing_else_is_taken_for_the_credential(data):
    assert not contains(KEY, fingerprint(KEY, "sk-upstream-12345"), data)


def test_an_empty_fingerprint_is_found_nowhere():
    assert not contains(KEY, "", b"anything")
