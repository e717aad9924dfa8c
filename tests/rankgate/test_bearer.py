"""One credential, one reading: from Authorization values to an unverified token."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes.issuer import FakeIssuer, b64, signing_key
from hypothesis import given, settings
from hypothesis import strategies as st

from rankgate.bearer import TOKEN_BYTES, bearer, read
from rankgate.errors import GateError, Reason

MISSING, AMBIGUOUS, INVALID = Reason.TOKEN_MISSING, Reason.AUTHORIZATION_AMBIGUOUS, Reason.TOKEN_INVALID

HEADERS = {
    "none": ([], MISSING),
    "empty": ([b""], MISSING),
    "scheme alone": ([b"Bearer"], MISSING),
    "another scheme": ([b"Basic c2VhcmNoOnRlc3Q="], MISSING),
    "token without scheme": ([b"aaa.bbb.ccc"], MISSING),
    "scheme run into the token": ([b"Beareraaa.bbb.ccc"], MISSING),
    "two headers": ([b"Bearer a.b.c", b"Bearer a.b.c"], AMBIGUOUS),
    "two headers, one empty": ([b"", b"Bearer a.b.c"], AMBIGUOUS),
    "two schemes": ([b"Basic YTpi", b"Bearer a.b.c"], AMBIGUOUS),
    "comma": ([b"Bearer a.b.c,Bearer d.e.f"], AMBIGUOUS),
    "comma and space": ([b"Basic YTpi, Bearer a.b.c"], AMBIGUOUS),
    "trailing comma": ([b"Bearer a.b.c,"], AMBIGUOUS),
    "two tokens": ([b"Bearer a.b.c d.e.f"], AMBIGUOUS),
    "leading space": ([b" Bearer a.b.c"], AMBIGUOUS),
    "trailing space": ([b"Bearer a.b.c "], AMBIGUOUS),
    "scheme and space": ([b"Bearer "], AMBIGUOUS),
    "two spaces": ([b"Bearer  a.b.c"], AMBIGUOUS),
    "tab": ([b"Bearer\ta.b.c"], AMBIGUOUS),
    "line feed": ([b"Bearer a.b.c\n"], AMBIGUOUS),
    "folded": ([b"Bearer\r\n a.b.c"], AMBIGUOUS),
    "NUL": ([b"Bearer a.b.c\x00"], AMBIGUOUS),
    "not ascii": ([b"Bearer a.b.\xc3\xa7"], INVALID),
    "no-break space": ([b"Bearer\xa0a.b.c"], INVALID),
    "not a b64token": ([b'Bearer "a.b.c"'], INVALID),
    "padding inside": ([b"Bearer a=.b.c"], INVALID),
    "too long": ([b"Bearer " + b"a" * (TOKEN_BYTES + 1)], INVALID),
}


@pytest.mark.parametrize(("values", "reason"), HEADERS.values(), ids=HEADERS)
def test_scenario_29_only_one_plain_bearer_credential_is_read(values: list[bytes], reason: Reason) -> None:
    with pytest.raises(GateError) as refusal:
        bearer(values)
    assert refusal.value.reason is reason


@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER", b"bEaReR"])
def test_scenario_29_the_case_of_the_scheme_does_not_matter(scheme: bytes) -> None:
    assert bearer([scheme + b" a-_.b.c"]) == "a-_.b.c"


@settings(deadline=None)
@given(st.lists(st.binary(max_size=60) | st.binary(max_size=60).map(lambda tail: b"Bearer " + tail), max_size=3))
def test_whatever_the_headers_one_credential_or_a_refusal(values: list[bytes]) -> None:
    try:
        token = bearer(values)
    except GateError:
        return
    assert len(values) == 1
    assert values[0].lower() == b"bearer " + token.encode("ascii").lower()


@pytest.fixture(scope="module")
def issuer() -> FakeIssuer:
    fake = FakeIssuer(clock=lambda: 1_000_000)
    fake.url = "https://issuer.example"
    return fake


def refused(token: str) -> str:
    with pytest.raises(GateError) as refusal:
        read(token)
    assert refusal.value.reason is INVALID
    return refusal.value.detail


def test_a_signed_token_is_read_and_stays_out_of_its_own_repr(issuer: FakeIssuer) -> None:
    token = issuer.mint()
    unverified = read(token)
    assert (unverified.algorithm, unverified.key_id) == ("RS256", "fake-0")
    assert unverified.issuer == "https://issuer.example"
    assert unverified.payload["sub"] == "search"
    assert unverified.signing_input.decode() == token.rpartition(".")[0]
    assert repr(unverified) == "UnverifiedToken(...)"


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", "RS256 ", "rs256", None, 1, ["RS256"], {}])
@pytest.mark.parametrize("signature", ["", "kept", "AAAA"])
def test_scenario_01_alg_none_in_any_casing_is_refused(issuer: FakeIssuer, algorithm: Any, signature: str) -> None:
    head, payload, good = issuer.mint().split(".")
    head = b64(json.dumps({"alg": algorithm, "typ": "at+jwt", "kid": "fake-0"}))
    refused(f"{head}.{payload}.{good if signature == 'kept' else signature}")


def test_scenario_01_a_token_without_alg_or_without_a_signature_is_refused(issuer: FakeIssuer) -> None:
    assert refused(issuer.forge({"alg": None})) == "algorithm"
    assert refused(issuer.mint().rpartition(".")[0] + ".") == "signature"


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512", "PS256", "EdDSA", "RSA-OAEP", "dir"])
def test_an_algorithm_that_is_not_ours_is_refused(issuer: FakeIssuer, algorithm: str) -> None:
    assert refused(issuer.forge({"alg": algorithm})) == "algorithm"


OWN_KEY_HEADERS: dict[str, Any] = {
    "jwk": signing_key("attacker").public,
    "jku": "https://attacker.example/jwks",
    "x5u": "https://attacker.example/cert",
    "x5c": ["MIIB"],
}
OTHER_HEADERS: dict[str, Any] = {"crit": ["exp"], "b64": False, "zip": "DEF", "cty": "JWT"}


@pytest.mark.parametrize("name", OWN_KEY_HEADERS)
def test_scenario_03_a_token_that_brings_its_own_key_is_refused(issuer: FakeIssuer, name: str) -> None:
    assert refused(issuer.forge({name: OWN_KEY_HEADERS[name]}, key=signing_key("attacker"))) == "header"


@pytest.mark.parametrize("name", OTHER_HEADERS)
def test_scenario_06_headers_that_change_the_reading_are_refused(issuer: FakeIssuer, name: str) -> None:
    assert refused(issuer.forge({name: OTHER_HEADERS[name]})) == "header"


def test_scenario_06_jwe_json_serialisation_and_nested_tokens_are_refused(issuer: FakeIssuer) -> None:
    token = issuer.mint()
    head, payload, signature = token.split(".")
    assert refused(f"{head}.{payload}.{signature}.{head}.{payload}") == "not a signed token"
    assert refused(json.dumps({"protected": head, "payload": payload, "signature": signature})) == "not a signed token"
    assert refused(f"{head}.{b64(token)}.{signature}") == "malformed"
    assert refused("..") == "malformed"
    assert refused(f"{head}..{signature}") == "malformed"


def test_scenario_06_bombs_are_refused_before_they_are_parsed(issuer: FakeIssuer) -> None:
    _, payload, signature = issuer.mint().split(".")
    deep = '{"alg":"RS256","x":' + "[" * 5000 + "]" * 5000 + "}"
    assert refused(f"{b64(deep)}.{payload}.{signature}") == "malformed"
    assert refused("." * 16_000) == "not a signed token"
    assert refused("a" * (TOKEN_BYTES + 1)) == "too long"


def test_scenario_10_every_other_spelling_of_a_good_token_is_refused(issuer: FakeIssuer) -> None:
    token = issuer.mint()
    head, payload, signature = token.split(".")
    spellings = {
        f"{head}=.{payload}.{signature}",
        f"{head}.{payload}.{signature}==",
        f"{head}.{payload}.{signature}\n",
        f"{head}.{payload}. {signature}",
        f"{head}.{payload[:8]}!{payload[8:]}.{signature}",
        token.replace("-", "+"),
        token.replace("_", "/"),
        # RSA-2048: 256 bytes leave 4 unused bits in the last letter.
        token[:-1] + chr(ord(token[-1]) + 1),
    } - {token}
    for spelling in spellings:
        refused(spelling)


def test_a_token_with_duplicate_members_is_refused(issuer: FakeIssuer) -> None:
    head, payload, signature = issuer.mint().split(".")
    twice = b64('{"alg":"none","alg":"RS256"}')
    assert refused(f"{twice}.{payload}.{signature}") == "malformed"
    two_issuers = b64('{"iss":"a","iss":"b"}')
    assert refused(f"{head}.{two_issuers}.{signature}") == "malformed"


@pytest.mark.parametrize("key_id", [1, "", None, ["fake-0"], "k" * 129])
def test_a_key_id_that_is_no_short_text_is_refused(issuer: FakeIssuer, key_id: Any) -> None:
    key = issuer.keys[-1]
    assert refused(key.sign({"alg": "RS256", "kid": key_id}, issuer.claims())) == "key id"


@pytest.mark.parametrize("name", [None, 1, "", ["https://issuer.example"], {}])
def test_scenario_07_an_issuer_that_is_no_text_is_refused(issuer: FakeIssuer, name: Any) -> None:
    assert refused(issuer.forge(iss=name)) == "issuer"
