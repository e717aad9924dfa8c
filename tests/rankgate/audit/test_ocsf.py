from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from fakes.events import DIGEST, completion, decision, events, lifecycle
from hypothesis import given

from rankgate.audit import AuditEvent, Call, Caller, What
from rankgate.audit.ocsf import Source, render
from rankgate.errors import Reason

SCHEMA = json.loads((Path(__file__).parents[3] / "docs/schema/audit-event.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
SOURCE = Source("default", "local/authz-0/1790000000000", "0.1.0", DIGEST)
EVERY = [
    decision(),
    decision(allowed=False, reason=Reason.TOKEN_INVALID, status=401, caller=None, call=Call(), plan=None, capture=None),
    completion(),
    *(lifecycle(what) for what in What),
]


def body(event: AuditEvent, index: int = 5) -> dict[str, Any]:
    return json.loads(render(event, SOURCE, index))


@pytest.mark.parametrize("event", EVERY, ids=lambda event: type(event).__name__)
def test_every_kind_of_event_follows_the_published_schema(event: AuditEvent) -> None:
    VALIDATOR.validate(body(event))


@pytest.mark.parametrize("event", EVERY, ids=lambda event: type(event).__name__)
def test_the_published_schema_describes_every_member(event: AuditEvent) -> None:
    kind = body(event)["unmapped"]["rankgate"]["kind"]
    closed = json.loads(json.dumps(SCHEMA["$defs"][kind]), object_hook=_close)
    jsonschema.Draft202012Validator(closed).validate(body(event))


def test_the_schema_refuses_what_is_no_event() -> None:
    good = body(decision())
    for broken in (
        good | {"class_uid": 6002},
        good | {"time": "now"},
        {name: value for name, value in good.items() if name != "unmapped"},
        good | {"unmapped": {"rankgate": good["unmapped"]["rankgate"] | {"index": -1}}},
    ):
        assert not VALIDATOR.is_valid(broken)


def test_a_decision_holds_log_and_number_in_both_places() -> None:
    event = body(decision(), 5)
    assert event["metadata"]["uid"] == "local/authz-0/1790000000000#5"
    ours = event["unmapped"]["rankgate"]
    assert (ours["log"], ours["index"], ours["deployment"]) == ("local/authz-0/1790000000000", 5, "default")


def test_an_allow_and_a_denial_are_told_apart_in_the_words_of_ocsf() -> None:
    allowed, denied = body(decision()), body(decision(allowed=False, reason=Reason.POLICY_DENIED, status=403))
    assert (allowed["action_id"], allowed["disposition_id"], allowed["status_id"]) == (1, 1, 1)
    assert (denied["action_id"], denied["disposition_id"], denied["status_id"]) == (2, 2, 2)
    assert denied["status_code"] == "policy_denied"
    assert denied["http_response"] == {"code": 403}


def test_what_is_not_known_is_absent() -> None:
    event = body(decision(caller=None, call=Call(), plan=None, capture=None, risk=None, lease=""))
    assert not {"model", "plan", "capture", "risk", "lease", "route"} & event["unmapped"]["rankgate"].keys()
    assert event["actor"] == {"user": {"name": "unverified", "type_id": 0}}


def test_zero_and_false_are_knowledge() -> None:
    ours = body(decision(allowed=False, risk=0, reason=Reason.POLICY_DENIED))["unmapped"]["rankgate"]
    assert ours["allowed"] is False
    assert ours["risk"] == 0


def test_rendering_is_the_same_every_time() -> None:
    assert render(decision(), SOURCE, 1) == render(decision(), SOURCE, 1)


def test_an_independent_reader_understands_our_objects() -> None:
    ocsf = pytest.importorskip("py_ocsf_models.objects", reason="py-ocsf-models has no release for this Python")
    from py_ocsf_models.events.base_event import BaseEvent
    from py_ocsf_models.objects.api import API
    from py_ocsf_models.objects.metadata import Metadata
    from py_ocsf_models.objects.policy import Policy
    from py_ocsf_models.objects.product import Product

    assert ocsf
    for event in map(body, EVERY):
        # It knows no API Activity class: its base event and the objects of ours are what it can judge.
        read = BaseEvent.model_validate(event)
        assert read.metadata.sequence == 5
        assert Metadata.model_validate(event["metadata"]).log_name == SOURCE.log
        if "api" in event:
            # Of a service it demands what OCSF 1.9 only recommends.
            assert API.model_validate({**event["api"], "service": None}).operation
        if "app" in event:
            assert Product.model_validate(event["app"]).version == "0.1.0"
    assert Policy.model_validate(body(decision())["policy"]).version == "bundle-7"


@given(events)
def test_scenario_60_whatever_the_strings_an_event_is_one_line_of_valid_json(event: AuditEvent) -> None:
    leaf = render(event, SOURCE, 1)
    text = leaf.decode("utf-8")
    assert text.isprintable() or not set("\r\n\x1b\0\u2028\u2029\x7f\x9b\u202e") & set(text)
    assert len(text.splitlines()) == 1
    VALIDATOR.validate(json.loads(text))


@pytest.mark.parametrize(
    "hostile", ["a\r\n{}", "\x1b[2J\x1b]0;x\x07", "\u2028\u2029", "\0", "%s%n{0}", "x" * 1_048_576]
)
def test_scenario_60_hostile_values_stay_inside_their_event(hostile: str) -> None:
    call = Call(
        request_id=hostile, method=hostile, path=f"/{hostile}", source_address=hostile, model=hostile, operation=hostile
    )
    caller = Caller(hostile, hostile, hostile, (hostile,) * 200)
    leaf = render(decision(call=call, caller=caller, policy_reasons=(hostile,) * 200, risk=hostile), SOURCE, 1)
    event = json.loads(leaf)
    assert len(leaf.decode().splitlines()) == 1
    assert len(leaf) < 700_000
    assert not any(byte < 0x20 or byte == 0x7F for byte in leaf)
    if len(hostile) > 1024:
        assert event["actor"]["user"]["uid"] == f"{hostile[:256]}…(1048576 characters, {DIGEST(hostile.encode())})"
    else:
        assert event["actor"]["user"]["uid"] == hostile
        assert event["http_request"]["url"]["path"] == f"/{hostile}"
    assert len(event["actor"]["user"]["groups"]) == 65


def test_a_number_json_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        render(decision(risk=float("nan")), SOURCE, 1)


def _close(schema: dict[str, Any]) -> dict[str, Any]:
    return schema | {"additionalProperties": False} if "properties" in schema and "type" in schema else schema
