"""Envoy's messages become our types without loss, and no answer can be taken for an allow by accident."""

import pytest
from google.protobuf.json_format import MessageToDict

from ext_authz.wire import answer_of, request_of
from rankgate.credentials import Lease, Secret
from rankgate.decision import Allow, Deny
from rankgate.errors import Reason
from rankgate.handoff import Handoff, from_metadata
from rankgate.pb import ext_authz_pb2 as pb

HANDOFF = Handoff("dec-1", "https://i", "search-svc", "acme", "r", "tei", 1, "00", 20, 3, 4, "", "", "omit")


def check_request(**http):
    message = pb.CheckRequest()
    context = message.attributes
    context.context_extensions["route"] = "cohere-v2"
    context.source.address.socket_address.address = "127.0.0.1"
    context.source.address.socket_address.port_value = 4711
    for name, value in http.items():
        if name == "header_map":
            for key, raw in value:
                context.request.http.header_map.headers.add(key=key, raw_value=raw)
        elif name == "headers":
            context.request.http.headers.update(value)
        else:
            setattr(context.request.http, name, value)
    return message


def test_raw_headers_keep_their_order_duplicates_and_bytes():
    http = request_of(
        check_request(path="/rerank", header_map=[("Authorization", b"Bearer a"), ("authorization", b"\xffx")])
    )
    assert http.headers == (("authorization", b"Bearer a"), ("authorization", b"\xffx"))
    assert http.values("authorization") == [b"Bearer a", b"\xffx"]


def test_plain_headers_are_understood_too():
    assert request_of(check_request(headers={"X-One": "1"})).headers == (("x-one", b"1"),)


def test_path_and_query_are_told_apart_and_the_body_is_its_bytes():
    http = request_of(check_request(path="/v2/rerank?a=1?b", method="POST", raw_body=b"\xff\x00"))
    assert (http.path, http.query, http.method, http.body) == ("/v2/rerank", "a=1?b", "POST", b"\xff\x00")
    assert (http.route, http.source_address) == ("cohere-v2", "127.0.0.1:4711")


def test_an_unrouted_call_has_no_route_name():
    assert request_of(pb.CheckRequest()).route == ""


def allow(**changes):
    fields = {"decision_id": "dec-1", "handoff": HANDOFF, "lease": None}
    return Allow(**{**fields, **changes})


def test_an_allow_says_so_and_hands_over():
    answer = answer_of(allow(metadata={"team": "search"}))
    assert answer.status.code == 0
    assert answer.HasField("ok_response")
    metadata = MessageToDict(answer.dynamic_metadata)
    assert from_metadata(metadata["rankgate"]) == HANDOFF
    assert metadata["team"] == "search"


def test_the_lease_is_set_overwriting_and_is_nowhere_else():
    lease = Lease("authorization", Secret("Bearer sk-up"), "6:00")
    answer = answer_of(allow(lease=lease, remove=("cookie",)))
    header = answer.ok_response.headers[-1]
    # ext_authz reads `value`; an unset `append` overwrites what the caller sent.
    assert (header.header.key, header.header.value, header.header.raw_value) == ("authorization", "Bearer sk-up", b"")
    assert not header.HasField("append")
    assert "authorization" not in answer.ok_response.headers_to_remove
    answer.ok_response.headers.pop()
    assert b"sk-up" not in answer.SerializeToString()


@pytest.mark.parametrize("status", [200, 400, 401, 403, 413, 503])
def test_a_denial_is_never_an_allow_whatever_its_status(status):
    answer = answer_of(Deny("dec-1", Reason.POLICY_DENIED, status, (("content-type", "application/json"),), b"{}"))
    assert answer.status.code != 0
    assert answer.denied_response.status.code == status
    assert answer.denied_response.body == "{}"


def test_a_denials_metadata_names_the_decision_and_is_no_handoff():
    answer = answer_of(Deny("dec-1", Reason.POLICY_DENIED, 403, (), b""))
    assert MessageToDict(answer.dynamic_metadata) == {"rankgate": {"decision_id": "dec-1"}}


def test_what_is_neither_allow_nor_deny_is_no_answer():
    with pytest.raises(AssertionError):
        answer_of(object())


def test_a_peers_address_is_written_so_that_its_port_can_be_told():
    message = check_request()
    message.attributes.source.address.socket_address.address = "::1"
    assert request_of(message).source_address == "[::1]:4711"
