"""The kustomize component: rendered, valid, confined, and started as the pod it makes, which serves the cohere SDK."""

from __future__ import annotations

import secrets
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cohere
import httpx
import pytest
from deploy.calling import denied, rerank
from deploy.cluster import ISSUER_HOST, Cluster
from deploy.containers import World
from deploy.dockerfile import ROOT
from deploy.pods import Given, Manifest, Pod, documents, find, pod_spec
from deploy.shape import admitted, grace_is_enough, order_is_right, sockets_are_private
from deploy.tools import NEWEST, OLDEST, kustomize, validate

from rankgate.clients.embedded import envoy_binary
from rankgate.settings import Settings

EXAMPLE = ROOT / "deploy/kubernetes/example"


@pytest.fixture(scope="module")
def text() -> str:
    return kustomize(EXAMPLE)


@pytest.fixture(scope="module")
def manifests(text: str) -> list[Manifest]:
    return documents(text)


@pytest.fixture(scope="module")
def settings(manifests: list[Manifest]) -> Settings:
    name = next(v["configMap"]["name"] for v in _deployment(manifests)["volumes"] if v["name"] == "rankgate-settings")
    return Settings(**tomllib.loads(find(manifests, "ConfigMap", name)["data"]["rankgate.toml"]))


def _deployment(manifests: list[Manifest]) -> Manifest:
    return pod_spec(find(manifests, "Deployment", "reranker"))


@dataclass(frozen=True)
class Running:
    world: World
    pod: Pod
    cluster: Cluster

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.world.port(8080)}"


@pytest.fixture(scope="module")
def running(
    programs: dict[str, Path], manifests: list[Manifest], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster, World(programs) as world:
        keys = {"masking_key": secrets.token_bytes(32), "upstream_key": secrets.token_urlsafe(24).encode()}
        given = Given(
            config_maps={"kube-root-ca.crt": {"ca.crt": cluster.authority}},
            secrets={"rankgate-keys": keys},
        )
        world.hosts[ISSUER_HOST] = cluster.address
        world.port(8000)
        pod = Pod(find(manifests, "Deployment", "reranker"), manifests, given, world)
        pod.start()
        yield Running(world, pod, cluster)


def test_a_service_account_of_the_cluster_gets_ranked_answers(running: Running) -> None:
    answer = rerank(running.url, running.cluster.token("search", "caller"))
    assert answer.results[0].index == 1
    assert len(answer.results) == 3


def test_another_service_account_is_denied_by_the_policy_of_the_config_map(running: Running) -> None:
    with pytest.raises(cohere.ForbiddenError) as caught:
        rerank(running.url, running.cluster.token("search", "default"))
    assert "this service account may not rank here" in caught.value.body["message"]


def test_a_token_for_another_audience_is_refused(running: Running) -> None:
    with pytest.raises(cohere.UnauthorizedError):
        rerank(running.url, running.cluster.token("search", "caller", "https://kubernetes.default.svc"))


def test_the_callers_job_runs_with_its_projected_token(running: Running, manifests: list[Manifest]) -> None:
    world = running.world
    world.hosts["reranker:80"] = f"127.0.0.1:{world.port(8080)}"
    given = Given(tokens={"rerank": running.cluster.token("search", "caller")})
    job = Pod(find(manifests, "Job", "caller"), manifests, given, world)
    (container,) = job.every()
    assert '"results"' in job.complete(container)


def test_the_reranker_takes_no_call_without_the_lent_key(running: Running) -> None:
    url = f"http://127.0.0.1:{running.world.port(8000)}/v2/rerank"
    assert httpx.post(url, json={"query": "a", "documents": ["b"]}).status_code == 401


def test_envoy_accepts_what_the_pod_renders_for_it(running: Running) -> None:
    file = running.world.folder / "volume-rankgate-envoy/envoy.yaml"
    subprocess.run([envoy_binary(), "--mode", "validate", "--config-path", file], check=True, capture_output=True)


def test_prometheus_finds_a_page_of_each_part(running: Running) -> None:
    for port, name in ((9101, "rankgate_decisions_total"), (9201, "rankgate_process"), (9901, "envoy_http")):
        page = httpx.get(f"http://127.0.0.1:{running.world.port(port)}/metrics")
        assert page.status_code == 200
        assert name in page.text


def test_a_changed_config_map_takes_effect_without_a_restart(running: Running) -> None:
    folder = ROOT / "deploy/kubernetes/component/policies"
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    token = running.cluster.token("search", "caller")
    running.pod.replace("rankgate-policies", files | {"data.json": b'{"callers": {}, "limits": {"documents": 9}}'})
    running.world.wait(running.pod.container("ext-authz"), lambda: denied(running.url, token))


def test_every_container_ends_in_order_when_told_to(running: Running) -> None:
    codes = running.pod.stop()
    assert list(codes) == ["reranker", "envoy", "ext-authz", "ext-proc"]
    assert {codes[name] for name in ("envoy", "ext-authz", "ext-proc")} == {0}


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_manifest_is_valid(text: str, tmp_path: Path, version: str) -> None:
    validate(text, tmp_path, version)


def test_every_pod_fits_the_restricted_profile(manifests: list[Manifest]) -> None:
    pods = [manifest for manifest in manifests if manifest["kind"] in {"Deployment", "Job"}]
    assert len(pods) == 2
    for manifest in pods:
        admitted(pod_spec(manifest))


def test_the_gate_starts_before_the_reranker_and_ends_after_it(manifests: list[Manifest]) -> None:
    order_is_right(_deployment(manifests), ["ext-proc", "ext-authz", "envoy"])


def test_a_pod_may_finish_its_longest_call(manifests: list[Manifest], settings: Settings) -> None:
    grace_is_enough(_deployment(manifests), settings)


def test_sockets_and_keys_are_given_to_those_who_need_them(manifests: list[Manifest]) -> None:
    sockets_are_private(_deployment(manifests))


def test_the_service_leads_to_envoy_and_the_reranker_listens_inside_the_pod(manifests: list[Manifest]) -> None:
    (port,) = find(manifests, "Service", "reranker")["spec"]["ports"]
    assert port["targetPort"] == 8080
    (reranker,) = _deployment(manifests)["containers"]
    assert "127.0.0.1" in reranker["args"]
    assert "ports" not in reranker


def test_the_network_policy_selects_the_pod_and_opens_no_port_of_the_reranker(manifests: list[Manifest]) -> None:
    policy = find(manifests, "NetworkPolicy")["spec"]
    labels = find(manifests, "Deployment", "reranker")["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == {8080, 9101, 9201, 9901}


def test_the_policy_keeps_its_name_and_the_settings_do_not(manifests: list[Manifest]) -> None:
    names = {manifest["metadata"]["name"] for manifest in manifests if manifest["kind"] == "ConfigMap"}
    assert "rankgate-policies" in names
    assert len({name for name in names if name.startswith("rankgate-settings-")}) == 1
