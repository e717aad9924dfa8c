"""docker-compose.yml: every command line of it runs, and together they serve the cohere SDK."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
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
from deploy.people import LOGIN_HOST, PeopleIssuer
from deploy.tools import tool

from deploy.compose import CONSOLE, METRICS, Service, document, services
from rankgate.audit.names import stream_pattern
from rankgate.clients.approval_keys import Keys
from rankgate.settings import load

PORTS = (8000, 8080, 8090, 8282, 9000, 9090, 9101, 9201, 9301, 9901)
ALL = (METRICS, CONSOLE)
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
    command = {"RANKGATE": f"{sys.executable} -P -m rankgate.cli"}
    subprocess.run(["sh", folder / "prepare.sh", "console"], check=True, capture_output=True, env=os.environ | command)
    return folder / "secrets"


def reading(world: World, secrets: Path) -> redis.Redis:
    """Return a client of the user that reads the trail."""
    password = (secrets / "reader_password").read_text().strip()
    socket = str(world.folder / "volume-redis/redis.sock")
    return redis.Redis(unix_socket_path=socket, username="reader", password=password)


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


def test_redis_knows_its_users_and_nobody_else(running: Running, secrets: Path) -> None:
    socket = str(running.world.folder / "volume-redis/redis.sock")
    with redis.Redis(unix_socket_path=socket) as nobody, pytest.raises(redis.exceptions.NoPermissionError):
        nobody.get("state:x")
    for user, own, other in (("audit", "audit:x", "state:x"), ("state", "state:x", "audit:x")):
        password = (secrets / f"{user}_password").read_text().strip()
        with redis.Redis(unix_socket_path=socket, username=user, password=password) as client:
            client.execute_command(*{"audit": ("XRANGE", own, "-", "+"), "state": ("GET", own)}[user])
            refused = (
                ("GET", other), ("XRANGE", other, "-", "+"), ("KEYS", "*"), ("SCAN", 0), ("DEL", own), ("FLUSHALL",),
                ("CONFIG", "GET", "*"), ("ACL", "LIST"),
            )  # fmt: skip
            for command in refused:
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.execute_command(*command)


def test_redis_users_are_those_of_the_documents(secrets: Path) -> None:
    written = [line.split() for line in (secrets / "redis_users").read_text().splitlines()]
    found = {words[1]: [word for word in words[2:] if word[0] in "~+-"] for words in written}
    for page in ("docs/audit.md", "docs/decisions/approvals.md"):
        text = (ROOT / page).read_text().replace("\\\n", " ")
        for user, rules in re.findall(r"^ACL SETUSER (\w+) on >password (.*)$", text, re.MULTILINE):
            assert found[user] == rules.split(), f"{user} of {page}"
    assert set(found) == {"default", "audit", "state", "reader"}
    assert found["default"] == ["-@all", "+ping"]


def test_the_reranker_takes_no_call_without_the_lent_key(running: Running) -> None:
    url = f"http://127.0.0.1:{running.world.port(8000)}/v2/rerank"
    assert httpx.post(url, json={"query": "a", "documents": ["b"]}).status_code == 401


def test_what_was_decided_and_what_became_of_it_reach_redis(running: Running, secrets: Path) -> None:
    rerank(running.url, running.token())
    with reading(running.world, secrets) as client:

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


# -- with the console -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def consoled(programs: dict[str, Path], secrets: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Yield the gate with approvals and a console; OPA decides by the shipped policy."""
    hosts = dict.fromkeys({"reranker", "issuer"}, "127.0.0.1")
    folder = tmp_path_factory.mktemp("people")
    with PeopleIssuer(folder) as people, World(programs, hosts=hosts | {LOGIN_HOST: people.address}) as world:
        for port in PORTS:
            world.port(port)
        found = {service.container.name: service for service in services(world, secrets, CONSOLE)}
        # A test waits less for people than callers do, and its issuer has a certificate of its own.
        authority = {"/etc/rankgate/login.pem": world.copy(people.authority, "login.pem")}
        changed(found, "ext_authz", {"RANKGATE_APPROVALS__HOLD_S": "0.5"}, {})
        changed(found, "console", {"RANKGATE_CONSOLE_LOGIN__CA_FILE": "/etc/rankgate/login.pem"}, authority)
        running = Running(world, found)
        for name in found:
            running.start(name)
        yield running


def changed(found: dict[str, Service], name: str, environment: dict[str, str], mounts: dict[str, Path]) -> None:
    container = found[name].container
    container = replace(
        container, environment={**container.environment, **environment}, mounts={**container.mounts, **mounts}
    )
    found[name] = replace(found[name], container=container)


