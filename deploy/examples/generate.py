"""Write the attachment examples: python deploy/examples/generate.py

What Envoy is told comes from the one template, and the filters' containers from the kustomize component, so that a
gateway with filters attached differs from a gate in what it cannot be told, and in nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from rankgate.envoyconfig import render
from rankgate.resources import envoy_template
from rankgate.settings import Settings, load

__all__ = ["files"]

HERE = Path(__file__).parent
COMPONENT = HERE.parent / "kubernetes/component/gate.yaml"
HCM = "envoy.filters.network.http_connection_manager"
# What of the connection manager decides which request the filters see; everything else stays the gateway's own.
EDGE = (
    "internal_address_config",
    "preserve_external_request_id",
    "normalize_path",
    "merge_slashes",
    "path_with_escaped_slashes_action",
    "common_http_protocol_options",
    "early_header_mutation_extensions",
    "local_reply_config",
)
FILTERS = ("ext-proc", "ext-authz")
GENERATED = "# Written by deploy/examples/generate.py; docs/deployment.md explains.\n"
Object = dict[str, Any]


def files() -> dict[str, str]:
    """Return the text of every generated file, by its path below this folder."""
    settings = load(HERE / "rankgate.toml")
    envoy = yaml.safe_load(render(settings, envoy_template(), admin_socket=Path("/run/envoy/admin.sock")))
    return {
        "istio/envoy-filter.yaml": _yaml([_envoy_filter(envoy)]),
        "istio/gateway.yaml": _yaml([_istio_gateway()]),
        "envoy-gateway/proxy.yaml": _yaml([_envoy_proxy()]),
        "envoy-gateway/policies.yaml": _yaml([*_backends(settings), *_policies(settings)]),
    }


class _Plain(yaml.SafeDumper):
    """Writes what is used twice out twice: an anchor would hide it."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the interface
        """Tell that nothing gets an anchor."""
        return True


def _yaml(documents: Iterable[Object]) -> str:
    return GENERATED + yaml.dump_all(documents, Dumper=_Plain, sort_keys=False, width=120)


def _pod() -> Object:
    """Return what a gateway's pod needs besides its own: the filters as native sidecars, and their volumes."""
    spec = yaml.safe_load(COMPONENT.read_text())["spec"]["template"]["spec"]
    sidecars = [container for container in spec["initContainers"] if container["name"] in FILTERS]
    mounted = {mount["name"] for container in sidecars for mount in container["volumeMounts"]}
    return {
        # The group of the sockets, for the gateway's Envoy.
        "securityContext": {"supplementalGroups": [64000]},
        "terminationGracePeriodSeconds": spec["terminationGracePeriodSeconds"],
        "initContainers": sidecars,
        "volumes": [volume for volume in spec["volumes"] if volume["name"] in mounted],
    }


def _istio_gateway() -> Object:
    proxy = {
        "name": "istio-proxy",
        "image": "auto",
        "volumeMounts": [{"name": "rankgate-sockets", "mountPath": "/run/rankgate"}],
    }
    labels = {"istio": "rerank-gateway"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "rerank-gateway", "namespace": "search"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {
                    "labels": {**labels, "sidecar.istio.io/inject": "true"},
                    "annotations": {"inject.istio.io/templates": "gateway"},
                },
                "spec": {**_pod(), "containers": [proxy]},
            },
        },
    }


def _envoy_filter(envoy: Object) -> Object:
    resources = envoy["static_resources"]
    manager = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    own = {entry["name"]: entry for entry in manager["http_filters"]}
    own["envoy.filters.http.ext_proc"].pop("disabled")
    patches = [
        _patch("CLUSTER", {}, "ADD", cluster)
        for cluster in resources["clusters"]
        if cluster["name"].startswith("rankgate_ext_")
    ]
    listener = {"listener": {"filterChain": {"filter": {"name": HCM}}}}
    edge = {"@type": manager["@type"], **{name: manager[name] for name in EDGE}}
    patches.append(_patch("NETWORK_FILTER", listener, "MERGE", {"typed_config": edge}))
    router = {"name": HCM, "subFilter": {"name": "envoy.filters.http.router"}}
    before = {"listener": {"filterChain": {"filter": router}}}
    patches.append(_patch("HTTP_FILTER", listener, "INSERT_FIRST", own.pop("plain_answers")))
    patches += [
        _patch("HTTP_FILTER", before, "INSERT_BEFORE", entry)
        for name, entry in own.items()
        if name != "envoy.filters.http.router"
    ]
    for route in manager["route_config"]["virtual_hosts"][0]["routes"]:
        if "route" in route:
            match = {"routeConfiguration": {"vhost": {"route": {"name": route["name"]}}}}
            kept = {name: route[name] for name in ("response_headers_to_remove", "typed_per_filter_config")}
            patches.append(_patch("HTTP_ROUTE", match, "MERGE", kept))
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": "rankgate", "namespace": "search"},
        "spec": {"workloadSelector": {"labels": {"istio": "rerank-gateway"}}, "configPatches": patches},
    }


