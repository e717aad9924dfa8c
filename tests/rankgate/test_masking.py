"""Masking: plans, keys, pseudonyms, and what never happens to a text."""

from __future__ import annotations

import re
import time

import corpus
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankgate.detect import Detector, Finding
from rankgate.detect.tokens import KNOWN
from rankgate.errors import GateError, Reason, SettingsError
from rankgate.masking import Keys, Masker, Plan, is_pseudonym, is_tighter_or_equal, keyed_digest, tighten
from rankgate.settings import STRUCTURED_TYPES, ProfileSettings

REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "IN")
OPERATORS = ("pseudonym", "redact", "partial", "hash")
KEYS = Keys(b"0123456789abcdef0123456789abcdef", "1")
DETECTOR = Detector(STRUCTURED_TYPES, phone_regions=REGIONS, cache_bytes=0)
PLANS = st.dictionaries(st.sampled_from(STRUCTURED_TYPES), st.sampled_from(OPERATORS)).map(lambda found: _plan(found))


def _plan(operators: dict[str, str]) -> Plan:
    return Plan.from_text(Plan(dict(sorted(operators.items()))).text)  # type: ignore[arg-type]


def _masker(operator: str = "pseudonym", *, tenant: str = "acme", keys: Keys = KEYS) -> Masker:
    profile = ProfileSettings.model_validate({"types": STRUCTURED_TYPES, "operator": operator})
    return Masker(keys, tenant, Plan.of(profile), phone_regions=REGIONS)


def _mask(text: str, masker: Masker | None = None) -> str:
    return (masker or _masker()).mask(text, DETECTOR.detect(text))


# plans


def test_a_plan_follows_the_profile() -> None:
    profile = ProfileSettings.model_validate(
        {"types": ["US_SSN", "JWT"], "operator": "pseudonym", "operators": {"JWT": "redact"}}
    )
    assert Plan.of(profile).operators == {"US_SSN": "pseudonym", "JWT": "redact"}


@given(PLANS)
def test_a_plan_survives_its_text(plan: Plan) -> None:
    assert Plan.from_text(plan.text) == plan
    assert hash(Plan.from_text(plan.text)) == hash(plan)


@pytest.mark.parametrize(
    "text",
    [
        "redact",
        "redact:",
        "shred:JWT",
        "redact:jwt",
        "redact:JWT,",
        "redact:JWT;",
        ";redact:JWT",
        "redact:US_SSN,JWT",
        "redact:JWT,JWT",
        "redact:JWT;hash:US_SSN",
        "redact:JWT;redact:US_SSN",
        " redact:JWT",
        "redact:JWT\n",
        "hash:JWT;redact:JWT",
    ],
)
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(GateError) as caught:
        Plan.from_text(text)
    assert caught.value.reason is Reason.HANDOFF_MISMATCH


@given(st.text(max_size=40))
def test_no_text_is_read_as_anything_but_the_plan_that_writes_it(text: str) -> None:
    try:
        plan = Plan.from_text(text)
    except GateError:
        return
    assert plan.text == text


@given(PLANS, PLANS, PLANS)
def test_tightening_is_the_least_plan_as_strict_as_both(one: Plan, other: Plan, third: Plan) -> None:
    both = tighten(one, other)
    assert is_tighter_or_equal(both, one)
    assert is_tighter_or_equal(both, other)
    assert both == tighten(other, one)
    assert tighten(both, both) == both
    if is_tighter_or_equal(third, one) and is_tighter_or_equal(third, other):
        assert is_tighter_or_equal(third, both)


def test_the_stricter_operator_wins_and_no_type_is_lost() -> None:
    one, other = _plan({"JWT": "partial", "US_SSN": "redact"}), _plan({"JWT": "hash", "API_KEY": "pseudonym"})
    assert tighten(one, other).operators == {"API_KEY": "pseudonym", "JWT": "hash", "US_SSN": "redact"}
    assert not is_tighter_or_equal(one, other)
    assert is_tighter_or_equal(one, Plan.none())
    assert not is_tighter_or_equal(Plan.none(), one)


# keys


def test_a_short_master_key_is_refused() -> None:
    with pytest.raises(SettingsError, match="key_file"):
        Keys(b"x" * 31, "1")


