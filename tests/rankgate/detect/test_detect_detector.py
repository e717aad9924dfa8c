"""The pipeline: what it promises whatever the text."""

from __future__ import annotations

import base64
import contextlib
import random
import time
from collections.abc import Iterator

import corpus
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankgate.detect import Detector, Finding
from rankgate.detect.keys import JsonWebTokens
from rankgate.detect.pace import Check, unhurried
from rankgate.errors import GateError, Reason, SettingsError
from rankgate.settings import STRUCTURED_TYPES

REGIONS = ("US", "GB", "DE")
DETECTOR = Detector(STRUCTURED_TYPES, phone_regions=REGIONS, cache_bytes=1 << 20)
PIECES = st.sampled_from(
    [
        "@",
        "4111 ",
        "eyJ",
        ".",
        "-",
        "\n",
        " ",
        "%3",
        "&#",
        "\\u00",
        "+44",
        "born ",
        "0x",
        "::",
        "password=",
        "１",
        "\u200b",
        "\ud800",
        "\U000e0034",
    ]
)


class Never:
    """A recogniser that finds nothing, not even its positive."""

    types = ("PERSON",)
    triggers = ()
    long = False
    positives = (("PERSON", "Ada Lovelace"),)

    def find(self, text: str, check: Check = unhurried) -> Iterator[Finding]:
        yield from ()


class Broken(Never):
    """A recogniser that finds its positive and fails on anything else."""

    def find(self, text: str, check: Check = unhurried) -> Iterator[Finding]:
        if text != "Ada Lovelace":
            raise LookupError(text)
        yield Finding("PERSON", 0, 12, 1.0)


class Names(Never):
    """A recogniser of one name."""

    def find(self, text: str, check: Check = unhurried) -> Iterator[Finding]:
        check()
        at = text.find("Ada Lovelace")
        if at >= 0:
            yield Finding("PERSON", at, at + 12, 0.9)


def _sound(text: str, findings: tuple[Finding, ...]) -> None:
    done = 0
    for one in findings:
        assert done <= one.start < one.end <= len(text)
        assert 0 < one.score <= 1
        assert one.type in STRUCTURED_TYPES
        done = one.end


