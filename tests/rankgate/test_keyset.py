"""Only keys that are good enough are loaded, and one odd key never takes the others down."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from fakes.issuer import b64, signing_key
from hypothesis import given, settings
from hypothesis import strategies as st
from jose import jwk

from rankgate.errors import GateError, Reason
from rankgate.keyset import SET_BYTES, KeySet, admit

ALGORITHMS = ("RS256", "ES256")
RSA_KEY = signing_key("rsa").public
EC_KEY = signing_key("ec", "ES256").public
SIGNED = b"header.payload"


def load(*keys: Any, algorithms: tuple[str, ...] = ALGORITHMS) -> KeySet:
    return admit(json.dumps({"keys": keys}).encode(), algorithms)


def refused(document: bytes) -> str:
    with pytest.raises(GateError) as refusal:
        admit(document, ALGORITHMS)
    assert refusal.value.reason is Reason.KEYS_UNAVAILABLE
    return refusal.value.detail


def without(key: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in key.items() if name not in names}


def rsa_jwk(bits: int, exponent: int = 65537) -> dict[str, Any]:
    public = rsa.generate_private_key(public_exponent=exponent, key_size=bits).public_key()
    members: dict[str, Any] = jwk.construct(public, "RS256").to_dict()
    return {**members, "kid": "odd"}


def private_jwk() -> dict[str, Any]:
    members: dict[str, Any] = jwk.construct(ec.generate_private_key(ec.SECP256R1()), "ES256").to_dict()
    return {**members, "kid": "odd"}


ODD_KEYS = {
    "a secret": ({"kty": "oct", "k": b64("secret"), "kid": "odd"}, "symmetric"),
    "a secret without a value": ({"kty": "oct", "kid": "odd"}, "symmetric"),
    "a private key": (private_jwk(), "private"),
    "RSA-1024": (rsa_jwk(1024), "rsa_size"),
    "RSA of 8 KiB": ({**RSA_KEY, "kid": "odd", "n": b64(b"\xff" * 8192)}, "rsa_size"),
    "exponent 3": (rsa_jwk(2048, exponent=3), "rsa_exponent"),
    "a long exponent": ({**RSA_KEY, "kid": "odd", "e": b64(b"\x01" + b"\x00" * 3 + b"\x01")}, "rsa_exponent"),
    "even exponent": ({**RSA_KEY, "kid": "odd", "e": b64(b"\x01\x00\x02")}, "malformed"),
    "secp256k1": ({**EC_KEY, "kid": "odd", "crv": "secp256k1"}, "curve"),
    "no curve": (without({**EC_KEY, "kid": "odd"}, "crv"), "curve"),
    "off the curve": ({**EC_KEY, "kid": "odd", "y": EC_KEY["x"]}, "malformed"),
    "a coordinate with a zero too many": (
        {**EC_KEY, "kid": "odd", "x": b64(b"\x00" + base64.urlsafe_b64decode(EC_KEY["x"] + "="))},
        "malformed",
    ),
    "Ed25519": ({"kty": "OKP", "crv": "Ed25519", "x": b64(b"\x01" * 32), "kid": "odd"}, "kty"),
    "a type to come": ({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA", "kid": "odd"}, "kty"),
    "no type": (without({**RSA_KEY, "kid": "odd"}, "kty"), "kty"),
    "a list as type": ({**RSA_KEY, "kid": "odd", "kty": ["RSA"]}, "kty"),
    "for encryption": ({**RSA_KEY, "kid": "odd", "use": "enc"}, "use"),
    "use null": ({**RSA_KEY, "kid": "odd", "use": None}, "use"),
    "key_ops without verify": ({**RSA_KEY, "kid": "odd", "key_ops": ["encrypt"]}, "key_ops"),
    "key_ops as text": ({**RSA_KEY, "kid": "odd", "key_ops": "verify"}, "key_ops"),
    "for an algorithm not accepted": ({**RSA_KEY, "kid": "odd", "alg": "RS512"}, "algorithm"),
    "for another family": ({**RSA_KEY, "kid": "odd", "alg": "ES256"}, "algorithm"),
    "a curve not accepted": (
        {"kty": "EC", "crv": "P-384", "x": b64(b"\x01" * 48), "y": b64(b"\x01" * 48), "kid": "odd"},
        "algorithm",
    ),
    "padded": ({**RSA_KEY, "kid": "odd", "n": RSA_KEY["n"] + "=="}, "malformed"),
    "no modulus": (without({**RSA_KEY, "kid": "odd"}, "n"), "malformed"),
    "a number as modulus": ({**RSA_KEY, "kid": "odd", "n": 5}, "malformed"),
    "a number as id": ({**RSA_KEY, "kid": 5}, "kid"),
    "no id beside others": (without(RSA_KEY, "kid"), "kid"),
    "text": ("key", "malformed"),
    "null": (None, "malformed"),
}


@pytest.mark.parametrize(("odd", "word"), ODD_KEYS.values(), ids=ODD_KEYS)
def test_scenario_12_an_odd_key_is_dropped_and_counted_and_the_others_stay(odd: Any, word: str) -> None:
    for keys in ([odd, RSA_KEY, EC_KEY], [RSA_KEY, EC_KEY, odd]):
        loaded = load(*keys)
        assert dict(loaded.dropped) == {word: 1}
        assert [key.key_id for key in loaded.keys] == ["rsa", "ec"]
        assert not loaded.knows("odd")


def test_scenario_12_both_keys_of_a_duplicate_id_are_dropped() -> None:
    loaded = load(RSA_KEY, {**EC_KEY, "kid": "rsa"}, {**EC_KEY, "kid": "good"})
    assert dict(loaded.dropped) == {"duplicate_kid": 2}
    assert [key.key_id for key in loaded.keys] == ["good"]


def test_a_set_without_a_good_key_is_refused_as_a_whole() -> None:
    assert refused(b'{"keys": []}') == "key set empty"
    assert refused(
        json.dumps(
            {"keys": [odd for odd, _ in ODD_KEYS.values() if odd != ODD_KEYS["no id beside others"][0]]}
        ).encode()
    ) == ("key set empty")


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<html></html>",
        b"[]",
        b"null",
        b"{}",
        b'{"error": "x"}',
        b'{"keys": {}}',
        b'{"keys": [], "keys": []}',
        b"\xff",
    ],
)
def test_what_is_no_key_set_is_refused(document: bytes) -> None:
    assert refused(document) == "key set malformed"


def test_a_set_beyond_its_bounds_is_refused() -> None:
    good = json.dumps({"keys": [RSA_KEY]}).encode()
    assert len(admit(good + b" " * (SET_BYTES - len(good)), ALGORITHMS).keys) == 1
    assert refused(good + b" " * (SET_BYTES + 1 - len(good))) == "key set too large"
    many = [{**EC_KEY, "kid": str(number)} for number in range(65)]
    assert len(load(*many[:64]).keys) == 64
    assert refused(json.dumps({"keys": many}).encode()) == "key set too long"


def test_a_key_is_selected_by_id_and_algorithm() -> None:
    loaded = load(RSA_KEY, EC_KEY)
    assert (rsa_key := loaded.select("rsa", "RS256")) is not None
    assert (ec_key := loaded.select("ec", "ES256")) is not None
    assert (rsa_key.key_id, ec_key.key_id) == ("rsa", "ec")
    assert loaded.select("rsa", "ES256") is None
    assert loaded.select("ec", "RS256") is None
    assert loaded.select("rsa", "RS512") is None
    assert loaded.select("other", "RS256") is None
    assert loaded.select(None, "RS256") is None


def test_only_a_lone_key_serves_a_token_without_key_id() -> None:
    lone = load(without(RSA_KEY, "kid"))
    assert lone.select(None, "RS256") is not None
    assert lone.select(None, "ES256") is None
    assert lone.select("rsa", "RS256") is None
    assert load(RSA_KEY).select(None, "RS256") is not None
    # The algorithm must not decide between two keys either.
    assert load(RSA_KEY, EC_KEY).select(None, "ES256") is None


def test_a_key_without_alg_serves_every_accepted_algorithm_of_its_type() -> None:
    loaded = load(without(RSA_KEY, "alg"), algorithms=("RS256", "RS512", "ES256"))
    assert set(loaded.keys[0].by_algorithm) == {"RS256", "RS512"}


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 255, 256, 257, 4096])
def test_a_junk_signature_of_any_length_is_no_error_and_no_signature(size: int) -> None:
    for key, algorithm in zip(load(RSA_KEY, EC_KEY).keys, ALGORITHMS, strict=True):
        assert key.verifies(algorithm, SIGNED, b"\x00" * size) is False
        assert key.verifies(algorithm, SIGNED, b"\xff" * size) is False


def test_a_thumbprint_follows_the_key_and_not_its_id() -> None:
    loaded = load(RSA_KEY)
    assert loaded.holds(load({**RSA_KEY, "kid": "renamed"}).keys[0].thumbprint)
    assert not loaded.holds(load(EC_KEY).keys[0].thumbprint)


MEMBERS = st.sampled_from(["kty", "kid", "use", "alg", "key_ops", "crv", "n", "e", "x", "y", "d"])
VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(max_size=5)
    | st.lists(st.text(max_size=6), max_size=2)
)


@settings(deadline=None)
@given(st.sampled_from([RSA_KEY, EC_KEY]), st.dictionaries(MEMBERS, VALUES, max_size=4))
def test_whatever_one_key_holds_the_other_key_stays(key: dict[str, Any], changes: dict[str, Any]) -> None:
    other = {**EC_KEY, "kid": "other"}
    loaded = load({**key, **changes}, other)
    assert loaded.knows("other") or changes.get("kid") == "other"