def test_no_use_tenant_or_epoch_shares_a_key() -> None:
    other = Keys(b"0123456789abcdef0123456789abcdef", "2")
    derived = [
        *(keys.pseudonym(tenant) for keys in (KEYS, other) for tenant in ("a", "b", "")),
        *(keys.digest(tenant) for keys in (KEYS, other) for tenant in ("a", "b", "")),
        *(keys.lease() for keys in (KEYS, other)),
    ]
    assert len(set(derived)) == len(derived)
    assert all(len(key) == 32 for key in derived)


def test_epoch_and_tenant_cannot_be_shifted_into_one_another() -> None:
    master = b"0123456789abcdef0123456789abcdef"
    assert Keys(master, "1a").pseudonym("b") != Keys(master, "1").pseudonym("ab")


def test_keys_are_stable_and_hidden() -> None:
    assert KEYS.pseudonym("a") == Keys(b"0123456789abcdef0123456789abcdef", "1").pseudonym("a")
    assert "0123" not in f"{KEYS!r} {KEYS}"


def test_a_keyed_digest_is_hmac_sha_256() -> None:
    # RFC 4231, test case 2.
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert keyed_digest(b"Jefe", b"what do ya want for nothing?") == expected


# pseudonyms


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Jane.Roe@Example.org", "jane.roe@example.org"),
        ("jane [at] example [dot] org", "jane@example.org"),
        ("４０１２８８８８８８８８１８８１", "4012 8888-8888 1881"[:4] + " 8888 8888 1881"),
        ("4\u200b012888888881881", "4012888888881881"),
        ("call 020 7946 0958", "call +44 20 7946 0958"),
        ("de89370400440532013000", "DE89 3704 0044 0532 0130 00"),
        ("2001:db8:0:0::1", "2001:0db8::1"),
        ("219 09 9998", "219-09-9998"),
    ],
)
def test_all_writings_of_a_value_share_one_pseudonym(one: str, other: str) -> None:
    first, second = _mask(one), _mask(other)
    assert first == second
    assert is_pseudonym(first.removeprefix("call "))


def test_types_tenants_epochs_and_keys_never_share_a_pseudonym() -> None:
    value = "jane@example.org"
    masked = {
        _mask(value),
        _mask(value, _masker(tenant="globex")),
        _mask(value, _masker(keys=Keys(b"0123456789abcdef0123456789abcdef", "2"))),
        _mask(value, _masker(keys=Keys(b"x" * 32, "1"))),
        _masker().mask(value, [Finding("API_KEY", 0, len(value), 1.0)]),
    }
    assert len(masked) == 5


def test_mail_pseudonyms_stand_under_invalid() -> None:
    assert _mask("jane@example.org").endswith("@masked.invalid")


@given(st.text(min_size=1, max_size=20), st.sampled_from(STRUCTURED_TYPES))
@settings(max_examples=300)
def test_a_pseudonym_never_looks_like_a_number(value: str, name: str) -> None:
    masked = _masker().mask(value, [Finding(name, 0, len(value), 1.0)])
    assert is_pseudonym(masked)
    assert DETECTOR.detect(masked) == ()


def test_a_type_can_bring_a_pseudonym_per_word() -> None:
    plan = _plan({"PERSON": "pseudonym"})
    words = {"PERSON": lambda value, token: " ".join(token(word) for word in value.casefold().split())}
    masker = Masker(KEYS, "acme", plan, renderers=words)
    full = masker.mask("Ada Lovelace", [Finding("PERSON", 0, 12, 1.0)])
    last = masker.mask("LOVELACE", [Finding("PERSON", 0, 8, 1.0)])
    assert full.split(" ")[1] == last
    assert all(is_pseudonym(word) for word in full.split(" "))


# operators


def test_redaction_names_the_type_alone() -> None:
    assert _mask("ssn 219-09-9998.", _masker("redact")) == "ssn <US_SSN>."


def test_a_hash_is_keyed_and_of_the_exact_value() -> None:
    masked = _mask("ssn 219-09-9998", _masker("hash"))
    assert masked.startswith("ssn US_SSN_h_")
    assert masked != _mask("ssn 219 09 9998", _masker("hash"))
    assert masked != _mask("ssn 219-09-9998", _masker("hash", tenant="globex"))


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("4012 8888 8888 1881", "****1881"),
        ("219-09-9998", "****998"),
        ("jane.roe@example.org", "j***@***.org"),
        ("a@bcdefgh.info", "a***@***"),
        ("a@b.co", "a***@***"),
        ("password: Summer2024!x", "password: ****"),
    ],
)
def test_partial_shows_little(text: str, masked: str) -> None:
    assert _mask(text, _masker("partial")) == masked


