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
    ({"upstream.trusted_ca": "ca.pem"}, "no effect on an http upstream"),
    ({"issuers": []}, "issuers"),
    ({"issuers.0.audiences": []}, "audiences"),
    ({"issuers.0.algorithms": ["HS256"]}, "issuers.algorithms has HS256"),
    ({"issuers.0.algorithms": ["none"]}, "issuers.algorithms has none"),
    ({"issuers.0.issuer": "http://issuer.example"}, "issuers.issuer must be https"),
    ({"issuers.0.issuer": "http://issuer.example", "issuers.0.insecure_http": True}, "only on loopback"),
    ({"issuers.0.jwks_uri": "http://issuer.example/k"}, "issuers.jwks_uri must be https"),
    ({"issuers.0.jwks_file": "jwks.json"}, "belongs to preset static"),
    ({"issuers.0.preset": "static"}, "needs issuers.jwks_file"),
    (STATIC | {"issuers.0.jwks_uri": "https://issuer.example/k"}, "static fetches nothing"),
    ({"issuers": BASE["issuers"] * 2}, "listed twice"),
    ({"routes": [{"name": "a", "path": "/r"}, {"name": "a", "path": "/s"}]}, "routes.name a is used twice"),
    ({"routes": [{"name": "a", "path": "/r"}, {"name": "b", "path": "/r"}]}, "routes.path /r is used twice"),
    ({"routes": [{"name": "a", "path": "/r?x"}]}, "routes.0.path"),
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
    ({"limits.masked_body_bytes": 2048}, "limits.masked_body_bytes must be at least"),
    ({"limits.check_timeout_s": 0.2, "policy.timeout_s": 0.2}, "policy.timeout_s must be shorter"),
    ({"masking.profiles": {}}, "masking.profiles"),
    ({"masking.profiles": {"none": {"types": ["JWT"]}}}, "none is reserved"),
    ({"masking.profiles": {"default": {"types": []}}}, "types"),
    ({"masking.profiles": {"default": {"types": ["JWT"], "operators": {"IBAN_CODE": "hash"}}}}, "would have no effect"),
    ({"policy.engine": "opa"}, "needs policy.url"),
    ({"policy.engine": "opa", "policy.url": "http://127.0.0.1:1", "policy.directory": "p"}, "policy.directory has no"),
    ({"policy.url": "http://127.0.0.1:1"}, "policy.url and policy.ca_file have no effect"),
    ({"policy.engine": "opa", "policy.url": "http://127.0.0.1:1/v1"}, "policy.url must be"),
    ({"policy.engine": "opa", "policy.url": "http://opa.example"}, "loopback only"),
    ({"credentials.broker": "file"}, "belong together"),
    ({"credentials.file": "f"}, "belong together"),
    ({"credentials.header": "host"}, "cannot carry a credential"),
    ({"credentials.header": "x-envoy-key"}, "cannot carry a credential"),
    ({"audit.redis_user": "u"}, "no effect without audit.redis_url"),
    ({"audit.redis_url": "http://127.0.0.1"}, "audit.redis_url must be"),
    ({"audit.redis_url": "redis://u:p@127.0.0.1"}, "must not hold a user or password"),
    ({"audit.redis_url": "redis://redis.example"}, "loopback only"),
    (REDIS | {"audit.redis_ca_file": "ca"}, "no effect without rediss"),
    (REDIS | {"audit.redis_user": "u"}, "needs audit.redis_password_file"),
    ({"audit.cap_bytes": 1_048_576, "audit.event_bytes": 1_048_576}, "audit.cap_bytes must hold"),
    ({"envoy.log_level": "debug"}, "envoy.log_level"),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED, ids=lambda value: value if isinstance(value, str) else None)
def test_what_can_never_work_is_refused_by_name(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        build(changes)
    assert words in str(caught.value)


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
    {"audit.redis_url": "rediss://redis.example", "audit.redis_ca_file": "ca"},
    {"audit.redis_url": "unix:///run/redis.sock"},
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
