"""The Helm chart: its schema, what it renders, and the pods it makes, started as processes for the cohere SDK."""

from __future__ import annotations

import contextlib
import json
import math
import secrets
import shutil
import ssl
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import yaml
from certificates import Identity, identity
from click.testing import CliRunner
from deploy.calling import denied, rerank
from deploy.cluster import ISSUER_HOST, Cluster
from deploy.containers import World, free_port
from deploy.dockerfile import ROOT
from deploy.people import LOGIN_HOST, PeopleIssuer
from deploy.pods import Given, Manifest, Pod, documents, find, pod_spec
from deploy.shape import admitted, grace_is_enough, order_is_right, sockets_are_private
from deploy.tools import NEWEST, OLDEST, helm, tool, validate

from rankgate.audit.names import stream_pattern
from rankgate.cli import root
from rankgate.clients.embedded import envoy_binary
from rankgate.console.settings import ConsoleSettings
from rankgate.settings import Settings

CHART = ROOT / "deploy/helm/rankgate"
PLAIN: dict[str, Any] = {
    "keys": {"existingSecret": "keys"},
    "policy": {"data": {"callers": {"search": ["caller"]}, "limits": {"documents": 200}}},
}
# Everything that can be switched on.
FULL: dict[str, Any] = PLAIN | {
    "image": {"repository": "registry.example/rankgate", "digest": f"sha256:{'0' * 64}"},
    "keys": {"existingSecret": "keys", "upstreamKey": True},
    "tls": {"existingSecret": "tls"},
    "opa": {"enabled": True},
    "filters": {"processes": {"authz": 2, "proc": 2}},
    "audit": {"redis": {"existingSecret": "redis"}},
    "settings": {
        "audit": {"redis_url": "rediss://redis.audit:6380"},
        "approvals": {"redis_url": "rediss://redis.audit:6380", "owners": [{"subject": "s", "people": ["ada"]}]},
        "limits": {"documents": 20},
    },
    "approvals": {"voteKeys": {"configMap": "votes"}, "redis": {"existingSecret": "redis"}},
    "autoscaling": {"enabled": True},
    "metrics": {"podMonitor": {"enabled": True, "labels": {"release": "prometheus"}}},
    "reranker": {
        "env": [{"name": "RERANKER_KEY_FILE", "value": "/run/secrets/reranker/upstream_key"}],
        "volumeMounts": [{"name": "key", "mountPath": "/run/secrets/reranker", "readOnly": True}],
    },
    "extraVolumes": [{"name": "key", "secret": {"secretName": "keys", "defaultMode": 0o444}}],
}
# A console beside the plain gate.
LOGIN = {"issuer": f"https://{LOGIN_HOST}", "client_id": "console", "audience": "approvals"}
WITH_CONSOLE: dict[str, Any] = PLAIN | {
    "settings": {"approvals": {"redis_url": "rediss://redis.approvals:6380"}},
    "approvals": {"voteKeys": {"configMap": "votes"}, "redis": {"existingSecret": "redis"}},
    "metrics": {"podMonitor": {"enabled": True}},
    "console": {
        "enabled": True,
        "keys": {"existingSecret": "console-keys"},
        "login": {"existingSecret": "console-login"},
        "ingress": {"enabled": True, "className": "nginx", "tlsSecret": "console-tls"},
        "settings": {
            "public_url": "https://approvals.example",
            "login": LOGIN | {"ca_file": "/etc/rankgate/login/ca.crt"},
            "roles": {"operate": ["platform"]},
        },
        "extraVolumes": [{"name": "login-ca", "configMap": {"name": "login-ca"}}],
        "extraVolumeMounts": [{"name": "login-ca", "mountPath": "/etc/rankgate/login", "readOnly": True}],
    },
}
SIDECARS = {
    "plain": ["ext-proc", "ext-authz", "envoy"],
    "full": ["opa", "ext-proc", "ext-proc-1", "ext-authz", "ext-authz-1", "envoy"],
}
SLOTS = {"plain": 1, "full": 2}


def render(values: dict[str, Any], folder: Path) -> str:
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    return helm(CHART, "--values", file)


@pytest.fixture(scope="module", params=["plain", "full"])
def rendered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, render({"plain": PLAIN, "full": FULL}[request.param], folder)


@pytest.fixture(scope="module")
def manifests(rendered: tuple[str, str]) -> list[Manifest]:
    return documents(rendered[1])


