"""docker-compose.yml: every command line of it runs, and together they serve the cohere SDK."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cohere
import httpx
import pytest
import redis
from deploy.calling import rerank
from deploy.containers import World
from deploy.dockerfile import ROOT

from deploy.compose import Service, document, services
from rankgate.audit.names import stream_pattern
from rankgate.settings import load

PORTS = (8000, 8080, 8282, 9000, 9101, 9201)
# Behind the gate: whoever reaches one of these goes around it, or obtains credentials.
PRIVATE = {"ext_authz", "ext_proc", "opa", "redis", "reranker"}
FILTERS = {"ext_authz", "ext_proc"}


@dataclass(frozen=True)
class Running:
    world: World
    services: dict[str, Service]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.world.port(8080)}"

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
    with World(programs, hosts={"reranker": "127.0.0.1", "issuer": "127.0.0.1"}) as world:
        for port in PORTS:
            world.port(port)
        found = services(world, secrets)
        for service in found:
            assert world.run(service.container, service.check).returncode != 0, "a health check that cannot fail"
            world.start(service.container)
            world.until_healthy(service.container, service.check)
        yield Running(world, {service.container.name: service for service in found})


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


def test_filters_end_in_order_when_told_to(running: Running) -> None:
    for name in ("envoy", "ext_authz", "ext_proc"):
        assert running.world.stop(name) == 0


@pytest.mark.parametrize("name", document()["services"])
def test_every_service_is_confined(name: str) -> None:
    service = document()["services"][name]
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
    for name, service in document()["services"].items():
        users.setdefault(service["user"].split(":")[0], set()).add(name)
    assert [names for names in users.values() if len(names) > 1] == [FILTERS]


def test_ports_are_on_loopback_and_what_is_behind_the_gate_has_none() -> None:
    for name, service in document()["services"].items():
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
    for name, service in document()["services"].items():
        _, _, tag = service["image"].rpartition(":")
        assert tag[tag.startswith("v") :].split("-")[0].count(".") == 2, name


def test_env_example_names_every_variable_with_its_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
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