def console_page(running: Running, path: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{running.world.port(8090)}{path}")


def test_the_console_lives_and_sends_people_to_their_issuer(consoled: Running) -> None:
    assert console_page(consoled, "/livez").status_code == 200
    login = console_page(consoled, "/login")
    assert login.status_code == 303
    assert login.headers["location"].startswith(f"https://{consoled.world.hosts[LOGIN_HOST]}/authorize?")
    assert "client_id=rankgate-console" in login.headers["location"]
    assert console_page(consoled, "/").status_code == 401
    metrics = httpx.get(f"http://127.0.0.1:{consoled.world.port(9301)}/metrics").text
    assert 'rankgate_ready{part="all"} 1.0' in metrics


def test_a_risky_call_waits_for_people_and_others_pass(consoled: Running, secrets: Path) -> None:
    token = consoled.token("fraud-svc")
    assert rerank(consoled.url, token).results
    with pytest.raises(cohere.TooManyRequestsError) as caught:
        rerank(consoled.url, token, query="who paid with 4111 1111 1111 1111?", request_options={"max_retries": 0})
    assert caught.value.headers["x-should-retry"] == "true"
    approval = caught.value.headers["x-rankgate-approval-id"]
    # The console reads the very record, by its own user.
    password = (secrets / "state_password").read_text().strip()
    socket = str(consoled.world.folder / "volume-redis/redis.sock")
    with redis.Redis(unix_socket_path=socket, username="state", password=password) as client:
        assert client.exists(Keys("compose").record(approval))


def test_the_journal_is_on_its_volume_and_for_the_console_alone(consoled: Running) -> None:
    folder = consoled.world.folder / "volume-journal"
    assert list(folder.rglob("*.seg"))
    assert folder.stat().st_mode & 0o007 == 0


def test_the_console_ends_in_order_and_calls_that_need_nobody_go_on(consoled: Running) -> None:
    assert consoled.world.stop("console") == 0
    assert rerank(consoled.url, consoled.token()).results
    consoled.start("console")


# -- the files themselves ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", document(*ALL)["services"])
def test_every_service_is_confined(name: str) -> None:
    service = document(*ALL)["services"][name]
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
    for name, service in document(*ALL)["services"].items():
        users.setdefault(service["user"].split(":")[0], set()).add(name)
    assert [names for names in users.values() if len(names) > 1] == [FILTERS]


def test_ports_are_on_loopback_and_what_is_behind_the_gate_has_none() -> None:
    for name, service in document(*ALL)["services"].items():
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
        "ext_authz": {"masking_key", "upstream_key", "audit_password"},
        "ext_proc": {"masking_key", "audit_password"},
        "redis": {"redis_users"},
        "reranker": {"upstream_key"},
    }


def test_the_console_holds_its_keys_alone_and_none_of_a_gate() -> None:
    found = document(CONSOLE)["services"]
    below = document()["services"]
    added = {
        name: set(service.get("secrets", [])) - set(below.get(name, {}).get("secrets", []))
        for name, service in found.items()
    }
    assert {name: keys for name, keys in added.items() if keys} == {
        "ext_authz": {"state_password", "vote_key_public"},
        "console": {"vote_key", "preview_key", "state_password", "reader_password"},
    }
    console = found["console"]
    assert "sockets:/run/rankgate" not in console["volumes"]
    assert console["networks"] == ["people"]
    assert {name for name, service in found.items() if "people" in service.get("networks", [])} == {"console"}


def test_with_a_console_redis_differs_in_nothing_but_when_it_is_on_disk() -> None:
    plain, laid = document()["services"]["redis"]["command"], document(CONSOLE)["services"]["redis"]["command"]
    assert [(a, b) for a, b in zip(plain, laid, strict=True) if a != b] == [("everysec", "always")]


@pytest.mark.parametrize("over", [(), (CONSOLE,)], ids=["gate", "console"])
def test_filters_may_finish_their_longest_call(over: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FILTERS:
        service = document(*over)["services"][name]
        for variable, value in service.get("environment", {}).items():
            monkeypatch.setenv(variable, value)
        settings = load(ROOT / "deploy/compose/rankgate.toml")
        assert settings.approvals.enabled == bool(over)
        assert int(service["stop_grace_period"].rstrip("s")) >= settings.deadline_s + 20


def test_images_of_others_are_named_by_an_exact_version() -> None:
    for name, service in document(*ALL)["services"].items():
        _, _, tag = service["image"].rpartition(":")
        assert tag[tag.startswith("v") :].split("-")[0].count(".") == 2, name


def test_env_example_names_every_variable_with_its_default() -> None:
    text = "".join((ROOT / name).read_text() for name in ("docker-compose.yml", *ALL))
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


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed")
def test_docker_compose_lays_the_console_over_the_file_as_the_tests_do(secrets: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    shutil.copytree(ROOT / "deploy/compose", tmp_path / "deploy/compose")
    shutil.copytree(secrets, tmp_path / "deploy/compose/secrets", dirs_exist_ok=True)
    command = ["docker-compose", "-f", "docker-compose.yml", "-f", CONSOLE, "config"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    told, ours = yaml.safe_load(done.stdout)["services"], document(CONSOLE)["services"]
    for name, service in ours.items():
        assert told[name].get("command") == service.get("command"), name
        assert told[name]["user"] == service["user"]
        assert {secret["source"] for secret in told[name].get("secrets", [])} == set(service.get("secrets", []))
        environment = told[name].get("environment", {})
        assert service.get("environment", {}).items() <= environment.items(), name
    (envoy,) = [volume for volume in told["envoy"]["volumes"] if "/etc/envoy/envoy.yaml" in str(volume)]
    assert "console/envoy.yaml" in str(envoy)
