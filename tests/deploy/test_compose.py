"""docker-compose.yml: every command line of it runs, and together they serve the cohere SDK."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cohere
import httpx
import pytest
import redis
import yaml
from deploy.calling import rerank
from deploy.containers import World
from deploy.dockerfile import ROOT
from deploy.tools import tool

from deploy.compose import METRICS, Service, document, services
from rankgate.audit.names import stream_pattern
from rankgate.settings import load

PORTS = (8000, 8080, 8282, 9000, 9090, 9101, 9201, 9901)
# Behind the gate: whoever reaches one of these goes around it, or obtains credentials.
PRIVATE = {"ext_authz", "ext_proc", "opa", "redis", "reranker"}
FILTERS = {"ext_authz", "ext_proc"}
SCRAPED = FILTERS | {"envoy"}


@dataclass(frozen=True)
class Running:
    world: World
    services: dict[str, Service]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.world.port(8080)}"

    def start(self, name: str) -> None:
        service = self.services[name]
        assert self.world.run(service.container, service.check).returncode != 0, "a health check that cannot fail"
        self.world.start(service.container)
        self.world.until_healthy(service.container, service.check)

    def token(self, client: str = "search-svc") -> str:
        form = {"grant_type": "client_credentials", "audience": "rerank"}
        url = f"http://127.0.0.1:{self.world.port(9000)}/token"
        return str(httpx.post(url, data=form, auth=(client, "demo")).raise_for_status().json()["access_token"])


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the keys that prepare.sh makes."""
    folder = tmp_path_factory.mktemp("compose")
    shutil.copy(ROOT / "deploy/compose/prepare.sh", folder)
    subprocess.run(["sh", folder / "prepare.sh"], check=True, capture_output=True)
    return folder / "secrets"


@pytest.fixture(scope="module")
def running(programs: dict[str, Path], secrets: Path) -> Iterator[Running]:
    with World(programs, hosts=dict.fromkeys({"reranker", "issuer"} | SCRAPED, "127.0.0.1")) as world:
        for port in PORTS:
            world.port(port)
        found = {service.container.name: service for service in services(world, secrets, METRICS)}
        running = Running(world, found)
        for name in found:
            if name != "prometheus":
                running.start(name)
        yield running


def test_the_cohere_sdk_gets_ranked_answers(running: Running) -> None:
    answer = rerank(running.url, running.token(), top_n=2)
    assert answer.results[0].index == 1
    assert len(answer.results) == 2


def test_a_caller_whom_the_policy_does_not_know_is_denied_by_opa(running: Running) -> None:
    with pytest.raises(cohere.ForbiddenError) as caught:
        rerank(running.url, running.token("batch"))
    assert "this client is not known here" in caught.value.body["message"]


def test_a_token_of_nobody_is_refused(running: Running) -> None:
    with pytest.raises(cohere.UnauthorizedError):
        rerank(running.url, "a.b.c")


def test_the_reranker_takes_no_call_without_the_lent_key(running: Running) -> None:
    url = f"http://127.0.0.1:{running.world.port(8000)}/v2/rerank"
    assert httpx.post(url, json={"query": "a", "documents": ["b"]}).status_code == 401


def test_what_was_decided_and_what_became_of_it_reach_redis(running: Running) -> None:
    rerank(running.url, running.token())
    with redis.Redis(unix_socket_path=str(running.world.folder / "volume-redis/redis.sock")) as client:

        def kinds() -> set[bytes]:
            streams = list(client.scan_iter(stream_pattern("compose"), _type="stream"))
            return {fields[b"type"].rpartition(b".")[2] for stream in streams for _, fields in client.xrange(stream)}

        running.world.wait(running.services["redis"].container, lambda: {b"decision", b"completion"} <= kinds())


def test_sockets_are_for_the_filters_and_envoy_alone(running: Running) -> None:
    folder = running.world.folder / "volume-sockets"
    assert folder.stat().st_mode & 0o777 == 0o750
    assert {path.stat().st_mode & 0o777 for path in folder.glob("*.sock")} == {0o660}
    holders = {
        name
        for name, service in document()["services"].items()
        if "sockets:/run/rankgate" in service.get("volumes", [])
    }
    assert holders == {"envoy", "ext_authz", "ext_proc"}