def _patch(to: str, match: Mapping[str, Any], operation: str, value: Any) -> Object:
    return {
        "applyTo": to,
        "match": {"context": "GATEWAY", **match},
        "patch": {"operation": operation, "value": value},
    }


def _envoy_proxy() -> Object:
    proxy = {"name": "envoy", "volumeMounts": [{"name": "rankgate-sockets", "mountPath": "/run/rankgate"}]}
    spec = {"template": {"spec": {**_pod(), "containers": [proxy]}}}
    return {
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "EnvoyProxy",
        "metadata": {"name": "rerank-gateway", "namespace": "search"},
        "spec": {
            "provider": {
                "type": "Kubernetes",
                "kubernetes": {"envoyDeployment": {"patch": {"type": "StrategicMerge", "value": {"spec": spec}}}},
            }
        },
    }


def _backends(settings: Settings) -> list[Object]:
    return [
        {
            "apiVersion": "gateway.envoyproxy.io/v1alpha1",
            "kind": "Backend",
            "metadata": {"name": f"rankgate-{role.replace('_', '-')}", "namespace": "search"},
            "spec": {
                "appProtocols": ["gateway.envoyproxy.io/h2c"],
                "endpoints": [{"unix": {"path": f"{settings.sockets.directory}/{role}-0.sock"}}],
            },
        }
        for role in ("ext_authz", "ext_proc")
    ]


def _policies(settings: Settings) -> list[Object]:
    """Return the two policies of each route: the route's name travels in the authorization policy."""
    return [policy for route in settings.routes for policy in _of_route(route.name, settings)]


def _of_route(route: str, settings: Settings) -> tuple[Object, Object]:
    target = [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": route}]
    meta = {"name": route, "namespace": "search"}
    version = "gateway.envoyproxy.io/v1alpha1"
    authorization = {
        "failOpen": False,
        "timeout": f"{settings.check_s:g}s",
        "bodyToExtAuth": {"maxRequestBytes": settings.envoy_body_bytes},
        "contextExtensions": [{"name": "route", "type": "Value", "value": route}],
        "grpc": {"backendRefs": [_backend("rankgate-ext-authz")]},
    }
    processing = {
        "failOpen": False,
        "messageTimeout": f"{settings.limits.process_timeout_s:g}s",
        "backendRefs": [_backend("rankgate-ext-proc")],
        "metadata": {"accessibleNamespaces": ["envoy.filters.http.ext_authz"]},
        "processingMode": {
            "request": {
                "body": "Buffered",
                "attributes": ["request.id", "request.path", "request.method", "xds.route_name"],
            },
            "response": {
                "body": "Buffered",
                "attributes": [
                    "request.id",
                    "response.code",
                    "response.code_details",
                    "response.flags",
                    "upstream.address",
                ],
            },
        },
    }
    return (
        {
            "apiVersion": version,
            "kind": "SecurityPolicy",
            "metadata": meta,
            "spec": {"targetRefs": target, "extAuth": authorization},
        },
        {
            "apiVersion": version,
            "kind": "EnvoyExtensionPolicy",
            "metadata": meta,
            "spec": {"targetRefs": target, "extProc": [processing]},
        },
    )


def _backend(name: str) -> Object:
    return {"group": "gateway.envoyproxy.io", "kind": "Backend", "name": name}


if __name__ == "__main__":
    for path, text in files().items():
        (HERE / path).write_text(text, encoding="utf-8")
