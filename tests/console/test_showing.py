"""How things are said to people."""

from __future__ import annotations

import unicodedata

import pytest
from fakes.desk import Table, person
from fakes.desk_store import make_ask
from hypothesis import given
from hypothesis import strategies as st

from rankgate.approvals import Choice, Objection, PlanSummary, Requirement, State
from rankgate.console import showing
from rankgate.console.views import Item, VoteShown

NOW = 1_700_000_000_000
SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000
MINE = VoteShown("ada", Choice.APPROVE, "fine", NOW, own=True, counts=True)
REVOKED = VoteShown("ada", Choice.APPROVE, "fine", NOW, own=True, counts=False)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-5, "0 s"), (0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h"), (4800, "1 h 20 min"),
        (86_399, "23 h 59 min"), (86_400, "1 d"), (30 * 86_400, "30 d"),
    ],
)  # fmt: skip
def test_durations(seconds: float, said: str) -> None:
    assert showing.duration(seconds) == said


@pytest.mark.parametrize(
    ("then", "said"),
    [
        (NOW, "just now"), (NOW + HOUR, "just now"), (NOW - 4999, "just now"), (NOW - 5000, "5 s ago"),
        (NOW - 2 * DAY, "2 d ago"),
    ],
)  # fmt: skip
def test_how_long_ago(then: int, said: str) -> None:
    assert showing.ago(then, NOW) == said


@pytest.mark.parametrize(
    ("until", "said"), [(NOW, "no time left"), (NOW - 1, "no time left"), (NOW + 90 * SECOND, "1 min left")]
)
def test_how_much_is_left(until: int, said: str) -> None:
    assert showing.left(until, NOW) == said


def test_exact_times() -> None:
    assert showing.utc(NOW + 7) == "2023-11-14 22:13:20 UTC"
    assert showing.iso(NOW + 7) == "2023-11-14T22:13:20.007Z"
    assert (showing.utc(0), showing.iso(0)) == ("never", "")
    assert showing.utc(10**18) == "never"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://login.acme.example/realms/machines/", "login.acme.example/realms/machines"),
        ("https://kubernetes.default.svc", "kubernetes.default.svc"),
        ("urn:machines", "urn:machines"),
        ("https://", "https://"),
        ("https://a.example/" + "x" * 90, "a.example/" + "x" * 49 + "…"),
    ],
)
def test_issuers_without_what_is_the_same_everywhere(url: str, said: str) -> None:
    assert showing.issuer(url) == said


