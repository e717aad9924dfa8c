"""A gate signs with the first key of its file, and publishes all of them, never a private part."""

import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from fakes.lending import grant
from jose import jwt

from rankgate.minting import MintingKeys, claims, new_key
from rankgate.strict import base64url


def pem(key, form=PrivateFormat.PKCS8, lock=None):
    return key.private_bytes(Encoding.PEM, form, lock or NoEncryption())


def public_pem(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def p256():
    return ec.generate_private_key(ec.SECP256R1())


ONE, TWO = p256(), p256()


def test_the_first_key_signs_and_all_are_published_in_their_order():
    keys = MintingKeys.read(b"made for a test\n" + pem(ONE) + pem(TWO, PrivateFormat.TraditionalOpenSSL))
    token = keys.sign({"a": "ü"})
    published = json.loads(keys.jwks)["keys"]
    assert len(published) == 2
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "typ": "JWT", "kid": published[0]["kid"]}
    assert jwt.decode(token, published[0], ["ES256"]) == {"a": "ü"}
    with pytest.raises(Exception, match="failed"):
        jwt.decode(token, published[1], ["ES256"])


def test_a_key_that_only_publishes_may_be_public():
    alone = MintingKeys.read(pem(TWO))
    both = MintingKeys.read(pem(ONE) + public_pem(TWO))
    assert both.public[1] == alone.public[0]


def test_what_is_published_is_public_and_named_by_its_rfc_7638_thumbprint():
    (key,) = MintingKeys.read(pem(ONE)).public
    assert set(key) == {"kty", "crv", "x", "y", "kid", "alg", "use"}
    canonical = f'{{"crv":"P-256","kty":"EC","x":"{key["x"]}","y":"{key["y"]}"}}'
    assert base64url(key["kid"]) == hashlib.sha256(canonical.encode()).digest()


def test_no_text_form_of_the_keys_shows_one():
    keys = MintingKeys.read(pem(ONE))
    assert "PrivateKey" not in repr(keys)
    assert keys.public[0]["x"] not in repr(keys)


def test_the_curves_name_that_openssl_writes_first_is_passed_over():
    curve = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    assert (
        MintingKeys.read(curve + pem(ONE, PrivateFormat.TraditionalOpenSSL)).public == MintingKeys.read(pem(ONE)).public
    )


def test_a_new_key_is_one_that_can_be_read():
    assert MintingKeys.read(new_key()).public != MintingKeys.read(new_key()).public


UNFIT = {
    "nothing": b"",
    "text": b"no key here",
    "public first": public_pem(ONE) + pem(TWO),
    "rsa": pem(rsa.generate_private_key(public_exponent=65537, key_size=2048)),
    "another curve": pem(ec.generate_private_key(ec.SECP384R1())),
    "another curve behind": pem(ONE) + pem(ec.generate_private_key(ec.SECP384R1())),
    "with a password": pem(ONE, lock=BestAvailableEncryption(b"password")),
    "damaged": pem(ONE).replace(b"M", b"A", 3),
    "a certificate": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" + pem(ONE),
    "twice the same": pem(ONE) + public_pem(ONE),
    "too many": b"".join(pem(p256()) for _ in range(17)),
    "too large": pem(ONE) + b" " * 70_000,
}


@pytest.mark.parametrize("content", UNFIT.values(), ids=UNFIT)
def test_what_cannot_sign_or_be_published_is_refused_whole(content):
    with pytest.raises(ValueError) as caught:
        MintingKeys.read(content)
    assert caught.value.__cause__ is None


def test_the_claims_are_those_of_one_request():
    found = claims(grant(), issuer="https://gate.example", audience="engine", lifetime_s=30, now=1000)
    assert found == {
        "iss": "https://gate.example",
        "aud": "engine",
        "sub": "search-svc",
        "sub_id": {"format": "iss_sub", "iss": "https://issuer.example", "sub": "search-svc"},
        "tenant": "acme",
        "iat": 1000,
        "exp": 1030,
        "jti": "dec-1",
        "auth_req": "ab" * 32,
    }
