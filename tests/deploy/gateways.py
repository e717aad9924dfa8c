"""A gateway's Envoy as its control plane would configure it, with the patches of an EnvoyFilter applied."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

__all__ = ["patched", "skeleton"]

Object = dict[str, Any]
HCM = "envoy.filters.network.http_connection_manager"
EXTENSIONS = "type.googleapis.com/envoy.extensions.filters"
MANAGER = f"{EXTENSIONS}.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = f"{EXTENSIONS}.http.router.v3.Router"


def skeleton(routes: list[Object], port: int, reranker: int, admin: str) -> Object:
    """Return a gateway's own configuration for the `http` entries of a VirtualService."""
    manager = {
        "@type": MANAGER,
        "stat_prefix": "gateway",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "rerank",
                    "domains": ["*"],
                    "routes": [
                        {
                            "name": route["name"],
                            "match": {"path": route["match"][0]["uri"]["exact"]},
                            "route": {"cluster": "reranker", "timeout": route["timeout"]},
                        }
                        for route in routes
                    ],
                }
            ]
        },
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}],
    }
    listener = {
        "name": "gateway",
        "address": _socket(port),
        "filter_chains": [{"filters": [{"name": HCM, "typed_config": manager}]}],
    }
    cluster = {
        "name": "reranker",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "reranker",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _socket(reranker)}}]}],
        },
    }
    return {
        "admin": {"address": {"pipe": {"path": admin}}},
        "static_resources": {"listeners": [listener], "clusters": [cluster]},
    }


def patched(configuration: Object, patches: list[Object]) -> Object:
    """Return the configuration after the patches, in their order, as Istio applies them to a gateway."""
    result = deepcopy(configuration)
    resources = result["static_resources"]
    manager = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    for patch in patches:
        assert patch["match"]["context"] == "GATEWAY"
        value, filters = deepcopy(patch["patch"]["value"]), manager["http_filters"]
        match patch["applyTo"], patch["patch"]["operation"]:
            case "CLUSTER", "ADD":
                resources["clusters"].append(value)
            case "NETWORK_FILTER", "MERGE":
                _merge(manager, value["typed_config"])
            case "HTTP_FILTER", "INSERT_FIRST":
                filters.insert(0, value)
            case "HTTP_FILTER", "INSERT_BEFORE":
                name = patch["match"]["listener"]["filterChain"]["filter"]["subFilter"]["name"]
                filters.insert([entry["name"] for entry in filters].index(name), value)
            case "HTTP_ROUTE", "MERGE":
                name = patch["match"]["routeConfiguration"]["vhost"]["route"]["name"]
                (route,) = (r for r in manager["route_config"]["virtual_hosts"][0]["routes"] if r["name"] == name)
                _merge(route, value)
            case other:
                raise AssertionError(f"nothing here applies {other}")
    return result


def _merge(into: Object, value: Object) -> None:
    for name, member in value.items():
        if isinstance(member, dict) and isinstance(into.get(name), dict):
            _merge(into[name], member)
        elif isinstance(member, list):
            into[name] = [*into.get(name, []), *member]
        else:
            into[name] = member


def _socket(port: int) -> Object:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