@given(st.text(alphabet=st.characters(codec=None), max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_text_gives_sorted_disjoint_spans_within_it(text: str) -> None:
    _sound(text, DETECTOR.detect(text))


@given(st.lists(PIECES, max_size=60).map("".join))
@settings(max_examples=300, deadline=None)
def test_hostile_pieces_give_sorted_disjoint_spans_too(text: str) -> None:
    _sound(text, DETECTOR.detect(text))


def test_a_value_is_found_wherever_in_a_long_text_it_stands() -> None:
    filler = "lorem ipsum dolor sit amet " * 600
    for at in (0, 27 * 100, 27 * 150 + 13, 4090, 4096, 4100, 4600, 8190, len(filler)):
        text = f"{filler[:at]} jane.roe@example.org {filler[at:]}"
        (found,) = DETECTOR.detect(text)
        assert text[found.start : found.end] == "jane.roe@example.org"


def test_a_key_longer_than_a_window_is_found_whole() -> None:
    body = "\n".join("MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj" for _ in range(120))
    key = "-----BEGIN PRIVATE" + f" KEY-----\n{body}\n-----END PRIVATE" + " KEY-----"
    text = "x" * 4000 + "\n" + key + "\nend"
    assert ("PRIVATE_KEY", key) in [(one.type, text[one.start : one.end]) for one in DETECTOR.detect(text)]


def test_what_blocks_of_a_large_text_share_is_found_once_and_whole() -> None:
    secret = "jane.roe@example.org"
    for at in (0, 98_000, 98_304, 98_340, 98_368, 131_060, 131_072, 196_600, 229_376, 290_000):
        text = f"{'lorem ipsum ' * 25_000}"
        text = f"{text[:at]} {secret} {text[at:]}"
        assert [text[one.start : one.end] for one in DETECTOR.detect(text)] == [secret], at


def test_a_value_deep_in_a_long_encoded_run_is_found() -> None:
    filler = "lorem ipsum dolor " * 20_000
    for at in (0, 60_000, 100_000, 150_000, 220_000):
        hidden = base64.b64encode(f"{filler[:at]} jane.roe@example.org {filler[at:220_000]}".encode()).decode()
        place = (at * 4) // 3
        assert any(one.start <= place + 8 and place + 24 <= one.end for one in DETECTOR.detect(hidden)), at


def test_a_token_longer_than_a_block_is_found_to_its_end() -> None:
    token = JsonWebTokens.positives[0][1] + "a" * 300_000
    (found,) = [one for one in DETECTOR.detect(f"see {token} now") if one.type == "JWT"]
    assert (found.start, found.end) == (4, 4 + len(token))


def test_an_unknown_type_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="SHOE_SIZE"):
        Detector(["CREDIT_CARD", "SHOE_SIZE"], phone_regions=REGIONS, cache_bytes=0)


def test_only_configured_types_are_found() -> None:
    cards = Detector(["CREDIT_CARD"], phone_regions=REGIONS, cache_bytes=0)
    text = "jane@example.org paid with 4012 8888 8888 1881"
    assert [one.type for one in cards.detect(text)] == ["CREDIT_CARD"]


def test_a_recogniser_that_finds_nothing_stops_the_start() -> None:
    with pytest.raises(GateError, match="PERSON") as caught:
        Detector(["PERSON"], phone_regions=REGIONS, cache_bytes=0, extra=[Never()])
    assert caught.value.reason is Reason.DETECTOR_UNAVAILABLE


def test_a_recogniser_that_fails_refuses_and_says_nothing_of_the_text() -> None:
    failing = Detector(["PERSON"], phone_regions=REGIONS, cache_bytes=0, extra=[Broken()])
    with pytest.raises(GateError) as caught:
        failing.detect("the text of somebody")
    assert caught.value.reason is Reason.DETECTOR_UNAVAILABLE
    assert "somebody" not in f"{caught.value} {caught.value.__cause__}"


def test_a_failure_is_never_cached_as_no_findings() -> None:
    failing = Detector(["PERSON"], phone_regions=REGIONS, cache_bytes=1 << 20, extra=[Broken()])
    for _ in range(2):
        with pytest.raises(GateError):
            failing.detect("the text of somebody", cache="acme")


def test_a_names_pipeline_joins_as_one_more_recogniser() -> None:
    named = Detector(["PERSON", "EMAIL_ADDRESS"], phone_regions=REGIONS, cache_bytes=0, extra=[Names()])
    assert [one.type for one in named.detect("Ada Lovelace <ada@example.org>")] == ["PERSON", "EMAIL_ADDRESS"]


def test_the_revision_follows_types_and_regions() -> None:
    base = DETECTOR.revision
    assert Detector(reversed(STRUCTURED_TYPES), phone_regions=REGIONS, cache_bytes=0).revision == base
    assert Detector(STRUCTURED_TYPES[:-1], phone_regions=REGIONS, cache_bytes=0).revision != base
    assert Detector(STRUCTURED_TYPES, phone_regions=("US",), cache_bytes=0).revision != base


def test_many_texts_are_detected_as_each_of_them_is() -> None:
    texts = [row.text for row in corpus.rows("plain")[::20]] + ["", "nothing here"]
    fresh = [DETECTOR.detect(text) for text in texts]
    own = Detector(STRUCTURED_TYPES, phone_regions=REGIONS, cache_bytes=1 << 20)
    own.detect(texts[0], cache="acme")
    assert own.unknown_chars(texts[:2], cache="acme") == len(texts[1])
    for cache in ("acme", "acme", ""):
        assert own.detect_all(texts, cache=cache, check=lambda: None) == fresh
    assert own.unknown_chars(texts, cache="acme") == 0


def test_cached_and_fresh_results_are_equal() -> None:
    for row in corpus.rows("plain")[::7]:
        fresh = DETECTOR.detect(row.text)
        assert DETECTOR.detect(row.text, cache="acme") == fresh
        assert DETECTOR.detect(row.text, cache="acme") == fresh


def test_without_a_partition_nothing_is_kept() -> None:
    own = Detector(["EMAIL_ADDRESS"], phone_regions=REGIONS, cache_bytes=1 << 20)
    own.detect("jane@example.org")
    assert own.cached_bytes == 0
    own.detect("jane@example.org", cache="acme")
    assert own.cached_bytes > 0


class Patience:
    """A check that raises when it was called often enough."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __call__(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise GateError(Reason.DEADLINE_EXCEEDED)


def test_what_a_check_raises_passes_through_and_nothing_is_cached() -> None:
    own = Detector(STRUCTURED_TYPES, phone_regions=REGIONS, cache_bytes=1 << 20)
    for calls in range(40):
        with pytest.raises(GateError) as caught:
            own.detect("mail jane@example.org " * 2000, cache="acme", check=Patience(calls))
        assert caught.value.reason is Reason.DEADLINE_EXCEEDED
        assert own.cached_bytes == 0


def test_a_check_that_never_raises_changes_nothing() -> None:
    for row in corpus.rows()[::11]:
        assert DETECTOR.detect(row.text, check=Patience(10**6)) == DETECTOR.detect(row.text)


@pytest.mark.parametrize(
    "unit", ["%34", "&#52;", "a\n", "1 ", "1O ", "eyJabcdefgh.", "-----BEGIN PRIVATE KEY-----\n", "http://a?key=b ",
             "password=aB3dE5 ", "\U000e0034", "YWJj", "ab ", "\uff14", "tel 030 1234567 ", "@", "jane@example.org "],
    ids=ascii,
)  # fmt: skip
def test_a_deadline_is_met_soon_whatever_a_text_of_a_megabyte_holds(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))

    def longest() -> float:
        begin = last = time.thread_time()
        pauses = [0.0]

        def check() -> None:
            nonlocal last
            now = time.thread_time()
            pauses.append(now - last)
            last = now
            if now - begin > 0.5:
                raise GateError(Reason.DEADLINE_EXCEEDED)

        with contextlib.suppress(GateError):
            DETECTOR.detect(text, check=check)
        return max(pauses)

    # About a tenth of it where nothing else runs; work that never looks at the clock takes many times as long.
    assert longest() < 1.0


def test_our_own_pseudonyms_are_not_detected() -> None:
    code = "abcdefghijk23"
    text = f"EMAIL_ADDRESS_{code}@masked.invalid CREDIT_CARD_{code} <US_SSN> API_KEY_h_{code} password: API_KEY_{code}"
    assert DETECTOR.detect(text) == ()


def test_a_value_dressed_as_a_pseudonym_is_still_detected() -> None:
    for text in ("CC_4222222222222", "PERSON_h_4222222222222", "<jane@example.org>", "EMAIL_ADDRESS_jane@example.org"):
        assert DETECTOR.detect(text), text


def test_a_secret_before_or_as_a_code_is_still_detected() -> None:
    key = "AKI" + "AQWERTYUIOPASDFGH"
    for text in (f"{key}_abcdefghijklm", f"<{key}>", "password: HUNTERTWO_abcdefghijklm"):
        assert DETECTOR.detect(text), text


def test_keys_and_numbers_are_inspected() -> None:
    assert [one.type for one in DETECTOR.detect_key("jane@example.org")] == ["EMAIL_ADDRESS"]
    assert [one.type for one in DETECTOR.detect_number("4012888888881881", "value")] == ["CREDIT_CARD"]
    assert Detector(["EMAIL_ADDRESS"], phone_regions=(), cache_bytes=0).detect_number("4012888888881881", "x") == ()


@pytest.mark.parametrize(
    "unit",
    [
        "a.",
        "9",
        "@",
        "eyJ",
        "1-2 ",
        "4 ",
        "a@a.aa",
        "DE89",
        "://a:b@c ",
        "%34",
        "&#52;",
        "\\u0034",
        ":",
        "ab:",
        "born 1 ",
        "(",
        "４",
        "4\u200b",
        "1O",
        "1\n",
    ],
)
def test_the_work_on_a_hostile_text_grows_no_faster_than_its_size(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    original = DETECTOR._gate.fired

    class Counting:
        def fired(self, text: str) -> object:
            nonlocal calls
            calls += len(text)
            return original(text)

    monkeypatch.setattr(DETECTOR, "_gate", Counting())
    DETECTOR.detect(unit * (40_000 // len(unit)))
    assert calls <= 12 * 40_000


@pytest.mark.parametrize(
    "unit",
    ["tel 030 1234567\n", "+442079460958 ", "10.20.30.40 ", "DE89370400440532013000 ", "36574261809 ", "943 476 5919 ",
     "219-09-9998 ", "12345678Z ", "RCCMNL83S18D969H ", "4012 8888 8888 1881 ", "2341 2341 2346 ", "1 2 ", "34 ",
     "a@a.aa", "DE89", "dob ", "token=", "eyJhbGciOiJIUzI1NiJ9.", "call 12 3456 78 ", "-----BEGIN PRIVATE KEY-----\n"],
    ids=ascii,
)  # fmt: skip
def test_100_kb_packed_with_what_looks_valid_cost_no_more_than_other_hostile_texts(unit: str) -> None:
    text = unit * (100_000 // len(unit))

    def took() -> float:
        begin = time.thread_time()
        DETECTOR.detect(text)
        return time.thread_time() - begin

    # Several times what it takes: what is told apart is linear work from work that explodes. bench/ has the figures.
    assert min(took() for _ in range(3)) < 1.0


def test_a_window_packed_with_candidates_is_over_masked_rather_than_skipped() -> None:
    for value, times in (("DE89370400440532013000", 150), ("tel 030 1234567", 200), ("dob 1984-03-12", 200)):
        text = f"{value}, " * times
        covered = sum(one.end - one.start for one in DETECTOR.detect(text))
        bare = value.removeprefix("tel ").removeprefix("dob ")
        assert covered >= times * len(bare), value


def test_random_bytes_in_base64_are_not_findings() -> None:
    drawn = random.Random(7)
    texts = [base64.b64encode(drawn.randbytes(60)).decode() for _ in range(200)]
    assert sum(bool(DETECTOR.detect(text)) for text in texts) <= 2
