"""Every claim is checked on its issuer's terms, at the second, before a token's word is taken for anything."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from fakes.issuer import FakeIssuer, b64, signing_key
from hypothesis import given, settings
from hypothesis import strategies as st
from jose import jwk

from rankgate.bearer import read
from rankgate.claims import Claims, IssuerTerms, UnknownKeyError, verify
from rankgate.errors import GateError, Reason, SettingsError
from rankgate.keyset import KeySet, admit
from rankgate.settings import IssuerSettings

NOW = 1_800_000_000
LEEWAY = 30
URL = "https://issuer.example"


@pytest.fixture(scope="module")
def issuer() -> FakeIssuer:
    fake = FakeIssuer(clock=lambda: NOW)
    fake.url = URL
    return fake


def terms(**changes: Any) -> IssuerTerms:
    return IssuerTerms.of(
        IssuerSettings.model_validate(
            {"issuer": URL, "audiences": ("rerank", "rerank-eu"), "leeway_s": LEEWAY} | changes
        )
    )


def keys_of(*issuers: FakeIssuer) -> KeySet:
    published = [key.public for issuer in issuers for key in issuer.keys]
    return admit(json.dumps({"keys": published}).encode(), ("RS256", "ES256"))


def judge(
    token: str, issuer: FakeIssuer, *, route: tuple[str, ...] = (), now: float = NOW, **changes: Any
) -> Claims | str | GateError:
    """Return the claims, or the word for why the token is invalid; any other refusal as it is."""
    try:
        return verify(read(token), keys_of(issuer), terms(**changes), route, now)
    except GateError as refusal:
        return refusal.detail if refusal.reason is Reason.TOKEN_INVALID else refusal


def test_a_good_token_becomes_claims(issuer: FakeIssuer) -> None:
    claims = judge(issuer.mint(jti="one"), issuer)
    assert isinstance(claims, Claims)
    assert (claims.issuer, claims.expires, claims.token_id) == (URL, NOW + 300, "one")
    assert claims.payload["sub"] == "search"
    assert "search" not in repr(claims)


def public_key_forms(issuer: FakeIssuer) -> dict[str, bytes]:
    public = issuer.keys[-1].public
    pem: bytes = jwk.construct(public, "RS256").to_pem()
    key = load_pem_public_key(pem)
    return {
        "pem": pem,
        "pem without line end": pem.strip(),
        "pkcs1 pem": key.public_bytes(Encoding.PEM, PublicFormat.PKCS1),
        "der": key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "pkcs1 der": key.public_bytes(Encoding.DER, PublicFormat.PKCS1),
        "ssh": key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        "jwk": json.dumps(public).encode(),
        "modulus": base64.urlsafe_b64decode(public["n"] + "=="),
        "modulus text": public["n"].encode(),
        "nothing": b"",
    }


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_scenario_02_hmac_keyed_by_our_public_key_is_refused(issuer: FakeIssuer, algorithm: str) -> None:
    import hashlib
    import hmac

    for secret in public_key_forms(issuer).values():
        header = {"alg": algorithm, "typ": "at+jwt", "kid": issuer.keys[-1].id}
        signed = f"{b64(json.dumps(header))}.{b64(json.dumps(issuer.claims()))}"
        digest = hmac.new(secret, signed.encode(), hashlib.new(f"sha{algorithm[2:]}").name).digest()
        assert judge(f"{signed}.{b64(digest)}", issuer) == "algorithm"
        # The same bytes under the algorithm the key is for.
        as_rsa = f"{b64(json.dumps({**header, 'alg': 'RS256'}))}.{signed.split('.')[1]}"
        assert judge(f"{as_rsa}.{b64(digest)}", issuer) == "signature"


def test_a_token_signed_by_another_key_is_refused(issuer: FakeIssuer) -> None:
    attacker = signing_key("attacker")
    assert judge(issuer.forge({"kid": "fake-0"}, key=attacker), issuer) == "signature"
    assert judge(issuer.forge({"kid": None}, key=attacker), issuer) == "signature"


def test_a_changed_token_is_refused(issuer: FakeIssuer) -> None:
    head, _, signature = issuer.mint().split(".")
    other = b64(json.dumps(issuer.claims(sub="admin")))
    assert judge(f"{head}.{other}.{signature}", issuer) == "signature"


def test_scenario_04_an_unknown_key_id_is_told_apart_only_for_a_token_good_otherwise(issuer: FakeIssuer) -> None:
    with pytest.raises(UnknownKeyError):
        verify(read(issuer.forge({"kid": "unknown"})), keys_of(issuer), terms(), (), NOW)
    assert judge(issuer.forge({"kid": "unknown"}, exp=NOW - 3000, iat=NOW - 3300), issuer) == "expired"
    assert judge(issuer.forge({"kid": "unknown"}, aud="other"), issuer) == "audience"


def test_a_key_id_is_required_where_the_issuer_has_two_keys() -> None:
    two = FakeIssuer(clock=lambda: NOW)
    two.url = URL
    two.rotate()
    assert isinstance(judge(two.mint(), two), Claims)
    assert judge(two.forge({"kid": None}), two) == "key"


def test_scenario_05_a_key_of_another_issuer_is_no_key(issuer: FakeIssuer) -> None:
    other = FakeIssuer("other", clock=lambda: NOW)
    other.url = "https://other.example"
    assert judge(issuer.forge(key=other.keys[-1]), issuer) == "key unknown"
    assert judge(other.mint(), issuer) == "issuer"


def test_an_algorithm_serves_only_the_key_type_it_is_for(issuer: FakeIssuer) -> None:
    assert judge(issuer.forge({"alg": "ES256"}), issuer) == "key"
    assert judge(issuer.forge({"alg": "RS512"}), issuer) == "algorithm"
    assert judge(issuer.mint(), issuer, algorithms=("ES256",)) == "algorithm"


TEXT_TIMES = ["1800000300", "１８０００００３００", "1_800_000_300", "٩٩٩٩٩٩٩٩٩٩"]
NOT_TIMES: list[Any] = [None, True, False, 1_800_000_300.0, 1.8e9, -1, [], {}, [NOW], *TEXT_TIMES]


@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("value", NOT_TIMES, ids=repr)
def test_scenario_07_a_time_that_is_no_whole_number_is_refused(issuer: FakeIssuer, name: str, value: Any) -> None:
    claims = {**issuer.claims(), name: value}
    key = issuer.keys[-1]
    assert judge(key.sign({"alg": "RS256", "typ": "at+jwt", "kid": key.id}, claims), issuer) == name


@pytest.mark.parametrize(
    ("name", "why"), [("exp", "exp"), ("iat", "iat"), ("iss", "issuer"), ("sub", "subject"), ("aud", "audience")]
)
def test_scenario_07_a_token_without_a_required_claim_is_refused(issuer: FakeIssuer, name: str, why: str) -> None:
    assert judge(issuer.mint(**{name: None}), issuer) == why


BOUNDARIES: list[tuple[dict[str, Any], str]] = [
    ({"exp": NOW - LEEWAY + 1, "iat": NOW - 100}, ""),
    ({"exp": NOW - LEEWAY, "iat": NOW - 100}, "expired"),
    ({"exp": NOW - LEEWAY - 1, "iat": NOW - 100}, "expired"),
    ({"iat": NOW + LEEWAY}, ""),
    ({"iat": NOW + LEEWAY + 1}, "not yet valid"),
    ({"nbf": NOW + LEEWAY}, ""),
    ({"nbf": NOW + LEEWAY + 1}, "not yet valid"),
    ({"nbf": 0}, ""),
    ({"iat": NOW, "exp": NOW + 3600}, ""),
    ({"iat": NOW, "exp": NOW + 3601}, "lifetime"),
    ({"iat": NOW, "exp": NOW}, "lifetime"),
    ({"iat": NOW + 20, "exp": NOW + 10}, "lifetime"),
    ({"iat": NOW - 86_400 * 365}, "lifetime"),
]


@pytest.mark.parametrize(("claims", "why"), BOUNDARIES, ids=lambda case: json.dumps(case))
def test_scenario_07_times_are_judged_to_the_second(issuer: FakeIssuer, claims: dict[str, Any], why: str) -> None:
    verdict = judge(issuer.mint(**claims), issuer)
    assert verdict == why if why else isinstance(verdict, Claims)


def test_scenario_07_a_fraction_of_a_second_decides_at_the_boundary(issuer: FakeIssuer) -> None:
    token = issuer.mint(exp=NOW, iat=NOW - 100)
    assert isinstance(judge(token, issuer, now=NOW + LEEWAY - 0.001), Claims)
    assert judge(token, issuer, now=float(NOW + LEEWAY)) == "expired"


NOT_AUDIENCES: list[Any] = [
    "", "rerank ", "Rerank", "rerank/", "rer", "rerank rerank-eu", [], ["other"], [["rerank"]], [None],
    ["rerank", 1], ["rerank", None], {"rerank": True}, 1, True,
]  # fmt: skip


@pytest.mark.parametrize("audience", NOT_AUDIENCES, ids=repr)
def test_scenario_07_an_audience_counts_only_as_an_exact_member(issuer: FakeIssuer, audience: Any) -> None:
    assert judge(issuer.mint(aud=audience), issuer) == "audience"


@pytest.mark.parametrize("audience", ["rerank", ["rerank"], ["other", "rerank"]], ids=repr)
def test_an_audience_may_be_one_text_or_a_list(issuer: FakeIssuer, audience: Any) -> None:
    assert isinstance(judge(issuer.mint(aud=audience), issuer), Claims)


def test_a_routes_audiences_narrow_the_issuers_and_never_widen_them(issuer: FakeIssuer) -> None:
    eu = issuer.mint(aud="rerank-eu")
    assert isinstance(judge(eu, issuer), Claims)
    assert isinstance(judge(eu, issuer, route=("rerank-eu",)), Claims)
    assert judge(eu, issuer, route=("rerank",)) == "audience"
    assert judge(issuer.mint(aud="of-another-issuer"), issuer, route=("of-another-issuer",)) == "audience"


@pytest.mark.parametrize("name", [f"{URL}/", URL.upper(), "https://issuer.example:443", "issuer.example"])
def test_scenario_07_an_issuer_counts_only_exactly(issuer: FakeIssuer, name: str) -> None:
    assert judge(issuer.mint(iss=name), issuer) == "issuer"


@pytest.mark.parametrize(
    "subject", ["", 1, True, [], ["search"], {}, "a\nb", "a\x1b[31m", "a\u2028b", "\u202ea", "a" * 257]
)
def test_scenario_60_a_subject_is_a_short_printable_text(issuer: FakeIssuer, subject: Any) -> None:
    assert judge(issuer.mint(sub=subject), issuer) == "subject"


@pytest.mark.parametrize("token_id", ["", 1, [], "a\r\nb", "a" * 257])
def test_a_token_id_is_a_short_printable_text(issuer: FakeIssuer, token_id: Any) -> None:
    assert judge(issuer.mint(jti=token_id), issuer) == "token id"


TYPES: list[tuple[Any, bool]] = [
    ("at+jwt", True), ("AT+JWT", True), ("application/at+jwt", True), ("JWT", True), ("jwt", True),
    ("logout+jwt", False), ("secevent+jwt", False), ("dpop+jwt", False), ("application/jwt+x", False),
    ("at+jwt ", False), ("", False), (None, False), (1, False), (["at+jwt"], False),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "good"), TYPES, ids=repr)
def test_scenario_08_the_type_is_one_of_the_issuers(issuer: FakeIssuer, kind: Any, good: bool) -> None:
    verdict = judge(issuer.forge({"typ": kind}), issuer)
    assert isinstance(verdict, Claims) if good else verdict == "type"


def test_a_token_without_type_is_accepted_only_where_that_is_configured(issuer: FakeIssuer) -> None:
    assert isinstance(judge(issuer.forge({"typ": None}), issuer, typ=("",)), Claims)
    assert judge(issuer.mint(), issuer, typ=("",)) == "type"


def test_configured_types_are_compared_as_tokens_types_are(issuer: FakeIssuer) -> None:
    assert isinstance(judge(issuer.mint(), issuer, typ=("application/AT+JWT",)), Claims)


FOREIGN: list[dict[str, Any]] = [
    {"nonce": "n-0S6_WzA2Mj"},
    {"at_hash": "77QmUPtjPfzWtF2AnpK9RQ"},
    {"c_hash": "LDktKdoQak3Pk0cnXxCltA"},
    {"s_hash": "LDktKdoQak3Pk0cnXxCltA"},
    {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}},
    {"typ": "ID"},
    {"typ": "Logout"},
    {"typ": "Refresh"},
    {"typ": 1},
    {"token_use": "id"},
    {"token_use": ["access"]},
]


@pytest.mark.parametrize("marks", FOREIGN, ids=lambda marks: next(iter(marks)))
def test_scenario_08_what_is_marked_as_no_access_token_is_refused(issuer: FakeIssuer, marks: dict[str, Any]) -> None:
    assert judge(issuer.forge({"typ": "JWT"}, **marks), issuer) == "kind"


def test_scenario_08_a_logout_token_with_only_a_session_is_refused(issuer: FakeIssuer) -> None:
    assert judge(issuer.forge({"typ": "JWT"}, sub=None, sid="08a5019c"), issuer) == "subject"


@pytest.mark.parametrize("marks", [{"typ": "Bearer"}, {"token_use": "access"}])
def test_the_marks_of_access_tokens_are_accepted(issuer: FakeIssuer, marks: dict[str, Any]) -> None:
    assert isinstance(judge(issuer.forge({"typ": "JWT"}, **marks), issuer), Claims)


@pytest.mark.parametrize(("skew", "why"), [(600, "expired"), (-600, "not yet valid")])
def test_scenario_14_a_gate_ten_minutes_off_judges_by_its_own_clock(issuer: FakeIssuer, skew: int, why: str) -> None:
    assert judge(issuer.mint(), issuer, now=NOW + skew) == why


@pytest.mark.parametrize("path", ["", ".", "a.", ".a", "a..b", "a\\", "a\\b"])
def test_a_claim_path_that_names_nothing_is_refused_at_the_start(path: str) -> None:
    with pytest.raises(SettingsError, match=r"issuers\.claims\.tenant"):
        terms(claims={"tenant": path})


def test_a_claim_path_splits_at_dots_that_are_not_escaped() -> None:
    made = terms(claims={"tenant": "kubernetes\\.io.namespace", "groups": "a\\\\.b"})
    assert made.tenant == ("kubernetes.io", "namespace")
    assert made.groups == ("a\\", "b")


def test_the_revision_changes_with_any_setting() -> None:
    made = [terms(), terms(leeway_s=10), terms(audiences=("x",)), terms(claims={"groups": "roles"}), terms(tenant="t")]
    assert len({one.revision for one in made}) == len(made)
    assert terms().revision == made[0].revision


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**54), 2**54) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["alg", "kid", "typ", "crit", "jwk", "iss", "sub", "aud", "exp", "iat", "nbf", "jti", "nonce"])


@settings(deadline=None)
@given(st.text() | st.lists(st.binary(max_size=30).map(b64), max_size=4).map(".".join))
def test_whatever_the_text_only_a_refusal_comes_out(issuer: FakeIssuer, text: str) -> None:
    assert isinstance(judge(text, issuer), str)


@settings(deadline=None)
@given(st.data())
def test_one_letter_changed_is_always_a_refusal(issuer: FakeIssuer, data: st.DataObject) -> None:
    token = issuer.mint(jti="fixed")
    at = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.sampled_from("ABCDghij0189-_.=+/ \x00é"))
    changed = token[:at] + letter + token[at + 1 :]
    assert changed == token or isinstance(judge(changed, issuer), str)


@settings(deadline=None)
@given(st.dictionaries(NAMES, JSON, max_size=3), st.dictionaries(NAMES, JSON, max_size=4))
def test_whatever_a_good_key_signs_it_is_claims_or_a_refusal(
    issuer: FakeIssuer, header: dict[str, Any], claims: dict[str, Any]
) -> None:
    verdict = judge(issuer.forge(header, **claims), issuer)
    if isinstance(verdict, Claims):
        assert verdict.payload["iss"] == URL
        assert verdict.expires > NOW - LEEWAY