@dataclass(frozen=True)
class Running:
    name: str
    world: World
    pod: Pod
    cluster: Cluster
    tls: Identity
    redis: redis.Redis | None
    manifests: list[Manifest]

    @property
    def url(self) -> str:
        return f"{'https' if self.name == 'full' else 'http'}://127.0.0.1:{self.world.port(8080)}"

    @property
    def token(self) -> str:
        return self.cluster.token("search", "caller")


@contextlib.contextmanager
def redis_with_tls(folder: Path, own: Identity, password: str) -> Iterator[redis.Redis]:
    """Run Debian's server, the only one here that speaks TLS."""
    program, port = shutil.which("redis-server"), free_port()
    if program is None:
        pytest.skip("redis-server is not on PATH; no other one here speaks TLS")
    options = {
        "--port": 0, "--tls-port": port, "--bind": "127.0.0.1", "--dir": folder, "--save": "",
        "--tls-cert-file": own.certificate, "--tls-key-file": own.key, "--tls-ca-cert-file": own.certificate,
        "--tls-auth-clients": "no", "--requirepass": password,
    }  # fmt: skip
    command = [program, *(str(part) for pair in options.items() for part in pair)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with redis.Redis("127.0.0.1", port, password=password, ssl=True, ssl_ca_certs=str(own.certificate)) as client:
            yield client
    finally:
        process.kill()
        process.wait()


def votes(folder: Path) -> dict[str, str]:
    """Make the console's keys in `folder`; return what a ConfigMap of the public one holds."""
    made = CliRunner().invoke(root, ["console", "keys", "--directory", str(folder)])
    assert made.exit_code == 0, made.output
    return {"vote-key.pub.pem": (folder / "vote-key.pub.pem").read_text()}


@pytest.fixture(scope="module")
def running(
    programs: dict[str, Path],
    rendered: tuple[str, str],
    manifests: list[Manifest],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("running")
    own, password = identity(folder / "tls", "127.0.0.1"), secrets.token_hex(8)
    with contextlib.ExitStack() as scope:
        cluster = scope.enter_context(Cluster(folder / "cluster"))
        given = Given(
            config_maps={"kube-root-ca.crt": {"ca.crt": cluster.authority}, "votes": votes(folder / "keys")},
            secrets={
                "keys": {"masking_key": secrets.token_bytes(32), "upstream_key": secrets.token_urlsafe(24).encode()},
                "tls": {"tls.crt": own.certificate.read_bytes(), "tls.key": own.key.read_bytes()},
                "redis": {"password": password.encode(), "ca.crt": own.certificate.read_bytes()},
            },
        )
        world = scope.enter_context(World(programs))
        world.hosts[ISSUER_HOST] = cluster.address
        client = None
        if rendered[0] == "full":
            client = scope.enter_context(redis_with_tls(folder, own, password))
            world.hosts["redis.audit:6380"] = f"127.0.0.1:{client.connection_pool.connection_kwargs['port']}"
        world.port(8000)
        pod = Pod(find(manifests, "Deployment"), manifests, given, world)
        pod.start()
        yield Running(rendered[0], world, pod, cluster, own, client, manifests)


def test_a_service_account_of_the_cluster_gets_ranked_answers(running: Running) -> None:
    answer = rerank(running.url, running.token, tls=running.tls.client())
    assert answer.results[0].index == 1


def test_another_service_account_is_denied(running: Running) -> None:
    assert denied(running.url, running.cluster.token("search", "default"), tls=running.tls.client())


def test_envoy_accepts_what_the_pod_renders_for_it(running: Running) -> None:
    file = running.world.folder / "volume-rankgate-envoy/envoy.yaml"
    subprocess.run([envoy_binary(), "--mode", "validate", "--config-path", file], check=True, capture_output=True)


def test_calls_are_shared_out_to_every_process_of_a_filter(running: Running) -> None:
    def counted(port: int, name: str) -> float:
        page = httpx.get(f"http://127.0.0.1:{running.world.port(port)}/metrics").raise_for_status().text
        return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(name))

    def all_worked() -> bool:
        rerank(running.url, running.token, tls=running.tls.client())
        slots = range(SLOTS[running.name])
        return all(
            counted(9101 + slot, 'rankgate_decisions_total{allowed="true"')
            and counted(9201 + slot, "rankgate_process_seconds_count")
            for slot in slots
        )

    running.world.wait(running.pod.container("envoy"), all_worked)


def test_helm_test_finds_the_gate_in_front(running: Running) -> None:
    world = running.world
    world.hosts["gate-rankgate:80"] = f"127.0.0.1:{world.port(8080)}"
    test = Pod(find(running.manifests, "Pod"), running.manifests, Given(), world)
    (container,) = test.every()
    test.complete(container)


def test_decisions_are_on_disk_and_where_redis_is_named_in_redis(running: Running) -> None:
    rerank(running.url, running.token, tls=running.tls.client())
    trail = running.world.folder / "volume-rankgate-audit/audit"
    slots = range(SLOTS[running.name])
    logs = {f"{role}-{slot}" for role in ("ext_authz", "ext_proc") for slot in slots}
    assert {folder.name.rpartition(".")[2] for folder in trail.iterdir()} == logs
    if running.redis is not None:
        client = running.redis
        running.world.wait(
            running.pod.container("ext-authz"),
            lambda: len(list(client.scan_iter(stream_pattern("default"), _type="stream"))) >= 2,
        )


def test_a_changed_config_map_takes_effect_without_a_restart(running: Running) -> None:
    files = {
        key: value.encode()
        for key, value in find(running.manifests, "ConfigMap", "gate-rankgate-policies")["data"].items()
    }
    changed = files | {"data.json": b'{"callers": {}, "limits": {"documents": 9}}'}
    assert not denied(running.url, running.token, tls=running.tls.client())
    running.pod.replace("rankgate-policies", changed)
    running.world.wait(
        running.pod.container("ext-authz"), lambda: denied(running.url, running.token, tls=running.tls.client())
    )


def test_a_renewed_certificate_is_served_without_a_restart(running: Running, tmp_path: Path) -> None:
    if running.name == "plain":
        pytest.skip("its listener has no certificate")
    renewed = identity(tmp_path, "127.0.0.1")
    files = {"tls.crt": renewed.certificate.read_bytes(), "tls.key": renewed.key.read_bytes()}
    running.pod.replace("rankgate-tls", files)

    def served() -> bool:
        shown = ssl.get_server_certificate(("127.0.0.1", running.world.port(8080)))
        return shown.strip() == renewed.certificate.read_text().strip()

    running.world.wait(running.pod.container("envoy"), served)


def test_every_container_ends_in_order_when_told_to(running: Running) -> None:
    codes = running.pod.stop()
    assert list(codes) == ["reranker", *SIDECARS[running.name][::-1]]
    assert set(codes.values()) <= {0, -15}
    assert {code for name, code in codes.items() if name.startswith(("envoy", "ext-"))} == {0}


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_manifest_is_valid(manifests: list[Manifest], tmp_path: Path, version: str) -> None:
    # A kind of the Prometheus operator's, which no release of Kubernetes knows.
    known = [manifest for manifest in manifests if manifest["kind"] != "PodMonitor"]
    validate(yaml.safe_dump_all(known), tmp_path, version)


def test_the_pod_fits_the_restricted_profile(manifests: list[Manifest]) -> None:
    admitted(pod_spec(find(manifests, "Deployment")))
    admitted(pod_spec(find(manifests, "Pod")))


def test_the_pod_keeps_its_order_its_time_and_its_secrets(rendered: tuple[str, str], manifests: list[Manifest]) -> None:
    pod = pod_spec(find(manifests, "Deployment"))
    order_is_right(pod, SIDECARS[rendered[0]])
    grace_is_enough(pod, settings(manifests))
    sockets_are_private(pod)


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"limits": {"check_timeout_s": 2.5, "request_timeout_s": 7, "process_timeout_s": 3}},
        {"upstream": {"timeout_s": 61}, "approvals": {"redis_url": "rediss://r:6380", "hold_s": 12.5}},
    ],
)
def test_the_time_of_a_pods_end_follows_the_settings(chosen: dict[str, Any], tmp_path: Path) -> None:
    approvals = {"approvals": {"voteKeys": {"configMap": "votes"}}} if "approvals" in chosen else {}
    found = documents(render(PLAIN | approvals | {"settings": chosen}, tmp_path))
    pod = pod_spec(find(found, "Deployment"))
    assert pod["terminationGracePeriodSeconds"] == math.ceil(15 + settings(found).deadline_s + 20)


