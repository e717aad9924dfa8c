"""Envoy's ProcessingRequest and ProcessingResponse, to and from our own types. Named nowhere else in this filter."""

from __future__ import annotations

from collections.abc import Iterable

from ext_proc.conversation import (
    Abort,
    Action,
    Event,
    Pass,
    Refuse,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from rankgate.handoff import KEY
from rankgate.pb import common_pb2 as common
from rankgate.pb import ext_proc_pb2 as pb

__all__ = ["PROCESS", "SERVICE", "event_of", "parse", "response_of"]

SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"
PROCESS = "Process"

_AUTHZ = "envoy.filters.http.ext_authz"
_PROC = "envoy.filters.http.ext_proc"
_OVERWRITE = common.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD


def parse(data: bytes) -> pb.ProcessingRequest:
    """Parse one serialised ProcessingRequest. Raises google.protobuf.message.DecodeError."""
    return pb.ProcessingRequest.FromString(data)


def event_of(message: pb.ProcessingRequest) -> Event | None:
    """Return what happened; None for a message that only carries flow control."""
    kind = message.WhichOneof("request")
    match kind:
        case "request_headers":
            return RequestHeaders(
                headers=_headers(message.request_headers.headers),
                end=message.request_headers.end_of_stream,
                handoff=_handoff(message),
                buffered=_buffered(message),
            )
        case "request_body":
            return RequestBody(message.request_body.body)
        case "request_trailers":
            return RequestTrailers(tuple(h.key for h in message.request_trailers.trailers.headers))
        case "response_headers":
            return ResponseHeaders(
                headers=_headers(message.response_headers.headers),
                end=message.response_headers.end_of_stream,
                local=_is_local_reply(message),
                buffered=_buffered(message),
            )
        case "response_body":
            return ResponseBody(message.response_body.body)
        case "response_trailers":
            return ResponseTrailers(tuple(h.key for h in message.response_trailers.trailers.headers))
        case _:
            return None


def response_of(event: Event, action: Action) -> pb.ProcessingResponse:
    """Return the message that answers `event` with `action`, of the same kind as the event.

    An Abort has no message: the stream must end with an error status, because a clean end lets the rest pass.
    """
    response = pb.ProcessingResponse()
    if isinstance(action, Abort):
        raise TypeError("an abort ends the stream")
    if isinstance(action, Refuse):
        immediate = response.immediate_response
        immediate.status.code = action.status
        immediate.headers.set_headers.extend(_options(action.headers))
        immediate.body = action.body
        immediate.details = action.details
        return response
    match event:
        case RequestHeaders() | ResponseHeaders():
            name = "request_headers" if isinstance(event, RequestHeaders) else "response_headers"
            _mutate(getattr(response, name).response, action)
            getattr(response, name).SetInParent()
        case RequestBody() | ResponseBody():
            name = "request_body" if isinstance(event, RequestBody) else "response_body"
            common_response = getattr(response, name).response
            _mutate(common_response, action)
            if action.body is not None:
                common_response.body_mutation.body = action.body
            getattr(response, name).SetInParent()
        case RequestTrailers():
            response.request_trailers.header_mutation.remove_headers.extend(action.remove)
        case ResponseTrailers():
            response.response_trailers.header_mutation.remove_headers.extend(action.remove)
    return response


def _mutate(target: pb.CommonResponse, action: Pass) -> None:
    if action.set_headers:
        target.header_mutation.set_headers.extend(_options(action.set_headers))
    if action.remove:
        target.header_mutation.remove_headers.extend(action.remove)


def _options(headers: Iterable[tuple[str, str]]) -> Iterable[common.HeaderValueOption]:
    # ext_proc reads raw_value and ignores value, the other way round than ext_authz.
    return (
        common.HeaderValueOption(
            header=common.HeaderValue(key=name, raw_value=value.encode()), append_action=_OVERWRITE
        )
        for name, value in headers
    )


def _headers(headers: common.HeaderMap) -> tuple[tuple[str, bytes], ...]:
    return tuple((h.key.lower(), h.raw_value or h.value.encode()) for h in headers.headers)


def _handoff(message: pb.ProcessingRequest) -> dict[str, str] | None:
    authz = message.metadata_context.filter_metadata
    if _AUTHZ not in authz or KEY not in authz[_AUTHZ].fields:
        return None
    fields = authz[_AUTHZ].fields[KEY].struct_value.fields
    return {name: value.string_value for name, value in fields.items()}


def _is_local_reply(message: pb.ProcessingRequest) -> bool:
    """Tell whether Envoy itself wrote this response. What does not prove it counts as the reranker's."""
    if _PROC not in message.attributes:
        return False
    fields = message.attributes[_PROC].fields
    details = fields["response.code_details"].string_value if "response.code_details" in fields else ""
    return bool(details) and details != "via_upstream" and "upstream.address" not in fields


def _buffered(message: pb.ProcessingRequest) -> bool | None:
    """Tell whether both bodies come BUFFERED and answers count; None where the message does not say."""
    if message.observability_mode:
        return False
    if not message.HasField("protocol_config"):
        return None
    config = message.protocol_config
    return config.request_body_mode == pb.BUFFERED and config.response_body_mode == pb.BUFFERED
