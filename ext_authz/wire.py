"""Envoy's CheckRequest and CheckResponse, to and from our own types. Named nowhere else in this filter."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from rankgate.decision import Allow, Decision, Deny
from rankgate.handoff import KEY, to_metadata
from rankgate.pb import common_pb2 as common
from rankgate.pb import ext_authz_pb2 as pb
from rankgate.request import HttpRequest

__all__ = ["CHECK", "SERVICE", "answer_of", "parse", "rendered", "request_of"]

SERVICE = "envoy.service.auth.v3.Authorization"
CHECK = "Check"

_OK, _PERMISSION_DENIED, _UNAUTHENTICATED = 0, 7, 16
_OVERWRITE = common.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD


def parse(data: bytes) -> pb.CheckRequest:
    """Parse one serialised CheckRequest. Raises google.protobuf.message.DecodeError."""
    return pb.CheckRequest.FromString(data)


def request_of(message: pb.CheckRequest) -> HttpRequest:
    """Return the call that Envoy asks about, with every header value as its exact bytes."""
    context = message.attributes
    http = context.request.http
    path, _, query = http.path.partition("?")
    if http.header_map.headers:
        headers = tuple((h.key.lower(), h.raw_value or h.value.encode()) for h in http.header_map.headers)
    else:
        headers = tuple((name.lower(), value.encode()) for name, value in http.headers.items())
    return HttpRequest(
        id=http.id,
        method=http.method,
        path=path,
        query=query,
        host=http.host,
        scheme=http.scheme,
        protocol=http.protocol,
        headers=headers,
        body=http.raw_body or http.body.encode(),
        route=context.context_extensions.get("route", ""),
        source_address=_address(context.source.address),
        attributes=_attributes(context),
    )


def answer_of(decision: Decision) -> pb.CheckResponse:
    """Return the message for a decision. The only place where a CheckResponse is built.

    It is a denial before it is anything: a message without `status.code` would let the request pass.
    """
    response = pb.CheckResponse()
    response.status.code = _PERMISSION_DENIED
    match decision:
        case Allow():
            # Only `append` counts for request headers; left unset it overwrites, also what the caller sent.
            response.status.code = _OK
            ok = response.ok_response
            ok.headers.extend(_options(decision.set_headers))
            if decision.lease is not None:
                ok.headers.extend(_options([(decision.lease.header, decision.lease.value.reveal())]))
            ok.headers_to_remove.extend(decision.remove)
            ok.response_headers_to_add.extend(_options(decision.response_headers))
            ok.query_parameters_to_set.extend(
                common.QueryParameter(key=key, value=value) for key, value in decision.query_set
            )
            ok.query_parameters_to_remove.extend(decision.query_remove)
            ours = to_metadata(decision.handoff)
        case Deny():
            if decision.status == 401:
                response.status.code = _UNAUTHENTICATED
            denied = response.denied_response
            denied.status.code = decision.status
            denied.headers.extend(_options(decision.headers))
            denied.body = decision.body.decode()
            # A handoff without its mandatory fields: enough for the access log, refused by ext_proc.
            ours = {"decision_id": decision.decision_id}
        case _:
            assert_never(decision)
    response.dynamic_metadata.update(decision.metadata)
    fields = response.dynamic_metadata.fields[KEY].struct_value.fields
    for name, text in ours.items():
        fields[name].string_value = text
    return response


def rendered(decision: Decision) -> bytes:
    """Return the serialised message for a decision."""
    return answer_of(decision).SerializeToString()


def _options(headers: Iterable[tuple[str, str]]) -> Iterable[common.HeaderValueOption]:
    return (
        common.HeaderValueOption(header=common.HeaderValue(key=name, value=value), append_action=_OVERWRITE)
        for name, value in headers
    )


def _address(address: common.Address) -> str:
    if address.HasField("socket_address"):
        socket = address.socket_address
        return (
            f"[{socket.address}]:{socket.port_value}"
            if ":" in socket.address
            else f"{socket.address}:{socket.port_value}"
        )
    return address.pipe.path


def _attributes(context: pb.AttributeContext) -> dict[str, object]:
    """Return what opa-envoy-plugin shows under `attributes` beside the request itself; absent stays absent."""
    attributes: dict[str, object] = {}
    for name, peer in (("source", context.source), ("destination", context.destination)):
        shown: dict[str, object] = {}
        if peer.address.HasField("socket_address"):
            socket = peer.address.socket_address
            shown["address"] = {"socketAddress": {"address": socket.address, "portValue": socket.port_value}}
        elif peer.address.HasField("pipe"):
            shown["address"] = {"pipe": {"path": peer.address.pipe.path}}
        shown |= {key: value for key in ("service", "principal", "certificate") if (value := getattr(peer, key))}
        if peer.labels:
            shown["labels"] = dict(peer.labels)
        if shown:
            attributes[name] = shown
    if context.context_extensions:
        attributes["contextExtensions"] = dict(context.context_extensions)
    if context.tls_session.sni:
        attributes["tlsSession"] = {"sni": context.tls_session.sni}
    if context.request.HasField("time"):
        time = context.request.time
        attributes["request"] = {"time": {"seconds": time.seconds, "nanos": time.nanos}}
    return attributes