# -- the console ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    return documents(render(WITH_CONSOLE, tmp_path_factory.mktemp("console")))


def console_settings(manifests: list[Manifest]) -> ConsoleSettings:
    text = find(manifests, "ConfigMap", "gate-rankgate-console-settings")["data"]["console.toml"]
    return ConsoleSettings(**tomllib.loads(text))


def test_without_being_asked_for_there_is_no_console(tmp_path: Path) -> None:
    assert "console" not in render(PLAIN, tmp_path)


def test_the_console_of_a_pod_serves_and_sends_people_to_their_issuer(
    programs: dict[str, Path], beside: list[Manifest], tmp_path: Path
) -> None:
    own, password = identity(tmp_path / "tls", "127.0.0.1"), secrets.token_hex(8)
    with contextlib.ExitStack() as scope:
        people = scope.enter_context(PeopleIssuer(tmp_path / "people"))
        client = scope.enter_context(redis_with_tls(tmp_path, own, password))
        public = votes(tmp_path / "keys")
        private = {name: (tmp_path / "keys" / name).read_bytes() for name in ("vote-key.pem", "preview-key.txt")}
        given = Given(
            config_maps={"votes": public, "login-ca": {"ca.crt": people.authority.read_text()}},
            secrets={
                "console-keys": private,
                "console-login": {"client_secret": b"secret"},
                "redis": {"password": password.encode(), "ca.crt": own.certificate.read_bytes()},
            },
        )
        world = scope.enter_context(World(programs))
        world.hosts |= {
            LOGIN_HOST: people.address,
            "redis.approvals:6380": f"127.0.0.1:{client.connection_pool.connection_kwargs['port']}",
        }
        pod = Pod(find(beside, "Deployment", "gate-rankgate-console"), beside, given, world)
        pod.start()
        at = f"http://127.0.0.1:{world.port(8090)}"
        login = httpx.get(f"{at}/login", headers={"host": "approvals.example"})
        assert login.status_code == 303
        assert login.headers["location"].startswith(f"https://{people.address}/authorize?")
        assert httpx.get(f"{at}/login", headers={"host": "other.example"}).status_code == 421
        assert list((world.folder / "volume-console-journal/journal").rglob("*.seg"))
        assert pod.stop() == {"console": 0}