def test_prometheus_scrapes_both_filters_and_envoy_and_has_the_alerts(running: Running) -> None:
    tool("prometheus")
    rerank(running.url, running.token())
    running.start("prometheus")

    def asked(path: str, **query: str) -> Any:
        url = f"http://127.0.0.1:{running.world.port(9090)}/api/v1/{path}"
        return httpx.get(url, params=query).raise_for_status().json()["data"]

    def up() -> bool:
        states = [target["health"] for target in asked("targets", state="active")["activeTargets"]]
        assert "down" not in states
        return states == ["up"] * len(SCRAPED)

    running.world.wait(running.services["prometheus"].container, up)
    counted = asked("query", query='rankgate_decisions_total{allowed="true"} > 0 or envoy_http_ext_authz_ok > 0')
    assert len(counted["result"]) == 2
    shipped = yaml.safe_load((ROOT / "deploy/prometheus/rules.yaml").read_text())
    loaded = [rule for group in asked("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in loaded} == {
        rule["alert"] for group in shipped["groups"] for rule in group["rules"]
    }
    assert {rule["health"] for rule in loaded} <= {"ok", "unknown"}


def test_filters_end_in_order_when_told_to(running: Running) -> None:
    for name in ("envoy", "ext_authz", "ext_proc"):
        assert running.world.stop(name) == 0


@pytest.mark.parametrize("name", document(METRICS)["services"])
def test_every_service_is_confined(name: str) -> None:
    service = document(METRICS)["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "cap_add" not in service
    assert "privileged" not in service
    user, group = service["user"].split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert service["healthcheck"]["test"]


def test_no_two_parts_of_different_trust_share_a_user() -> None:
    users: dict[str, set[str]] = {}
    for name, service in document(METRICS)["services"].items():
        users.setdefault(service["user"].split(":")[0], set()).add(name)
    assert [names for names in users.values() if len(names) > 1] == [FILTERS]


def test_ports_are_on_loopback_and_what_is_behind_the_gate_has_none() -> None:
    for name, service in document(METRICS)["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert not (service.get("ports") and name in PRIVATE), name


def test_the_reranker_shares_a_network_with_envoy_alone_and_it_leads_nowhere() -> None:
    found = document()
    (network,) = found["services"]["reranker"]["networks"]
    assert found["networks"][network]["internal"] is True
    assert {name for name, service in found["services"].items() if network in service.get("networks", [])} == {
        "reranker",
        "envoy",
    }
    for name in PRIVATE - {"reranker"}:
        assert found["services"][name]["network_mode"] == "none", name


def test_with_metrics_each_filter_has_one_network_that_leads_nowhere_and_no_caller_is_on() -> None:
    found = document(METRICS)
    for name in FILTERS:
        assert found["services"][name]["networks"] == ["metrics"]
        assert "network_mode" not in found["services"][name]
    assert found["networks"]["metrics"]["internal"] is True
    on = {name for name, service in found["services"].items() if "metrics" in service.get("networks", [])}
    assert on == SCRAPED | {"prometheus"}


def test_keys_are_given_to_those_who_need_them() -> None:
    given = {name: set(service.get("secrets", [])) for name, service in document()["services"].items()}
    assert {name: keys for name, keys in given.items() if keys} == {
        "ext_authz": {"masking_key", "upstream_key"},
        "ext_proc": {"masking_key"},
        "reranker": {"upstream_key"},
    }


def test_filters_may_finish_their_longest_call() -> None:
    settings = load(ROOT / "deploy/compose/rankgate.toml")
    for name in FILTERS:
        assert int(document()["services"][name]["stop_grace_period"].rstrip("s")) >= settings.deadline_s + 20


def test_images_of_others_are_named_by_an_exact_version() -> None:
    for name, service in document(METRICS)["services"].items():
        _, _, tag = service["image"].rpartition(":")
        assert tag[tag.startswith("v") :].split("-")[0].count(".") == 2, name


def test_env_example_names_every_variable_with_its_default() -> None:
    text = "".join((ROOT / name).read_text() for name in ("docker-compose.yml", METRICS))
    example = dict(
        line.split("=", 1)
        for line in (ROOT / ".env.example").read_text().splitlines()
        if "=" in line and line[0] != "#"
    )
    assert example == dict(re.findall(r"\$\{(\w+):-([^}]*)\}", text))


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed")
def test_docker_compose_accepts_the_file() -> None:
    subprocess.run(
        ["docker-compose", "-f", ROOT / "docker-compose.yml", "config", "-q"], check=True, capture_output=True, cwd=ROOT
    )
