"""One schema from file and environment; what contradicts itself or has no effect is refused by name."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from rankgate.errors import SettingsError
from rankgate.settings import Settings, load

BASE: dict[str, Any] = {
    "upstream": {"url": "http://127.0.0.1:9000"},
    "issuers": [{"issuer": "https://issuer.example", "audiences": ["rerank"]}],
    "masking": {"key_file": "masking.key"},
    "audit": {"directory": "audit"},
    "sockets": {"directory": "sockets"},
}


def build(changes: dict[str, Any]) -> Settings:
    """Load BASE with `changes` merged in: `{"listen.port": 1}` or `{"issuers.0.typ": []}`."""
    values = copy.deepcopy(BASE)
    for name, value in changes.items():
        *path, last = name.split(".")
        node: Any = values
        for part in path:
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        node[last] = value
    return load(None, **values)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("RANKGATE_")]:
        monkeypatch.delenv(name)


def test_the_smallest_configuration_is_complete() -> None:
    settings = build({})
    assert settings.listen.address == "127.0.0.1"
    assert [route.path for route in settings.routes] == ["/v2/rerank", "/v1/rerank", "/rerank"]
    assert settings.masking.profiles["default"].operator == "pseudonym"


@pytest.mark.parametrize("section", ["upstream", "issuers", "masking", "audit", "sockets"])
def test_what_has_no_safe_default_is_required(section: str) -> None:
    values = {name: value for name, value in BASE.items() if name != section}
    with pytest.raises(SettingsError, match=section):
        load(None, **values)


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rankgate.toml"
    file.write_text(
        'upstream = { url = "http://127.0.0.1:9000" }\nmasking = { key_file = "k" }\naudit = { directory = "a" }\n'
        'sockets = { directory = "s" }\nlisten = { port = 1111, address = "127.0.0.2" }\n'
        '[[issuers]]\nissuer = "https://issuer.example"\naudiences = ["rerank"]\n'
    )
    monkeypatch.setenv("RANKGATE_LISTEN__PORT", "2222")
    settings = load(file)
    assert (settings.listen.port, settings.listen.address) == (2222, "127.0.0.2")


def test_lists_come_from_the_environment_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKGATE_ISSUERS", '[{"issuer": "https://other.example", "audiences": ["a"]}]')
    assert build({}).issuers[0].issuer == "https://other.example"


def test_settings_cannot_be_changed_after_loading() -> None:
    settings = build({})
    with pytest.raises(ValueError, match="frozen"):
        settings.listen.port = 1  # type: ignore[misc]


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read settings file"):
        load(tmp_path / "none.toml")


def test_a_broken_file_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "rankgate.toml"
    file.write_text("listen = {")
    with pytest.raises(SettingsError, match="not valid TOML"):
        load(file)


def test_every_fault_is_named_and_no_value_is_repeated() -> None:
    with pytest.raises(SettingsError) as caught:
        build({"listen.port": "s3cret", "limits.documents": 0})
    text = str(caught.value)
    assert "listen.port" in text
    assert "limits.documents" in text
    assert "s3cret" not in text


STATIC = {"issuers.0.preset": "static", "issuers.0.jwks_file": "jwks.json"}
MINTED = {"issuer": "https://gate.example", "audience": "engine", "key_file": "k"}
EXCHANGE = {
    "token_url": "https://idp.example/token",
    "client_id": "gate",
    "client_secret_file": "s",
    "audiences": ("engine",),
}
SIGNED = {"audit.signing_key_file": "signing.pem"}
REDIS = {"audit.redis_url": "redis://127.0.0.1:6379"}

# changes, and what the refusal has to say: the setting, and where it helps the remedy.
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"listen.prot": 1}, "listen.prot"),
    ({"listen.certificate_file": "c"}, "listen.key_file belong together"),
    ({"listen.address": "0.0.0.0"}, "set listen.certificate_file"),
    ({"listen.certificate_file": "c", "listen.key_file": "k", "listen.insecure_plaintext": True}, "has no effect"),
    ({"upstream.url": "ftp://host"}, "upstream.url must be"),
    ({"upstream.url": "http://host/v1"}, "must not have a path"),
    ({"upstream.url": "http://user:pw@host"}, "must not have"),
    ({"upstream.url": "https://host"}, "upstream.trusted_ca is required"),
    ({"upstream.url": "http://host:0"}, "upstream.url has no usable port"),
    ({"upstream.url": "http://host:65536"}, "upstream.url has no usable host or port"),
    ({"upstream.url": "http://host:"}, "upstream.url has no usable port"),
    ({"upstream.url": "http://host:http"}, "upstream.url has no usable host or port"),
    ({"upstream.url": "http://[::1"}, "upstream.url has no usable host or port"),
    ({"upstream.url": "http://[v1.x]"}, "upstream.url"),
    ({"upstream.url": "http://ho st"}, "upstream.url has a character"),
    ({"upstream.url": "http://host\n"}, "upstream.url has a character"),
    ({"upstream.url": "http://-host"}, "upstream.url has a character"),
    ({"upstream.url": "http://:80"}, "upstream.url must be"),
    ({"upstream.trusted_ca": "ca.pem"}, "no effect on an http upstream"),
    ({"issuers": []}, "issuers"),
    ({"issuers.0.audiences": []}, "audiences"),
    ({"issuers.0.audiences": [""]}, "issuers[0].audiences[0]"),
    (STATIC | {"issuers.0.issuer": ""}, "issuers[0].issuer"),
    ({"issuers.0.issuer": "https://issuer.example:0"}, "issuers.issuer has no usable port"),
    ({"issuers.0.jwks_uri": "https://issuer.example:70000/k"}, "issuers.jwks_uri has no usable host or port"),
    ({"issuers.0.algorithms": ["HS256"]}, "issuers.algorithms has HS256"),
    ({"issuers.0.algorithms": ["none"]}, "issuers.algorithms has none"),
    ({"issuers.0.issuer": "http://issuer.example"}, "issuers.issuer must be https"),
    ({"issuers.0.issuer": "http://issuer.example", "issuers.0.insecure_http": True}, "only on loopback"),
    ({"issuers.0.jwks_uri": "http://issuer.example/k"}, "issuers.jwks_uri must be https"),
    ({"issuers.0.jwks_file": "jwks.json"}, "belongs to preset static"),
    ({"issuers.0.preset": "static"}, "needs issuers.jwks_file"),
    (STATIC | {"issuers.0.jwks_uri": "https://issuer.example/k"}, "static fetches nothing"),
    (STATIC | {"issuers.0.refresh_s": 60}, "issuers.refresh_s has no effect with preset static"),
    (STATIC | {"issuers.0.stale_s": 86400}, "issuers.stale_s has no effect with preset static"),
    (STATIC | {"issuers.0.cooldown_s": 5}, "issuers.cooldown_s has no effect with preset static"),
    ({"issuers": BASE["issuers"] * 2}, "listed twice"),
    (
        {"issuers": [*BASE["issuers"], {"issuer": "https://other.example", "audiences": ["rerank"]}]},
        "issuers.tenant is unset for more than one issuer",
    ),
    ({"routes": [{"name": "a", "path": "/r"}, {"name": "a", "path": "/s"}]}, "routes.name a is used twice"),
    ({"routes": [{"name": "a", "path": "/r"}, {"name": "b", "path": "/r"}]}, "routes.path /r is used twice"),
    ({"routes": [{"name": "a", "path": "/r?x"}]}, "routes[0].path"),
    (
        {"routes": [{"name": "a", "path": "/r", "capture": "none", "capture_question": True}]},
        "routes.capture_question of a has no effect with capture none",
    ),
    (
        {"routes": [{"name": "a", "path": "/score", "dialect": "vllm.score", "drop_mode": "omit"}]},
        "routes.drop_mode omit of a has no effect with vllm.score",
    ),
    ({"routes": [{"name": "a", "path": "/healthz"}]}, "routes.path /healthz is Envoy's own health check"),
    ({"routes": [{"name": "a", "path": "/v1/../rerank"}]}, "no path after Envoy's normalisation"),
    ({"routes": [{"name": "a", "path": "/v1/./rerank"}]}, "no path after Envoy's normalisation"),
    ({"routes": [{"name": "a", "path": "/v1/.."}]}, "no path after Envoy's normalisation"),
    ({"routes": [{"name": "a", "path": "//rerank"}]}, "no path after Envoy's normalisation"),
    ({"routes": [{"name": "a", "path": "/rerank//"}]}, "no path after Envoy's normalisation"),
    ({"routes": [{"name": "a", "path": "/r", "audiences": [""]}]}, "routes[0].audiences[0]"),
    ({"routes": [{"name": "a", "path": "/r", "query_parameters": [""]}]}, "routes[0].query_parameters[0]"),
    ({"routes": [{"name": "a", "path": "/r", "profile": "loose"}]}, "not in masking.profiles"),
    ({"routes": [{"name": "a", "path": "/r", "audiences": ["other"]}]}, "accepted by no issuer"),
    ({"routes": [{"name": "a", "path": "/r", "request_headers": ["authorization"]}]}, "must not list authorization"),
    (
        {
            "routes": [{"name": "a", "path": "/r", "request_headers": ["api-key"]}],
            "credentials": {"broker": "file", "file": "f", "header": "api-key"},
        },
        "lists credentials.header",
    ),
    (
        {
            "routes": [{"name": "a", "path": "/r", "response_headers": ["api-key"]}],
            "credentials": {"broker": "file", "file": "f", "header": "api-key"},
        },
        "routes.response_headers of a lists credentials.header",
    ),
    ({"limits.masked_body_bytes": 2048}, "limits.masked_body_bytes must be at least"),
    ({"limits.check_timeout_s": 0.2, "policy.timeout_s": 0.2}, "policy.timeout_s must be shorter"),
    ({"limits.check_timeout_s": 0.25, "policy.timeout_s": 0.2}, "shorter than 0.8 of limits.check_timeout_s"),
    (
        {"limits.body_bytes": 33_554_432, "limits.masked_body_bytes": 33_554_432, "envoy.heap_bytes": 536_870_912},
        "envoy.heap_bytes must hold 8 buffers",
    ),
    ({"limits.response_bytes": 67_108_864, "envoy.heap_bytes": 134_217_728}, "envoy.heap_bytes must hold 8 buffers"),
    ({"masking.profiles": {}}, "masking.profiles"),
    ({"masking.profiles": {"none": {"types": ["JWT"]}}}, "none is reserved"),
    ({"masking.profiles": {"default": {"types": []}}}, "types"),
    ({"masking.profiles": {"default": {"types": ["JWT"], "operators": {"IBAN_CODE": "hash"}}}}, "would have no effect"),
    ({"policy.engine": "opa"}, "needs policy.url"),
    ({"policy.engine": "opa", "policy.url": "http://127.0.0.1:1", "policy.directory": "p"}, "policy.directory has no"),
    ({"policy.shadow_events_per_s": 3}, "policy.shadow_events_per_s has no effect"),
    ({"policy.url": "http://127.0.0.1:1"}, "policy.url and policy.ca_file have no effect"),
    ({"policy.engine": "opa", "policy.url": "http://127.0.0.1:1/v1"}, "policy.url must be"),
    ({"policy.engine": "opa", "policy.url": "http://opa.example"}, "loopback only"),
    ({"policy.engine": "opa", "policy.url": "http://127.0.0.1:0"}, "policy.url has no usable port"),
    ({"policy.engine": "opa", "policy.url": "http://127.0.0.1:65536"}, "policy.url has no usable host or port"),
    ({"policy.engine": "opa", "policy.url": "https://:8181"}, "policy.url must be"),
    ({"policy.engine": "opa", "policy.url": "unix://opa/run"}, "policy.url must be"),
    ({"credentials.broker": "file"}, "belong together"),
    ({"credentials.file": "f"}, "belong together"),
    ({"credentials.header": "host"}, "cannot carry a credential"),
    ({"credentials.header": "x-envoy-key"}, "cannot carry a credential"),
    ({"credentials.header": "api-key"}, "no effect with broker none"),
    ({"credentials.scheme": ""}, "no effect with broker none"),
    ({"credentials.broker": "minted"}, "credentials.broker minted and credentials.minted belong together"),
    ({"credentials.minted": MINTED}, "credentials.broker minted and credentials.minted belong together"),
    (
        {"credentials.broker": "file", "credentials.file": "f", "credentials.exchange": EXCHANGE},
        "credentials.broker exchange and credentials.exchange belong together",
    ),
    *(
        ({"credentials.broker": "minted", "credentials.minted": MINTED | {"lifetime_s": seconds}}, "minted.lifetime_s")
        for seconds in (4, 61)
    ),
    *(
        ({"credentials.broker": "exchange", "credentials.exchange": EXCHANGE | change}, said)
        for change, said in (
            ({"token_url": "http://idp.example/token"}, "token_url must be https"),
            ({"token_url": "http://127.0.0.1/token"}, "token_url must be https"),
            ({"token_url": "http://idp.example/token", "insecure_http": True}, "token_url must be https"),
            ({"token_url": "https://gate:s3cret@idp.example/token"}, "must not have a user"),
            ({"token_url": "https://idp.example/token#a"}, "must not have a user or a fragment"),
            ({"token_url": "https://idp.example:0/token"}, "token_url has no usable port"),
            ({"token_url": "http://127.0.0.1/t", "insecure_http": True, "ca_file": "c"}, "ca_file has no effect"),
            ({"client_key_file": "k"}, "needs one of client_secret_file and client_key_file"),
            ({"client_secret_file": None}, "needs one of client_secret_file and client_key_file"),
            ({"audiences": ()}, "needs audiences or resources"),
            ({"scopes": ("two words",)}, "credentials.exchange.scopes"),
        )
    ),
    ({"audit.redis_user": "u"}, "no effect without audit.redis_url"),
    ({"audit.redis_url": "http://127.0.0.1"}, "audit.redis_url must be"),
    ({"audit.redis_url": "redis://u:p@127.0.0.1"}, "must not hold a user or password"),
    ({"audit.redis_url": "redis://redis.example"}, "loopback only"),
    ({"audit.redis_url": "redis://127.0.0.1:0"}, "audit.redis_url has no usable port"),
    ({"audit.redis_url": "rediss://redis.example:99999"}, "audit.redis_url has no usable host or port"),
    ({"audit.redis_url": "rediss://:6379"}, "audit.redis_url names no server"),
    ({"audit.redis_url": "unix://"}, "audit.redis_url names no server"),
    (REDIS | {"audit.redis_ca_file": "ca"}, "no effect without rediss"),
    (REDIS | {"audit.redis_user": "u"}, "needs audit.redis_password_file"),
    ({"audit.second_place": "second"}, "audit.second_place has no effect without audit.signing_key_file"),
    (
        {"audit.second_redis": {"redis_url": "unix:///s"}},
        "audit.second_redis has no effect without audit.signing_key_file",
    ),
    (SIGNED | {"audit.second_place": "audit/second"}, "inside audit.directory"),
    (SIGNED | {"audit.second_place": "audit"}, "inside audit.directory"),
    (SIGNED | {"audit.second_redis": {}}, "audit.second_redis.redis_url"),
    (SIGNED | {"audit.second_redis": {"redis_url": "http://x"}}, "audit.second_redis.redis_url must be"),
    (SIGNED | REDIS | {"audit.second_redis": {"redis_url": REDIS["audit.redis_url"]}}, "name another server"),
    ({"audit.cap_bytes": 1_048_576, "audit.event_bytes": 1_048_576}, "audit.cap_bytes must hold"),
    ({"envoy.log_level": "debug"}, "envoy.log_level"),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED, ids=lambda value: value if isinstance(value, str) else None)
def test_what_can_never_work_is_refused_by_name(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        build(changes)
    assert words in str(caught.value)


def route(**changes: Any) -> dict[str, Any]:
    return {"routes": [{"name": "a", "path": "/r", **changes}]}


# Both directions: of one connection, a credential, or the gate's and Envoy's own.
NEVER = (
    "accept-encoding", "authorization", "connection", "content-encoding", "cookie", "expect", "host", "keep-alive",
    "proxy-authenticate", "proxy-authorization", "set-cookie", "te", "trailer", "transfer-encoding", "upgrade",
    "www-authenticate", "x-envoy-attempt-count", "x-envoy-original-path", "x-forwarded-for", "x-forwarded-host",
    "x-rankgate-decision-id",
)  # fmt: skip


@pytest.mark.parametrize("name", [*NEVER, "forwarded", "x-real-ip", "x-http-method-override", "x-original-url"])
def test_a_request_header_that_never_reaches_a_reranker_cannot_be_listed(name: str) -> None:
    with pytest.raises(SettingsError, match=f"routes.request_headers must not list {name}"):
        build(route(request_headers=["accept", name]))


@pytest.mark.parametrize("name", NEVER)
def test_a_response_header_that_never_reaches_a_caller_cannot_be_listed(name: str) -> None:
    with pytest.raises(SettingsError, match=f"routes.response_headers must not list {name}"):
        build(route(response_headers=["content-type", name]))


@pytest.mark.parametrize(
    "name",
    [
        *(name for name in NEVER if name != "authorization"), "accept", "content-type", "content-length", "content-md5",
        "date", "dpop", "forwarded", "location", "range", "retry-after", "traceparent", "user-agent", "via",
        "x-real-ip", "x-request-id",
    ],
)  # fmt: skip
def test_a_header_with_a_meaning_of_its_own_cannot_carry_the_credential(name: str) -> None:
    with pytest.raises(SettingsError, match=f"credentials.header {name} cannot carry a credential"):
        build({"credentials": {"broker": "file", "file": "f", "header": name}})


@pytest.mark.parametrize("name", ["authorization", "api-key", "x-api-key", "ocp-apim-subscription-key"])
def test_the_headers_that_rerankers_take_keys_in_can_carry_the_credential(name: str) -> None:
    settings = build({"credentials": {"broker": "file", "file": "f", "header": name, "scheme": ""}})
    assert name in settings.hidden_headers


@pytest.mark.parametrize(
    "name",
    ["RANKGATE_LIMTS__BODY_BYTES", "RANKGATE_LISTEN_PORT", "RANKGATE_TOKEN", "rankgate_limts__documents", "RANKGATE_"],
)
def test_a_variable_that_is_no_setting_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "s3cret")
    with pytest.raises(SettingsError) as caught:
        build({})
    assert f"{name}: no setting has this name" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_variable_that_is_no_setting_of_its_section_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKGATE_LIMITS__BODYBYTES", "1")
    with pytest.raises(SettingsError, match=r"limits\.bodybytes"):
        build({})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RANKGATE_OPA", "/usr/bin/opa"),
        ("RANKGATE_ORACLE", "/usr/bin/python"),
        ("RANKGATE_CACHE", "/var/cache"),
        ("RANKGATE_TEST_NPM", "/tmp"),
        ("RANKGATE_CLI_UP_STATE", "/tmp"),
        ("RANKGATE_CONSOLE", "https://approvals.example"),
        ("RANKGATE_CONSOLE_TOKEN", "a.b.c"),
        ("RANKGATE_DEPLOYMENT", "blue"),
        ("RANKGATE_LIMTS__DOCUMENTS", ""),
        # A Kubernetes Service named rankgate or rankgate-console, in every pod of its namespace.
        ("RANKGATE_SERVICE_HOST", "10.0.0.1"),
        ("RANKGATE_SERVICE_PORT_HTTP", "8080"),
        ("RANKGATE_PORT", "tcp://10.0.0.1:8080"),
        ("RANKGATE_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("RANKGATE_CONSOLE_SERVICE_PORT", "8080"),
        ("RANKGATE_CONSOLE_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
    ],
)
def test_variables_of_tools_and_of_kubernetes_are_none_of_ours(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    build({})


def test_the_environment_wins_over_what_a_command_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKGATE_LISTEN__PORT", "2222")
    settings = build({"listen.port": 1111, "listen.address": "127.0.0.2"})
    assert (settings.listen.port, settings.listen.address) == (2222, "127.0.0.2")


def test_the_deadline_is_longer_than_everything_a_call_may_wait_for() -> None:
    settings = build({"limits.process_timeout_s": 7.0, "limits.check_timeout_s": 11.0, "upstream.timeout_s": 300.0})
    assert settings.deadline_s > 15.0 + 11.0 + 2 * 7.0 + 300.0


def test_a_policy_may_take_any_time_that_ends_before_the_decision_does() -> None:
    settings = build({"limits.check_timeout_s": 0.3, "policy.timeout_s": 0.2})
    assert settings.policy.timeout_s < settings.limits.decision_s < settings.limits.check_timeout_s


ACCEPTED: list[dict[str, Any]] = [
    {"listen.address": "0.0.0.0", "listen.insecure_plaintext": True},
    {"listen.address": "0.0.0.0", "listen.certificate_file": "c", "listen.key_file": "k"},
    {"listen.address": "::1"},
    {"listen.address": "localhost"},
    {"upstream.url": "https://host", "upstream.trusted_ca": "ca.pem"},
    {"issuers.0.issuer": "http://127.0.0.1:1", "issuers.0.insecure_http": True},
    STATIC | {"issuers.0.issuer": "anything"},
    {"policy.engine": "opa", "policy.url": "unix:///run/opa.sock"},
    {"policy.engine": "opa", "policy.url": "https://opa.example:8181/"},
    {"credentials.broker": "file", "credentials.file": "f", "credentials.header": "api-key", "credentials.scheme": ""},
    {"credentials.broker": "minted", "credentials.minted": MINTED | {"lifetime_s": 60}},
    {"credentials.broker": "exchange", "credentials.exchange": EXCHANGE},
    {
        "credentials.broker": "exchange",
        "credentials.exchange": EXCHANGE | {"token_url": "http://127.0.0.1:9/token", "insecure_http": True},
    },
    {"audit.redis_url": "rediss://redis.example", "audit.redis_ca_file": "ca"},
    {"audit.redis_url": "unix:///run/redis.sock"},
    SIGNED | {"audit.second_place": "second", "audit.second_redis": {"redis_url": "unix:///run/second.sock"}},
    {"audit.redis_url": "redis://localhost"},
    {"upstream.url": "http://re_ranker.svc.cluster.local.:65535"},
    {"upstream.url": "http://[::1]:1/"},
    {"issuers.0.issuer": "https://issuer.example:8443/realms/a?b"},
    {"routes": [{"name": "a", "path": "/"}, {"name": "b", "path": "/v1/r.e~r_ank-/"}, {"name": "c", "path": "/..."}]},
    {"routes": [{"name": "a", "path": "/healthz/rerank"}]},
    {"routes": [{"name": "a", "path": "/r", "request_headers": ["x-tenant"], "response_headers": ["server-timing"]}]},
    {"limits.body_bytes": 33_554_432, "limits.masked_body_bytes": 67_108_864, "limits.response_bytes": 67_108_864},
]


@pytest.mark.parametrize("changes", ACCEPTED)
def test_what_can_work_is_accepted(changes: dict[str, Any]) -> None:
    build(changes)


@pytest.mark.parametrize(
    ("url", "host", "port", "tls"),
    [("http://h", "h", 80, False), ("https://h", "h", 443, True), ("http://[::1]:81", "::1", 81, False)],
)
def test_the_upstream_is_read_from_its_url(url: str, host: str, port: int, tls: bool) -> None:
    upstream = build({"upstream": {"url": url} | ({"trusted_ca": "ca"} if tls else {})}).upstream
    assert (upstream.host, upstream.port, upstream.tls) == (host, port, tls)


def test_envoy_and_grpc_take_more_than_our_own_limit_so_that_we_answer() -> None:
    settings = build({"limits.body_bytes": 1_000_000})
    assert settings.envoy_body_bytes > 2 * settings.limits.body_bytes
    assert settings.grpc_message_bytes > settings.envoy_body_bytes


def test_a_route_is_found_by_name() -> None:
    settings = build({})
    found = settings.route("cohere-v2")
    assert found is not None
    assert found.path == "/v2/rerank"
    assert settings.route("none") is None
