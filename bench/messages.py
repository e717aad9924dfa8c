"""The messages that Envoy sends to the filters for one call, for running them without Envoy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.struct_pb2 import Struct

from bench.bodies import PATH
from rankgate.pb import ext_authz_pb2 as authz
from rankgate.pb import ext_proc_pb2 as proc

__all__ = ["check_request", "handoff_of", "process_requests"]

AUTHZ, PROC = "envoy.filters.http.ext_authz", "envoy.filters.http.ext_proc"


def check_request(body: bytes, token: str, route: str) -> bytes:
    """Return the CheckRequest of a call with `body`."""
    message = authz.CheckRequest()
    attributes = message.attributes
    attributes.source.address.socket_address.address = "127.0.0.1"
    attributes.source.address.socket_address.port_value = 40_000
    attributes.context_extensions["route"] = route
    http = attributes.request.http
    http.id, http.method, http.path, http.host, http.scheme = "1", "POST", PATH, "gate", "http"
    http.protocol, http.raw_body = "HTTP/1.1", body
    headers = {
        ":authority": "gate", ":method": "POST", ":path": PATH, ":scheme": "http", "accept": "*/*",
        "authorization": f"Bearer {token}", "content-type": "application/json", "content-length": str(len(body)),
        "user-agent": "bench", "x-request-id": "5b0ddf2c-ec0d-4c1b-a5d3-2d8f9d0b1a11", "x-forwarded-proto": "http",
    }  # fmt: skip
    for name, value in headers.items():
        http.header_map.headers.add(key=name, raw_value=value.encode())
    return message.SerializeToString()


def handoff_of(answer: bytes) -> Struct:
    """Return the metadata of a serialised CheckResponse. Raises ValueError for a denial."""
    response = authz.CheckResponse.FromString(answer)
    if not response.HasField("ok_response"):
        raise ValueError(f"the call was denied: {response.denied_response.body}")
    return response.dynamic_metadata


def process_requests(body: bytes, answer: bytes, handoff: Struct) -> list[bytes]:
    """Return the four ProcessingRequests of a call with `body` that the reranker answers with `answer`."""
    request_headers = proc.ProcessingRequest()
    _add(request_headers.request_headers.headers.headers, {
        ":authority": "gate", ":method": "POST", ":path": PATH, "accept": "*/*", "content-type": "application/json",
        "content-length": str(len(body)), "accept-encoding": "identity",
    })  # fmt: skip
    request_headers.protocol_config.request_body_mode = proc.BUFFERED
    request_headers.protocol_config.response_body_mode = proc.BUFFERED
    request_body = proc.ProcessingRequest()
    request_body.request_body.body, request_body.request_body.end_of_stream = body, True
    response_headers = proc.ProcessingRequest()
    _add(response_headers.response_headers.headers.headers, {
        ":status": "200", "content-type": "application/json", "content-length": str(len(answer)),
    })  # fmt: skip
    attributes = response_headers.attributes[PROC]
    attributes.update(
        {"response.code": 200, "response.code_details": "via_upstream", "upstream.address": "127.0.0.1:1"}
    )
    response_body = proc.ProcessingRequest()
    response_body.response_body.body, response_body.response_body.end_of_stream = answer, True
    messages = [request_headers, request_body, response_headers, response_body]
    for message in messages:  # Envoy repeats the metadata with every one of them
        message.metadata_context.filter_metadata[AUTHZ].CopyFrom(handoff)
    return [message.SerializeToString() for message in messages]


def _add(headers: Any, values: Mapping[str, str]) -> None:
    for name, value in values.items():
        headers.add(key=name, raw_value=value.encode())
