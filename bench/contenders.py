"""What is compared: Envoy alone, Envoy with empty filters, the gate with each policy engine, and parts of them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from bench.ground import Contender, Ground, exists
from rankgate import envoyconfig
from rankgate.resources import policies
from rankgate.settings import load

__all__ = [
    "constant", "embedded", "floor", "floor_authz", "gate_authz", "opa", "opa_envoy_plugin", "plain", "tool",
]  # fmt: skip

EXT_AUTHZ, EXT_PROC = "envoy.filters.http.ext_authz", "envoy.filters.http.ext_proc"
CACHE = Path(__file__).parent.parent / ".cache" / "bin"
READY_S = 15.0
# Asks for what both gates show a policy: the method and the path.
SHARED_POLICY = """package rankgate

import rego.v1

default decision := {"allowed": false}

decision := {"allowed": true} if {
	input.attributes.request.http.method == "POST"
	input.parsed_path == ["v2", "rerank"]
}
"""


async def plain(ground: Ground) -> Contender:
    """Start Envoy with the same listener and routes, without the two filters."""
    return await ground.gate(
        "plain", shown=("envoy",), filters=_empty, valkey=False, bootstrap=_without(EXT_AUTHZ, EXT_PROC)
    )


async def floor(ground: Ground) -> Contender:
    """Start Envoy with both filters empty."""
    return await ground.gate("floor", filters=_empty, valkey=False)


async def constant(ground: Ground) -> Contender:
    """Start the gate with a policy that allows everything, in the embedded engine."""
    return await ground.gate("constant")


async def embedded(ground: Ground) -> Contender:
    """Start the gate with the shipped policy in the embedded engine."""
    return await ground.gate("embedded", {"policy": {"directory": policies()}})


async def opa(ground: Ground) -> Contender:
    """Start the gate with the shipped policy in OPA, over a unix socket. Raises LookupError without a binary."""
    binary, socket, shipped = tool("opa"), ground.folder / "opa.sock", policies()
    child = await ground.child(
        "opa",
        [
            binary, "run", "--server", "--disable-telemetry", "--log-level", "error", "--addr", f"unix://{socket}",
            shipped / "rerank.rego", shipped / "lib", shipped / "data.json",
        ],
    )  # fmt: skip
    await child.until(exists(socket), within_s=READY_S)
    settings = {"policy": {"engine": "opa", "url": f"unix://{socket}"}}
    return await ground.gate("opa", settings, beside={"opa": child.pid})


async def floor_authz(ground: Ground) -> Contender:
    """Start Envoy with an empty ext_authz alone."""
    return await ground.gate(
        "floor-authz", shown=("envoy", "ext_authz-0"), filters=_empty, valkey=False, bootstrap=_without(EXT_PROC)
    )


async def gate_authz(ground: Ground) -> Contender:
    """Start Envoy with our ext_authz alone and the shared policy: everything it does but mask."""
    return await ground.gate(
        "gate-authz", policy=SHARED_POLICY, shown=("envoy", "ext_authz-0", "valkey"), bootstrap=_without(EXT_PROC)
    )


async def opa_envoy_plugin(ground: Ground) -> Contender:
    """Start Envoy with opa-envoy-plugin as ext_authz and the shared policy. Raises LookupError without a binary."""
    binary = tool("opa-envoy-plugin")

    def filters(role: str, config: Path, slot: int) -> Sequence[str | Path]:
        if role != "ext_authz":
            return _empty(role, config, slot)
        socket = envoyconfig.filter_socket(load(config).sockets.directory, role, slot)
        # A message of Envoy's holds the whole body.
        options = {"addr": f"unix://{socket}", "path": "rankgate/decision", "grpc-max-recv-msg-size": 16_777_216}
        chosen = [part for name, value in options.items() for part in ("--set", f"{_PLUGIN}.{name}={value}")]
        quiet = ("--disable-telemetry", "--log-level", "error", "--addr", f"unix://{socket}.http")
        return binary, "run", "--server", *quiet, *chosen, config.parent / "policy"

    return await ground.gate(
        "opa-envoy-plugin", policy=SHARED_POLICY, shown=("envoy", "ext_authz-0"), filters=filters, valkey=False,
        bootstrap=_without(EXT_PROC),
    )  # fmt: skip


_PLUGIN = "plugins.envoy_ext_authz_grpc"


def tool(name: str) -> Path:
    """Return the program `name` of .cache/bin or PATH. Raises LookupError where there is none."""
    for place in (str(CACHE / name), shutil.which(name)):
        if place and os.access(place, os.X_OK):
            return Path(place)
    raise LookupError(f"{name} is neither in .cache/bin nor on PATH")


def _empty(role: str, config: Path, slot: int) -> Sequence[str | Path]:
    return sys.executable, "-P", "-m", "bench.floor", role, "--config", config, "--slot", str(slot)


def _without(*names: str) -> Callable[[str], str]:
    """Return what takes these HTTP filters out of Envoy's YAML and leaves the rest as it is."""

    def strip(node: Any) -> Any:
        if isinstance(node, list):
            return [strip(item) for item in node if not (isinstance(item, dict) and item.get("name") in names)]
        if isinstance(node, dict):
            return {key: strip(value) for key, value in node.items() if key not in names}
        return node

    return lambda text: yaml.safe_dump(strip(yaml.safe_load(text)), sort_keys=False)
