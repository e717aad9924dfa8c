"""Both filters with empty handlers: constant bytes, nothing parsed. What gRPC in Python costs before any work.

Started as the real filters are, with the same server, loop and environment.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path

import grpc
import uvloop

from rankgate import envoyconfig
from rankgate.pb import ext_authz_pb2 as authz
from rankgate.pb import ext_proc_pb2 as proc
from rankgate.settings import load

__all__ = ["main"]

Context = grpc.aio.ServicerContext[bytes, bytes]
# In the order in which Envoy sends them, for a call without trailers.
PHASES = ("request_headers", "request_body", "response_headers", "response_body")


def allowed() -> bytes:
    """Return the CheckResponse that lets a call pass."""
    response = authz.CheckResponse()
    response.status.code = 0
    response.ok_response.SetInParent()
    return response.SerializeToString()


def passed() -> tuple[bytes, ...]:
    """Return the ProcessingResponses that let every phase pass, in order."""
    found = []
    for phase in PHASES:
        response = proc.ProcessingResponse()
        getattr(response, phase).SetInParent()
        found.append(response.SerializeToString())
    return tuple(found)


def handler(role: str) -> grpc.GenericRpcHandler[bytes, bytes]:
    """Return the empty handler of one filter."""
    if role == "ext_authz":
        answer = allowed()

        async def check(_data: bytes, _context: Context) -> bytes:
            return answer

        method = grpc.unary_unary_rpc_method_handler(check)
        return grpc.method_handlers_generic_handler("envoy.service.auth.v3.Authorization", {"Check": method})
    answers = passed()

    async def process(_requests: object, context: Context) -> None:
        for answer in answers:
            if await context.read() is grpc.aio.EOF:  # type: ignore[attr-defined]  # missing in the stubs
                return
            await context.write(answer)
        while await context.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]
            pass

    stream = grpc.stream_stream_rpc_method_handler(process)
    return grpc.method_handlers_generic_handler("envoy.service.ext_proc.v3.ExternalProcessor", {"Process": stream})


async def serve(role: str, config: Path, slot: int) -> None:
    """Serve one filter until SIGTERM."""
    settings = load(config)
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", settings.grpc_message_bytes),
            ("grpc.max_send_message_length", settings.grpc_message_bytes),
        ]
    )
    server.add_generic_rpc_handlers((handler(role),))
    server.add_insecure_port(f"unix:{envoyconfig.filter_socket(settings.sockets.directory, role, slot)}")
    await server.start()
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await stopping.wait()
    await server.stop(0.2)


def main() -> None:
    """Run one empty filter."""
    parser = argparse.ArgumentParser(prog="python -m bench.floor", description=__doc__)
    parser.add_argument("role", choices=["ext_authz", "ext_proc"])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--slot", type=int, default=0)
    chosen = parser.parse_args()
    uvloop.run(serve(chosen.role, chosen.config, chosen.slot))


if __name__ == "__main__":
    main()
