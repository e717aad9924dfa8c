from __future__ import annotations

import pytest

from rankgate.audit.entry import Row
from rankgate.audit.names import StreamId
from rankgate.audit.reading import FILTER_KEYS, Filter, parse_since, unconfirmed

NOW = 1_790_000_000_000


def row(**changes: object) -> Row:
    values: dict[str, object] = {
        "kind": "decision",
        "deployment": "d",
        "log": "l",
        "index": 1,
        "time": NOW,
        "allowed": True,
    }
    return Row(**{**values, **changes})  # type: ignore[arg-type]


def test_one_key_must_match_one_of_its_values_and_every_key_must_match() -> None:
    wanted = Filter.parse(["decision=deny", "tenant=a", "tenant=b"])
    assert wanted.matches(row(allowed=False, tenant="b"))
    assert not wanted.matches(row(allowed=False, tenant="c"))
    assert not wanted.matches(row(allowed=True, tenant="a"))


def test_no_filter_matches_everything() -> None:
    assert Filter.parse([]).matches(row())


def test_a_value_may_hold_an_equals_sign() -> None:
    assert Filter.parse(["subject=a=b"]).matches(row(subject="a=b"))


@pytest.mark.parametrize("term", ["decision", "=deny", "colour=red", ""])
def test_a_filter_that_would_never_match_is_refused_with_the_keys(term: str) -> None:
    with pytest.raises(ValueError, match="decision_id"):
        Filter.parse([term])


@pytest.mark.parametrize(
    ("term", "known"),
    [
        ("decision=denied", "decision is one of allow, deny"),
        ("type=deny", "type is one of decision, completion, lifecycle"),
        ("outcome=done", "outcome is one of complete, aborted, refused, local_reply, upstream_error"),
        ("what=begin", "what is one of start, stop, "),
        ("status=4xx", "status is a number"),
    ],
)
def test_a_value_that_no_event_has_is_refused_with_those_there_are(term: str, known: str) -> None:
    with pytest.raises(ValueError, match=known):
        Filter.parse([term])


@pytest.mark.parametrize("key", FILTER_KEYS)
def test_every_key_reads_its_own_member(key: str) -> None:
    values = {"type": "completion", "decision": "deny", "status": "503", "outcome": "aborted", "what": "alarm"}
    changes = {"type": {"kind": "completion"}, "decision": {"allowed": False}, "status": {"status": 503}}
    changes |= {"outcome": {"outcome": "aborted"}, "what": {"what": "alarm"}}
    wanted = Filter.parse([f"{key}={values.get(key, 'x')}"])
    assert wanted.matches(row(**changes.get(key, {key: "x"})))
    assert not wanted.matches(row())


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("10m", StreamId(NOW - 600_000, 0)),
        ("2h", StreamId(NOW - 7_200_000, 0)),
        ("500ms", StreamId(NOW - 500, 0)),
        ("999999999d", StreamId(0, 0)),
        ("2026-09-21T14:13:20Z", StreamId(NOW, 0)),
        ("2026-09-21T16:13:20.250+02:00", StreamId(NOW + 250, 0)),
        ("1790000000000-7", StreamId(NOW, 7)),
    ],
)
def test_since_is_a_duration_a_time_or_a_stream_id(text: str, wanted: StreamId) -> None:
    assert parse_since(text, NOW) == wanted


@pytest.mark.parametrize("text", ["", "yesterday", "10", "-5m", "2026-09-21T14:13:20", "10 m"])
def test_since_that_could_mean_two_things_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_since(text, NOW)


def test_an_allow_without_completion_is_unconfirmed_once_it_is_old_enough() -> None:
    rows = [row(decision_id="a"), row(decision_id="b"), row(decision_id="c", allowed=False)]
    assert unconfirmed(rows, {"b"}, NOW + 59_999, 60_000) == []
    assert [one.decision_id for one in unconfirmed(rows, {"b"}, NOW + 60_000, 60_000)] == ["a"]
