"""The least filters that can be, to test Envoy's configuration by itself.

`python trivial.py ext_authz|ext_proc --config FILE --slot N`. ext_authz allows what has a route and writes down
every Check; ext_proc lets bodies pass, writes down every message, refuses request trailers and removes the
response's. Both write one JSON object a line beside the settings file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from rankgate.pb import ext_authz_pb2 as authz
from rankgate.pb import ext_proc_pb2 as proc
from rankgate.settings import load

DENIAL = b'{"message": "native denial", "detail": null}'


def values(headers: Any) -> list[list[str]]:
    """Return a header map as pairs of text."""
    return [[header.key, header.raw_value.decode("latin-1")] for header in headers.headers]


class Trivial:
    """Both services over one journal."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal

    def note(self, **entry: Any) -> None:
        with self._journal.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    async def check(self, request: authz.CheckRequest, context: Any) -> authz.CheckResponse:
        http = request.attributes.request.http
        route = request.attributes.context_extensions["route"]
        headers = values(http.header_map)
        self.note(
            method=http.method, path=http.path, route=route, headers=headers, size=len(http.raw_body),
            source=request.attributes.source.address.socket_address.address,
        )  # fmt: skip
        response = authz.CheckResponse()
        response.dynamic_metadata.update({"rankgate": {"decision_id": f"id-{http.id}", "subject": "hidden-subject"}})
        names = {name for name, _ in headers}
        await asyncio.sleep(float(dict(headers).get("x-trivial-delay", 0)))
        if "x-trivial-deny" in names:
            response.status.code = 7
            response.denied_response.status.code = 403
            response.denied_response.body = DENIAL.decode()
            header = response.denied_response.headers.add().header
            header.key, header.value = "content-type", "application/json"
            receipt = response.denied_response.headers.add().header
            receipt.key, receipt.value = "x-rankgate-decision-id", f"id-{http.id}"
            return response
        response.status.code = 0
        receipt = response.ok_response.headers.add().header
        receipt.key, receipt.value = "x-rankgate-decision-id", f"id-{http.id}"
        removed = sorted(name for name in names if not name.startswith((":", "content-")) and name != "x-request-id")
        response.ok_response.headers_to_remove.extend(removed)
        return response

    async def process(
        self, messages: AsyncIterator[proc.ProcessingRequest], context: Any
    ) -> AsyncIterator[proc.ProcessingResponse]:
        async for message in messages:
            kind = message.WhichOneof("request")
            field = getattr(message, kind)
            answer = proc.ProcessingResponse()
            entry: dict[str, Any] = {"kind": kind}
            if kind.endswith("headers"):
                entry |= {"headers": values(field.headers), "end": field.end_of_stream}
                entry["attributes"] = dict(message.attributes["envoy.filters.http.ext_proc"])
            elif kind.endswith("body"):
                entry |= {"size": len(field.body)}
            else:
                entry |= {"trailers": values(field.trailers)}
            entry["authz"] = "rankgate" in message.metadata_context.filter_metadata["envoy.filters.http.ext_authz"]
            self.note(**entry)
            if kind == "request_trailers":
                answer.immediate_response.status.code = 400
                answer.immediate_response.body = DENIAL
                header = answer.immediate_response.headers.set_headers.add().header
                header.key, header.raw_value = "content-type", b"application/json"
            elif kind == "response_trailers":
                names = [header.key for header in field.trailers.headers]
                answer.response_trailers.header_mutation.remove_headers.extend(names)
            else:
                getattr(answer, kind).SetInParent()
            yield answer


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["ext_authz", "ext_proc"])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--slot", type=int, required=True)
    arguments = parser.parse_args()
    settings = load(arguments.config)
    service = Trivial(arguments.config.parent / f"{arguments.role}-{arguments.slot}.jsonl")
    if arguments.role == "ext_authz":
        method = grpc.unary_unary_rpc_method_handler(
            service.check, authz.CheckRequest.FromString, authz.CheckResponse.SerializeToString
        )
        handler = grpc.method_handlers_generic_handler("envoy.service.auth.v3.Authorization", {"Check": method})
    else:
        method = grpc.stream_stream_rpc_method_handler(
            service.process, proc.ProcessingRequest.FromString, proc.ProcessingResponse.SerializeToString
        )
        handler = grpc.method_handlers_generic_handler(
            "envoy.service.ext_proc.v3.ExternalProcessor", {"Process": method}
        )
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", settings.grpc_message_bytes)])
    server.add_generic_rpc_handlers([handler])
    server.add_insecure_port(f"unix:{settings.sockets.directory}/{arguments.role}-{arguments.slot}.sock")
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.stop(0.2)


if __name__ == "__main__":
    asyncio.run(main())
