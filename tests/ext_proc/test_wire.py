"""Every answer has the kind of its message, headers travel as raw bytes, and only proof makes a reply local."""

import pytest

from ext_proc.conversation import (
    Abort,
    Pass,
    Refuse,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from ext_proc.wire import event_of, response_of
from rankgate.pb import ext_proc_pb2 as pb

HEADERS = RequestHeaders((), False, None, True)
ANSWER = ResponseHeaders((), False, False, None)


def message(kind, *, attributes=None, modes=None, metadata=None, **fields):
    request = pb.ProcessingRequest(**{kind: fields})
    if attributes is not None:
        request.attributes["envoy.filters.http.ext_proc"].update(attributes)
    if modes:
        request.protocol_config.request_body_mode, request.protocol_config.response_body_mode = modes
    if metadata is not None:
        request.metadata_context.filter_metadata["envoy.filters.http.ext_authz"].update(metadata)
    return request


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (HEADERS, "request_headers"),
        (RequestBody(b""), "request_body"),
        (RequestTrailers(()), "request_trailers"),
        (ANSWER, "response_headers"),
        (ResponseBody(b""), "response_body"),
        (ResponseTrailers(()), "response_trailers"),
    ],
)
def test_an_answer_has_the_kind_of_its_message_even_when_empty(event, kind):
    assert response_of(event, Pass()).WhichOneof("response") == kind


def test_header_changes_are_raw_bytes_that_overwrite():
    response = response_of(ANSWER, Pass(set_headers=(("content-length", "3"),), remove=("server",)))
    mutation = response.response_headers.response.header_mutation
    (option,) = mutation.set_headers
    assert (option.header.raw_value, option.header.value, option.append_action) == (b"3", "", 2)
    assert list(mutation.remove_headers) == ["server"]


def test_an_unchanged_body_is_not_sent_back_and_a_changed_one_is():
    assert not response_of(RequestBody(b"x"), Pass()).request_body.response.HasField("body_mutation")
    assert response_of(RequestBody(b"x"), Pass(body=b"")).request_body.response.body_mutation.body == b""
    assert response_of(RequestBody(b"x"), Pass(body=b"")).request_body.response.HasField("body_mutation")


def test_a_refusal_is_an_immediate_response_with_its_word():
    response = response_of(ANSWER, Refuse(502, (("content-type", "application/json"),), b"{}", "rankgate_x"))
    assert response.immediate_response.status.code == 502
    assert response.immediate_response.details == "rankgate_x"


def test_an_abort_has_no_message():
    with pytest.raises(TypeError):
        response_of(ANSWER, Abort("word"))


def test_a_message_that_only_carries_flow_control_is_no_event():
    assert event_of(pb.ProcessingRequest()) is None


@pytest.mark.parametrize(
    ("attributes", "local"),
    [
        ({"response.code_details": "ext_authz_denied"}, True),
        ({"response.code_details": "via_upstream"}, False),
        ({"response.code_details": "via_upstream", "upstream.address": "1.2.3.4:80"}, False),
        ({"response.code_details": "anything", "upstream.address": "1.2.3.4:80"}, False),
        ({"response.code_details": ""}, False),
        ({"response.code": 403.0}, False),
        ({}, False),
        (None, False),
    ],
)
def test_a_response_counts_as_the_rerankers_unless_envoy_proves_it_wrote_it(attributes, local):
    assert event_of(message("response_headers", attributes=attributes)).local is local


@pytest.mark.parametrize(
    ("modes", "buffered"), [(None, None), ((2, 2), True), ((0, 2), False), ((2, 0), False), ((3, 2), False)]
)
def test_only_both_bodies_buffered_counts_as_buffered(modes, buffered):
    assert event_of(message("request_headers", modes=modes)).buffered is buffered


def test_the_handoff_is_read_from_the_authz_namespace_alone():
    read = event_of(message("request_headers", metadata={"rankgate": {"handoff": "{}", "n": 1}})).handoff
    assert read == {"handoff": "{}", "n": ""}
    assert event_of(message("request_headers", metadata={"other": {"handoff": "{}"}})).handoff is None
    assert event_of(message("request_headers", metadata={"rankgate": "text"})).handoff == {}
    assert event_of(message("request_headers")).handoff is None


def test_a_stream_whose_answers_are_ignored_counts_as_not_buffered():
    request = message("request_headers", modes=(2, 2))
    request.observability_mode = True
    assert event_of(request).buffered is False
