"""A lent credential shows in no text form, and is recognised by its fingerprint alone."""

from hypothesis import given
from hypothesis import strategies as st

from rankgate.credentials import Lease, Secret, contains, fingerprint

KEY = b"k" * 32


def test_no_text_form_of_a_lease_shows_the_credential():
    lease = Lease("authorization", Secret("Bearer sk-upstream-12345"), fingerprint(KEY, "sk-upstream-12345"))
    assert "sk-upstream-12345" not in f"{lease} {lease!r} {lease.value} {[lease]}"


def test_a_fingerprint_of_another_key_recognises_nothing():
    assert not contains(b"o" * 32, fingerprint(KEY, "sk-upstream-12345"), b"sk-upstream-12345")


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_the_credential_is_found_wherever_it_stands(before, after):
    assert contains(KEY, fingerprint(KEY, "sk-upstream-12345"), before + b"sk-upstream-12345" + after)


@given(st.binary(max_size=200).filter(lambda data: b"sk-upstream-12345" not in data))
def test_nothing_else_is_taken_for_the_credential(data):
    assert not contains(KEY, fingerprint(KEY, "sk-upstream-12345"), data)


def test_an_empty_fingerprint_is_found_nowhere():
    assert not contains(KEY, "", b"anything")