def test_there_is_one_console_and_never_two_at_a_time(beside: list[Manifest]) -> None:
    deployment = find(beside, "Deployment", "gate-rankgate-console")["spec"]
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    admitted(deployment["template"]["spec"])
    (container,) = deployment["template"]["spec"]["containers"]
    assert container["securityContext"]["runAsUser"] == 64006
    assert {container[kind]["httpGet"]["path"] for kind in ("startupProbe", "livenessProbe")} == {"/livez"}
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_manifest_of_the_console_is_valid(beside: list[Manifest], tmp_path: Path, version: str) -> None:
    validate(yaml.safe_dump_all([one for one in beside if one["kind"] != "PodMonitor"]), tmp_path, version)


def test_gate_and_console_agree_and_neither_selects_the_others_pods(beside: list[Manifest]) -> None:
    gate, console = settings(beside), console_settings(beside)
    assert console.state.redis_url == gate.approvals.redis_url
    assert console.deployment == gate.deployment
    assert console.vote_keys == gate.approvals.vote_keys
    pods = {
        name: find(beside, "Deployment", name)["spec"]["template"]["metadata"]["labels"]
        for name in ("gate-rankgate", "gate-rankgate-console")
    }
    selecting = [one for one in beside if one["kind"] in {"Deployment", "NetworkPolicy", "PodMonitor", "Service"}]
    assert len(selecting) == 8
    for manifest in selecting:
        spec = manifest["spec"]
        selector = spec.get("podSelector", spec.get("selector"))
        wanted = selector.get("matchLabels", selector)
        chosen = [name for name, labels in pods.items() if wanted.items() <= labels.items()]
        assert chosen == [manifest["metadata"]["name"]], manifest["kind"]


def test_private_keys_are_the_consoles_and_the_gates_are_its_own(beside: list[Manifest]) -> None:
    def secrets_of(name: str) -> set[str]:
        pod = pod_spec(find(beside, "Deployment", name))
        return {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}

    assert secrets_of("gate-rankgate") == {"keys", "redis"}
    assert secrets_of("gate-rankgate-console") == {"console-keys", "console-login", "redis"}
    gate = pod_spec(find(beside, "Deployment", "gate-rankgate"))
    holders = {
        container["name"]
        for container in (*gate["initContainers"], *gate["containers"])
        if {"rankgate-votes", "rankgate-approvals"} & {mount["name"] for mount in container.get("volumeMounts", ())}
    }
    assert holders == {"ext-authz"}


