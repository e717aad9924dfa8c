"""The attachment examples: the filters they attach work in an Envoy that is not ours."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cohere
import httpx
import pytest
import yaml
from deploy.calling import denied, rerank
from deploy.cluster import ISSUER_HOST, Cluster
from deploy.containers import Container, World
from deploy.dockerfile import ROOT
from deploy.gateways import patched, skeleton
from deploy.pods import Given, Manifest, Pod, documents, find
from deploy.tools import NEWEST, validate

from rankgate.clients.embedded import envoy_binary
from rankgate.settings import load

EXAMPLES = ROOT / "deploy/examples"
POLICIES = ROOT / "deploy/kubernetes/component/policies"


def read(name: str) -> list[Manifest]:
    return documents((EXAMPLES / name).read_text())


@dataclass(frozen=True)
class Running:
    world: World
    cluster: Cluster
    configuration: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.world.port(8080)}"


@pytest.fixture(scope="module")
def running(programs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Start the gateway's pod of the Istio example, its Envoy configured as Istio would."""
    deployment = find(read("istio/gateway.yaml"), "Deployment")
    spec = deployment["spec"]["template"]["spec"]
    # What injection makes of `image: auto`.
    (proxy,) = spec["containers"]
    proxy |= {
        "image": "istio/proxyv2:any",
        "command": ["/usr/local/bin/envoy"],
        "args": ["--config-path", "/etc/istio/envoy.yaml", "--disable-hot-restart"],
        "securityContext": {"runAsUser": 1337, "runAsGroup": 64000},
    }
    proxy["volumeMounts"].append({"name": "istio", "mountPath": "/etc/istio"})
    spec["volumes"].append({"name": "istio", "emptyDir": {}})
    proxy["ports"] = [{"containerPort": 8080}]
    proxy["readinessProbe"] = {"exec": {"command": ["bash", "-c", "</dev/tcp/127.0.0.1/8080"]}}
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster, World(programs) as world:
        keys = {"masking_key": secrets.token_bytes(32), "upstream_key": secrets.token_urlsafe(24).encode()}
        given = Given(
            config_maps={
                "kube-root-ca.crt": {"ca.crt": cluster.authority},
                "rankgate-settings": {"rankgate.toml": (EXAMPLES / "rankgate.toml").read_text()},
                "rankgate-policies": {file.name: file.read_text() for file in POLICIES.iterdir()},
            },
            secrets={"rankgate-keys": keys},
        )
        world.hosts[ISSUER_HOST] = cluster.address
        key = world.write("reranker.key", keys["upstream_key"])
        reranker = Container(
            "reranker",
            ("/opt/rankgate/bin/python", "-P", "-m", "rankgate.demo.reranker", "--port", str(world.port(8000))),
            {"RERANKER_KEY_FILE": str(key)},
        )
        world.start(reranker)
        pod = Pod(deployment, [], given, world)
        routes = find(read("istio/routes.yaml"), "VirtualService")["spec"]["http"]
        own = skeleton(routes, world.port(8080), world.port(8000), "/etc/istio/admin.sock")
        patches = find(read("istio/envoy-filter.yaml"), "EnvoyFilter")["spec"]["configPatches"]
        text = yaml.safe_dump(patched(own, patches), sort_keys=False)
        folder = world.place("volume-istio")
        configuration = folder / "envoy.yaml"
        mounts = {"/run/rankgate": world.place("volume-rankgate-sockets"), "/etc/istio": folder}
        configuration.write_text(world.text(text, mounts))
        pod.start()
        yield Running(world, cluster, configuration)


def test_envoy_accepts_what_the_patches_of_istio_make(running: Running) -> None:
    command = [envoy_binary(), "--mode", "validate", "--config-path", running.configuration]
    subprocess.run(command, check=True, capture_output=True)


def test_the_cohere_sdk_gets_ranked_answers_through_the_gateway(running: Running) -> None:
    answer = rerank(running.url, running.cluster.token("search", "caller"))
    assert answer.results[0].index == 1


def test_whom_the_policy_does_not_know_is_denied_at_the_gateway(running: Running) -> None:
    assert denied(running.url, running.cluster.token("search", "default"))


def test_a_call_without_a_token_is_refused_at_the_gateway(running: Running) -> None:
    with pytest.raises(cohere.UnauthorizedError):
        rerank(running.url, "a.b.c")
    assert httpx.post(f"{running.url}/v2/rerank", json={"query": "a", "documents": ["b"]}).status_code == 401


def test_a_route_without_a_name_of_the_settings_is_refused() -> None:
    settings = load(EXAMPLES / "rankgate.toml")
    patches = find(read("istio/envoy-filter.yaml"), "EnvoyFilter")["spec"]["configPatches"]
    named = {
        p["match"]["routeConfiguration"]["vhost"]["route"]["name"] for p in patches if p["applyTo"] == "HTTP_ROUTE"
    }
    routes = {route["name"] for route in find(read("istio/routes.yaml"), "VirtualService")["spec"]["http"]}
    assert named == routes == {route.name for route in settings.routes}


def test_both_policies_of_envoy_gateway_fail_closed_on_every_route() -> None:
    routes = {
        manifest["metadata"]["name"]
        for manifest in read("envoy-gateway/routes.yaml")
        if manifest["kind"] == "HTTPRoute"
    }
    policies = [manifest for manifest in read("envoy-gateway/policies.yaml") if manifest["kind"] != "Backend"]
    for kind, section in (("SecurityPolicy", "extAuth"), ("EnvoyExtensionPolicy", "extProc")):
        found = [policy["spec"] for policy in policies if policy["kind"] == kind]
        assert {spec["targetRefs"][0]["name"] for spec in found} == routes
        for spec in found:
            (attached,) = spec[section] if isinstance(spec[section], list) else [spec[section]]
            assert attached["failOpen"] is False
    bodies = [p["spec"]["extProc"][0]["processingMode"] for p in policies if p["kind"] == "EnvoyExtensionPolicy"]
    assert all(mode[way]["body"] == "Buffered" for mode in bodies for way in ("request", "response"))


def test_the_gateways_deployment_is_valid(tmp_path: Path) -> None:
    validate((EXAMPLES / "istio/gateway.yaml").read_text(), tmp_path, NEWEST)
