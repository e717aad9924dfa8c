from __future__ import annotations

import json
from typing import Any

import pytest
from fakes.events import DIGEST, completion, decision, events, lifecycle
from hypothesis import given
from hypothesis import strategies as st

from rankgate.audit import AuditEvent, Caller
from rankgate.audit.entry import BodyError, differing, fields_from_body, read_body, to_fields
from rankgate.audit.names import stream_key
from rankgate.audit.ocsf import Source, render

LOG = "local/authz-0/1790000000000"
SOURCE = Source("default", LOG, "0.1.0", DIGEST)
KEY = stream_key("default", LOG)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["unmapped", "rankgate", "time", "log"]), inner)
    ),
    max_leaves=8,
)


def leaf(event: AuditEvent, index: int = 4) -> bytes:
    return render(event, SOURCE, index)


def test_an_entry_is_cloudevents_attributes_and_the_leaf_itself() -> None:
    body = leaf(decision())
    assert to_fields(body) == {
        "specversion": b"1.0",
        "id": b"4",
        "source": b"/rankgate/default/local/authz-0/1790000000000",
        "type": b"rankgate.decision",
        "subject": b"indexer",
        "time": b"2026-09-21T14:13:20.124Z",
        "datacontenttype": b"application/json",
        "dataschema": b"urn:rankgate:audit-event:1",
        "trace": b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "body": body,
    }


def test_an_event_without_identity_has_no_subject() -> None:
    assert "subject" not in fields_from_body(leaf(decision(caller=None)))


def test_scenario_60_flat_fields_hold_no_control_characters() -> None:
    evil = Caller("i", "a\r\n\x1b[2J\x9b\u2028", "t")
    assert fields_from_body(leaf(decision(caller=evil)))["subject"] == "a\\u000d\\u000a\\u001b[2J\\u009b\\u2028"


@given(events)
def test_every_entry_agrees_with_its_own_body(event: AuditEvent) -> None:
    fields = to_fields(leaf(event))
    texts = {name: value.decode() for name, value in fields.items() if name != "body"}
    assert differing(texts, fields["body"], KEY, "1790000000000-4") == ()


@pytest.mark.parametrize(
    "name", ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema"]
)
def test_a_changed_or_missing_field_is_named(name: str) -> None:
    fields = fields_from_body(leaf(decision()))
    body = leaf(decision())
    assert differing(fields | {name: "other"}, body, KEY, "1-4") == (name,)
    del fields[name]
    assert differing(fields, body, KEY, "1-4") == (name,)


def test_a_field_nobody_derives_is_named() -> None:
    fields = fields_from_body(leaf(decision())) | {"verdict": "trusted"}
    assert differing(fields, leaf(decision()), KEY, "1-4") == ("verdict",)


def test_a_changed_trace_is_accepted() -> None:
    fields = fields_from_body(leaf(decision())) | {"trace": "00-1-2-00"}
    assert differing(fields, leaf(decision()), KEY, "1-4") == ()


def test_an_entry_in_another_stream_or_under_another_number_is_named() -> None:
    body = leaf(decision())
    fields = fields_from_body(body)
    assert differing(fields, body, stream_key("other", LOG), "1-4") == ("stream",)
    assert differing(fields, body, KEY, "1-14") == ("entry",)
    assert differing(fields, body, KEY, "4-5") == ("entry",)


@pytest.mark.parametrize(
    "change",
    [
        lambda event: event["unmapped"].update(rankgate=[]),
        lambda event: event["unmapped"]["rankgate"].update(index=True),
        lambda event: event["unmapped"]["rankgate"].update(index=-1),
        lambda event: event["unmapped"]["rankgate"].pop("log"),
        lambda event: event.update(time=10**15),
        lambda event: event.update(time=1.5),
        lambda event: event.update(actor="root"),
    ],
)
def test_a_body_of_another_shape_is_no_event(change: Any) -> None:
    event = json.loads(leaf(decision()))
    change(event)
    with pytest.raises(BodyError):
        read_body(json.dumps(event).encode())


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"a":1,"a":2}', b'{"a":NaN}', b"[" * 100_000])
def test_what_is_not_strict_json_is_no_event(body: bytes) -> None:
    with pytest.raises(BodyError):
        read_body(body)
    assert differing({}, body, KEY, "1-4") == ("body",)


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_the_body_reading_it_raises_only_our_error(body: bytes) -> None:
    try:
        read_body(body)
    except BodyError:
        assert differing({}, body, KEY, "1-4") == ("body",)


def test_a_row_holds_what_listings_need() -> None:
    row = read_body(leaf(decision()))
    assert (row.decision, row.subject, row.tenant, row.route, row.model) == (
        "allow", "indexer", "acme", "cohere-v2", "rerank-v3.5",
    )  # fmt: skip
    assert (row.findings, row.documents, row.position) == (3, 3, f"{LOG}#4")
    assert read_body(leaf(completion())).status == 200
    assert read_body(leaf(lifecycle())).what == "start"