def test_the_ingress_is_for_the_name_that_people_use(beside: list[Manifest]) -> None:
    spec = find(beside, "Ingress")["spec"]
    assert [rule["host"] for rule in spec["rules"]] == spec["tls"][0]["hosts"] == ["approvals.example"]
    (port,) = find(beside, "Service", "gate-rankgate-console")["spec"]["ports"]
    (path,) = spec["rules"][0]["http"]["paths"]
    assert path["backend"]["service"] == {"name": "gate-rankgate-console", "port": {"number": port["port"]}}


@pytest.mark.parametrize(
    ("console", "named"),
    [
        ({"keys": {}}, "rankgate console keys"),
        ({"settings": {"login": LOGIN}}, "public_url"),
        ({"settings": {"public_url": "https://a.example", "login": LOGIN | {"audience": None}}}, "audience"),
        ({"settings": {"listen": {"port": 1}}}, "listen"),
        ({"settings": {"public_url": "https://a.example", "session_s": "long"}}, "session_s"),
        ({"replicas": 2}, "replicas"),
    ],
)
def test_a_console_that_could_not_start_is_refused_by_name(console: dict[str, Any], named: str, tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        render(WITH_CONSOLE | {"console": WITH_CONSOLE["console"] | console}, tmp_path)
    assert named in caught.value.stderr


def test_a_console_without_approvals_and_approvals_without_a_vote_key_are_refused(tmp_path: Path) -> None:
    for left_out, named in (("settings", "settings.approvals.redis_url"), ("approvals", "voteKeys.configMap")):
        values = {name: value for name, value in WITH_CONSOLE.items() if name != left_out}
        with pytest.raises(subprocess.CalledProcessError) as caught:
            render(values, tmp_path)
        assert named in caught.value.stderr


def settings(manifests: list[Manifest]) -> Settings:
    return Settings(**tomllib.loads(find(manifests, "ConfigMap", "gate-rankgate-settings")["data"]["rankgate.toml"]))


def test_values_become_settings(rendered: tuple[str, str], manifests: list[Manifest]) -> None:
    found = settings(manifests)
    assert found.limits.documents == {"plain": 1000, "full": 20}[rendered[0]]
    assert found.policy.engine == {"plain": "embedded", "full": "opa"}[rendered[0]]
    assert (found.listen.certificate_file is not None) == (rendered[0] == "full")
    assert found.issuers[0].claims.tenant == r"kubernetes\.io.namespace"


ISSUED = {"issuer": "https://gate.example", "audience": "engine"}
EXCHANGED = {"token_url": "https://idp.example/token", "client_id": "gate", "audiences": ["engine"]}
LENT = {
    "upstream_key": ({"upstreamKey": True}, {}),
    "minting_keys": ({"mintingKeys": True}, {"minted": ISSUED}),
    "exchange_secret": ({"exchangeSecret": True}, {"exchange": EXCHANGED}),
}


@pytest.mark.parametrize("name", LENT)
def test_what_a_broker_works_with_is_mounted_where_the_settings_look_for_it(name: str, tmp_path: Path) -> None:
    keys, credentials = LENT[name]
    values = PLAIN | {"keys": PLAIN["keys"] | keys, "settings": {"credentials": credentials}}
    found = documents(render(values, tmp_path))
    lent = settings(found).credentials
    files = {
        "upstream_key": lent.file,
        "minting_keys": lent.minted and lent.minted.key_file,
        "exchange_secret": lent.exchange and lent.exchange.client_secret_file,
    }
    assert files[name] == Path("/run/secrets/upstream") / name
    pod = pod_spec(find(found, "Deployment"))
    (volume,) = (volume for volume in pod["volumes"] if volume["name"] == "rankgate-upstream")
    assert volume["secret"]["items"] == [{"key": name, "path": name}]
    mounted = [
        container["name"]
        for container in (*pod["initContainers"], *pod["containers"])
        if any(mount["name"] == "rankgate-upstream" for mount in container.get("volumeMounts", ()))
    ]
    assert mounted == ["ext-authz"]


def test_a_signing_key_is_mounted_where_both_filters_look_for_it(tmp_path: Path) -> None:
    found = documents(render(PLAIN | {"keys": PLAIN["keys"] | {"signingKey": True}}, tmp_path))
    assert settings(found).audit.signing_key_file == Path("/run/secrets/masking/signing_key")
    (volume,) = (one for one in pod_spec(find(found, "Deployment"))["volumes"] if one["name"] == "rankgate-masking")
    assert [item["key"] for item in volume["secret"]["items"]] == ["masking_key", "signing_key"]
    assert settings(documents(render(PLAIN, tmp_path))).audit.signing_key_file is None


def test_a_gate_of_the_chart_lends_one_credential(tmp_path: Path) -> None:
    both = {"keys": {"existingSecret": "keys", "upstreamKey": True, "mintingKeys": True}}
    with pytest.raises(subprocess.CalledProcessError) as caught:
        render(PLAIN | both, tmp_path)
    assert "a gate lends one credential" in caught.value.stderr


def test_what_prometheus_is_told_to_scrape_is_there(tmp_path: Path) -> None:
    found = documents(render(FULL, tmp_path))
    ports = {
        port["name"]
        for container in pod_spec(find(found, "Deployment"))["initContainers"]
        for port in container.get("ports", [])
    }
    scraped = {endpoint["port"] for endpoint in find(found, "PodMonitor")["spec"]["podMetricsEndpoints"]}
    assert scraped == ports - {"gate", "opa-health"}
    assert {"authz-health-1", "proc-health-1"} <= scraped


def test_a_disruption_budget_comes_with_more_than_one_replica(tmp_path: Path) -> None:
    for values, expected in (({}, 0), ({"replicaCount": 2}, 1), ({"autoscaling": {"enabled": True}}, 1)):
        kinds = [manifest["kind"] for manifest in documents(render(PLAIN | values, tmp_path))]
        assert kinds.count("PodDisruptionBudget") == expected, values


def test_autoscaling_looks_at_the_reranker_alone(tmp_path: Path) -> None:
    found = documents(render(PLAIN | {"autoscaling": {"enabled": True}}, tmp_path))
    (metric,) = find(found, "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert metric["containerResource"]["container"] == "reranker"
    assert "replicas" not in find(found, "Deployment")["spec"]


def test_an_image_is_named_by_its_digest_where_there_is_one(
    rendered: tuple[str, str], manifests: list[Manifest]
) -> None:
    pod = pod_spec(find(manifests, "Deployment"))
    own = {container["image"] for container in pod["initContainers"] if "command" not in container}
    expected = {"plain": "rankgate:0.1.0", "full": f"registry.example/rankgate@sha256:{'0' * 64}"}
    assert own == {expected[rendered[0]]}
    for container in pod["initContainers"]:
        assert not container["image"].endswith((":latest", ":"))


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"settings": {"listen": {"port": 1}}}, "port"),
        ({"settings": {"sockets": {"directory": "/tmp"}}}, "sockets"),
        ({"settings": {"limits": {"documents": "many"}}}, "documents"),
        ({"settings": {"issuers": []}}, "issuers"),
        ({"settings": {"credentials": {"minted": ISSUED | {"key_file": "/k"}}}}, "key_file"),
        ({"opa": {"enable": True}}, "enable"),
        ({"image": {"digest": "sha256:short"}}, "digest"),
        ({"reranker": {"preStopSeconds": 0}}, "preStopSeconds"),
        ({"filters": {"processes": {"proc": 0}}}, "proc"),
    ],
)
def test_values_that_can_have_no_effect_are_refused_by_name(values: dict[str, Any], named: str, tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        render(PLAIN | values, tmp_path)
    assert named in caught.value.stderr


def test_without_keys_the_remedy_is_told(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        render({}, tmp_path)
    assert "kubectl create secret generic" in caught.value.stderr


def test_lint_finds_nothing(tmp_path: Path) -> None:
    command = [tool("helm"), "lint", "--strict", CHART, "--set", "keys.existingSecret=keys"]
    subprocess.run(command, check=True, capture_output=True)


def test_the_schema_knows_every_value() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert {*values, "global"} == set(schema["properties"])


def test_the_chart_and_the_component_ship_one_policy_and_one_version() -> None:
    component = ROOT / "deploy/kubernetes/component/policies/policy.rego"
    assert (CHART / "policies/policy.rego").read_text() == component.read_text()
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert chart["appVersion"] == chart["version"] == project["version"]