def test_lists_and_counts() -> None:
    assert [showing.and_list(items) for items in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
    assert showing.count(1, "person", "different people") == "1 person"
    assert showing.count(2, "person", "different people") == "2 different people"
    assert showing.count(188_000, "character") == "188,000 characters"
    found = {"PERSON": 1, "US_SSN": 4, "JWT": 0, "EMAIL_ADDRESS": 1}
    assert showing.findings(found) == [("US SSN", 4), ("email address", 1), ("person", 1)]
    assert showing.document_positions((1,)) == "documents[1]"
    assert showing.document_positions(range(14)).endswith("documents[11] and 2 more")


@pytest.mark.parametrize(
    ("value", "said"), [(1500, "1.5 ms"), (0, "0.0 ms"), (30_412_000, "30.4 s"), ("x", ""), (None, "")]
)
def test_microseconds(value: object, said: str) -> None:
    assert showing.micros(value) == said


def test_what_is_not_seen_is_shown_and_what_was_redacted_is_marked() -> None:
    assert showing.segments("ask <PERSON> about \u202egnp.exe\u202c\r\nand <b>") == [
        ("text", "ask "), ("redacted", "PERSON"), ("text", " about "), ("odd", "\\u202e"), ("text", "gnp.exe"),
        ("odd", "\\u202c"), ("text", "\nand <b>"),
    ]  # fmt: skip


@given(st.text(st.characters(), max_size=60))
def test_no_piece_hides_or_moves_anything(text: str) -> None:
    said = "".join(piece.text for piece in showing.segments(text))
    assert not [
        character for character in said if unicodedata.category(character) in {"Cc", "Cs"} and character not in "\t\n"
    ]
    assert not set(said) & set("\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff\xad")
    assert "\n" not in showing.plain(text) and "\n" not in showing.excerpt(text)


def test_an_excerpt_is_one_line_of_bounded_length() -> None:
    assert showing.excerpt("a\n\n b\t c") == "a b c"
    assert showing.excerpt("word " * 100, 12) == "word word w…"


def test_what_will_be_done() -> None:
    assert showing.plan(PlanSummary("none", "strict", (1, 4), 1, "minted")) == [
        "Sensitive values in query, instruction and documents are not masked.",
        "Sensitive values in the answer are masked before the caller reads it (profile strict).",
        "documents[1] and documents[4] are dropped before ranking; 1 document is ranked.",
        "An upstream credential (minted) is lent for this one request.",
    ]
    assert showing.plan(PlanSummary("a", "b", (2,), 3))[2:] == [
        "documents[2] is dropped before ranking; 3 documents are ranked.",
        "No upstream credential is lent.",
    ]
    assert showing.treatment(PlanSummary("a", "b"))[-1] == "No document is dropped."


@pytest.mark.parametrize(
    ("risk", "level"), [("High", "high"), ("critical", "critical"), ("0.8", ""), (0.8, ""), ("<b>", "")]
)
def test_only_known_risks_have_a_level(risk: object, level: str) -> None:
    assert showing.risk_level(risk) == level


def test_words_of_newer_gates_are_shown_as_they_are() -> None:
    assert showing.reason("policy_denied") == "denied by policy"
    assert showing.reason("brand_new") == "brand new"
    assert showing.outcome("brand_new") == "brand new."


def test_every_objection_says_who_may() -> None:
    said = {value: showing.objection(value, Requirement(("a", "b", "c"))) for value in Objection}
    assert said[Objection.OWNER] == "You own this machine, so someone else must decide."
    assert said[Objection.GROUP] == "Only members of a, b or c can decide this."
    assert len(set(said.values())) == len(Objection)


@pytest.mark.parametrize("value", State)
def test_every_state_has_a_word_and_an_end(value: State) -> None:
    assert showing.state(value)
    assert showing.standing(item(state=value), is_open=False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"may_vote": True}, ""),
        ({"objection": "self"}, "This is your own request, so someone else must decide."),
        ({"votes": (MINE,), "needed": 2}, "You approved this; 2 more votes are needed."),
        ({"votes": (MINE,), "needed": 1}, "You approved this; 1 more vote is needed."),
        ({"votes": (MINE,), "needed": 0}, "You approved this; it waits for its caller."),
        ({"votes": (REVOKED,)}, "Your vote does not count any more. Withdraw it to vote again."),
        ({}, "You have voted on this."),
    ],
)  # fmt: skip
def test_what_a_reader_can_do(changes: dict[str, object], said: str) -> None:
    assert showing.standing(item(**changes), is_open=True) == said


def item(**changes: object) -> Item:
    ask = make_ask()
    usual: dict[str, object] = {
        "id": ask.id, "state": State.PENDING, "opened_ms": NOW, "expires_ms": NOW + MINUTE, "changed_ms": NOW,
        "caller": ask.caller, "route": "r", "path": "/p", "upstream": "u", "dialect": "d", "model": None,
        "document_count": 1, "total_chars": 1, "findings": {}, "risk": None, "reasons": (), "policy_revision": "",
        "plan": ask.plan, "requirement": ask.requirement, "votes": (), "needed": 1, "objection": None,
        "may_vote": False, "may_withdraw": False, "may_operate": False, "record": "", "decision_id": "", "used_by": "",
        "note": "",
    }  # fmt: skip
    return Item(**(usual | changes))  # type: ignore[arg-type]


async def test_a_fresh_approval_can_be_voted_on_without_a_word() -> None:
    table = Table()
    table.store.put(make_ask())
    (one,) = await table.desk.listing(person())
    assert showing.standing(one, is_open=True) == ""