@pytest.mark.parametrize("row", corpus.rows("plain")[::5], ids=lambda row: row.id)
def test_partial_never_shows_more_than_four_characters_or_a_third(row: corpus.Row) -> None:
    for one in DETECTOR.detect(row.text):
        value = row.text[one.start : one.end]
        shown = (
            _masker("partial")
            .mask(value, [Finding(one.type, 0, len(value), 1.0)])
            .replace("@***.", "")
            .replace("@", "")
        )
        kept = sum(character != "*" for character in shown)
        assert kept <= min(4, len(value) // 3)


# whole texts


def test_types_outside_the_plan_pass() -> None:
    masker = Masker(KEYS, "acme", _plan({"US_SSN": "redact"}))
    assert _mask("jane@example.org, 219-09-9998", masker) == "jane@example.org, <US_SSN>"


def test_a_plan_of_nothing_changes_nothing() -> None:
    text = "jane@example.org 219-09-9998"
    assert _mask(text, Masker(KEYS, "acme", Plan.none())) == text


def test_a_replacement_never_grows_together_with_its_neighbours() -> None:
    assert _mask("id4012888888881881x", _masker("redact")) == "id <CREDIT_CARD> x"


@pytest.mark.parametrize("span", [(-1, 2), (0, 0), (3, 2), (0, 99)])
def test_spans_that_do_not_fit_are_refused(span: tuple[int, int]) -> None:
    with pytest.raises(GateError) as caught:
        _masker().mask("short text", [Finding("US_SSN", *span, 1.0)])
    assert caught.value.reason is Reason.HANDOFF_MISMATCH


def test_of_overlapping_findings_the_union_is_masked_with_the_strictest_operator() -> None:
    masker = Masker(KEYS, "acme", _plan({"US_SSN": "partial", "JWT": "redact"}))
    spans = [Finding("JWT", 6, 10, 1.0), Finding("US_SSN", 2, 7, 1.0)]
    assert masker.mask("short text", spans) == masker.mask("short text", spans[::-1]) == "sh <JWT>"


def test_a_plan_of_fewer_types_masks_what_lies_within_a_larger_finding() -> None:
    text = "postgres://app:pw1234@jane.example.org/db"
    (found,) = DETECTOR.detect(text)
    assert found.type == "URL_CREDENTIALS"
    assert "EMAIL_ADDRESS" in found.also
    masked = Masker(KEYS, "acme", _plan({"EMAIL_ADDRESS": "redact"})).mask(text, [found])
    assert masked == "<EMAIL_ADDRESS>"


@pytest.mark.parametrize("operator", OPERATORS)
def test_scenario_42_masking_leaves_no_gold_value_in_any_form(operator: str) -> None:
    masker = _masker(operator)
    for row in corpus.rows():
        masked = _mask(row.text, masker)
        for _, start, end in row.spans:
            assert row.text[start:end] not in masked, row.id


@pytest.mark.parametrize("operator", OPERATORS)
def test_masked_text_holds_nothing_to_mask(operator: str) -> None:
    masker = _masker(operator)
    left = [row.id for row in corpus.rows() if DETECTOR.detect(_mask(row.text, masker))]
    assert left == []


@given(st.text(alphabet=st.characters(codec=None), max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_can_be_masked(text: str) -> None:
    assert isinstance(_mask(text), str)


@given(st.text(alphabet="abc xyz,.;!éß中\n", max_size=80), st.text(alphabet="abc xyz,.;!éß中\n", max_size=80))
def test_outside_of_findings_nothing_changes(before: str, after: str) -> None:
    text = f"{before} 219-09-9998 {after}"
    start = len(before) + 1
    masked = _masker("redact").mask(text, [Finding("US_SSN", start, start + 11, 1.0)])
    assert masked == f"{before} <US_SSN> {after}"


@pytest.mark.parametrize("operator", OPERATORS)
def test_what_a_masker_remembers_is_what_a_fresh_one_writes(operator: str) -> None:
    masker = _masker(operator)
    for row in (*corpus.rows("plain")[::9], *corpus.rows("plain")[::9]):
        assert _mask(row.text, masker) == _mask(row.text, _masker(operator))


def test_a_masker_remembers_no_more_than_it_may_and_nothing_long() -> None:
    masker = _masker("redact")
    for number in range(10_000):
        masker.mask(f"{number:09}", [Finding("US_SSN", 0, 9, 1.0)])
    masker.mask("k" * 10_000, [Finding("API_KEY", 0, 10_000, 1.0)])
    assert len(masker._remembered) <= 1024
    assert sum(len(text) for text, _ in masker._remembered) <= 1024 * 2048


def test_what_a_check_raises_ends_the_masking() -> None:
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise GateError(Reason.DEADLINE_EXCEEDED)

    findings = [Finding("US_SSN", start, start + 1, 1.0) for start in range(0, 2000, 2)]
    with pytest.raises(GateError) as caught:
        _masker().mask("1 " * 1000, findings, check=check)
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED


def test_masking_four_thousand_phone_numbers_asks_the_library_about_few() -> None:
    text = ("tel 030 1234567\n" * 4000)[:60_000]
    findings = DETECTOR.detect(text)
    assert len(findings) > 3000

    def took() -> float:
        masker = _masker()
        begin = time.thread_time()
        masker.mask(text, findings)
        return time.thread_time() - begin

    # Several times what it takes: what is told apart is linear work from work that explodes. bench/ has the figures.
    assert min(took() for _ in range(3)) < 0.6


# look-alikes


@pytest.mark.parametrize(
    "text",
    [
        "PERSON_abcdefghijklm",
        "person_ABCDEFGHIJKLM",
        "see EMAIL_ADDRESS_abcdefghijk23@masked.invalid",
        "xxPERSON_abcdefghijklm.",
        "US_SSN_h_abcdefghijklm",
        "ＰＥＲＳＯＮ＿abcdefghijklm",
        "PERSON_abc\u200bdefghijklm",
        "PERSON_22222ghijklmn",
    ],
)
def test_a_look_alike_pseudonym_is_escaped_and_stays_so(text: str) -> None:
    masked = _mask(text)
    assert "_x_" in masked
    assert "abcdefghijk" not in masked
    assert _mask(masked) == masked


PIECES = ["AKIAQWERTYUIOPASDFGH", "HUNTERTWO", "PERSON", "US_SSN", "_", "_h_", "_x_", "abcdefghijklm", " ", "<", ">",
          "password: ", "@masked.invalid", "jane@example.org", "."]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=10).map("".join))
@settings(max_examples=400, deadline=None)
def test_whatever_resembles_our_shapes_hides_nothing(text: str) -> None:
    masked = _mask(text)
    for own in re.finditer(rf"(?<![A-Za-z0-9_])(?:{'|'.join(KNOWN)})_(?:h_)?[a-z2-7]{{13}}(?![A-Za-z0-9])", text):
        assert own.group() not in masked
    for secret in re.finditer(r"AKIA[0-9A-Z]{16}", text):
        assert secret.group() not in masked
    for secret in re.finditer(r"password: (HUNTERTWO_(?:[hx]_)?abcdefghijklm)(?= |$)", text):
        assert secret.group(1) not in masked


def test_nobody_can_write_somebody_elses_pseudonym() -> None:
    real = _mask("jane@example.org").partition("@")[0]
    for written in (real, real.lower(), f"x{real}", f"{real}@masked.invalid", real.replace("_", "＿")):
        masked = _mask(f"see {written} here")
        assert real not in masked
        assert real.lower() not in masked.lower()


def test_a_genuine_pseudonym_is_nothing_to_mask_and_escaped_only_where_its_text_is_masked() -> None:
    genuine = _mask("jane@example.org")
    assert DETECTOR.detect(f"see {genuine}, please") == ()
    masked = _mask(f"{genuine} or joe@example.org")
    assert genuine not in masked
    assert masked.startswith("EMAIL_ADDRESS_x_")
    assert masked.endswith(_mask("joe@example.org"))


def test_a_look_alike_completed_by_masking_is_escaped() -> None:
    text = "PERSON_abcdefghijklm4012888888881881"
    assert "PERSON_abcdefghijklm" not in _mask(text)


@pytest.mark.parametrize(
    "text", ["user_registrations", "snake_case_name", "PERSON_short", "PERSON_abcdefghijklmnop", "PERSON_abcdefghijkl1"]
)
def test_other_words_with_underscores_are_left_alone(text: str) -> None:
    assert _mask(text) == text


def test_a_sharp_s_before_a_code_is_no_part_of_a_type() -> None:
    assert _mask("US_ßN_abcdefghijklm") == "US_ßN_abcdefghijklm"


def test_text_before_and_behind_a_look_alike_is_kept() -> None:
    assert _mask("é PERSON_abcdefghijklm, ü").startswith("é PERSON_x_")
    assert _mask("é PERSON_abcdefghijklm, ü").endswith(", ü")
