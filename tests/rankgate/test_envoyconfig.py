"""What the rendered bootstrap promises, and that the real Envoy accepts it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from certificates import identity

from rankgate.bearer import TOKEN_BYTES
from rankgate.clients.embedded import envoy_binary
from rankgate.envoyconfig import (
    BEARER,
    HEALTH_CHECK,
    LOCAL_REPLIES,
    METHODS,
    SOCKET_PATH_BYTES,
    STATUS_HEADER,
    render,
    secret_files,
)
from rankgate.errors import SettingsError
from rankgate.resources import envoy_template
from rankgate.settings import Settings, load
from rankgate.settings.watching import SLOTS

UNFILTERED = {"health", "refuse-connect", "refuse-ambiguous-bearer", "refuse-no-bearer"}
AUTHZ, PROC = "envoy.filters.http.ext_authz", "envoy.filters.http.ext_proc"


def settings(**sections: Any) -> Settings:
    values: dict[str, Any] = {
        "upstream": {"url": "http://127.0.0.1:8000"},
        "issuers": [{"issuer": "https://issuer.example", "audiences": ["rerank"]}],
        "masking": {"key_file": "/run/secrets/masking"},
        "audit": {"directory": "/var/lib/rankgate"},
        "sockets": {"directory": "/run/rankgate"},
    }
    return load(None, **{**values, **sections})


def text(configured: Settings, **options: Any) -> str:
    return render(configured, envoy_template(), admin_socket=Path("/run/rankgate-admin/admin.sock"), **options)


def bootstrap(configured: Settings | None = None, **options: Any) -> dict[str, Any]:
    return yaml.safe_load(text(configured or settings(), **options))


def manager(config: dict[str, Any]) -> dict[str, Any]:
    return config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]


def routes(config: dict[str, Any]) -> list[dict[str, Any]]:
    (host,) = manager(config)["route_config"]["virtual_hosts"]
    return host["routes"]


def http_filter(config: dict[str, Any], name: str) -> dict[str, Any]:
    return next(item["typed_config"] for item in manager(config)["http_filters"] if item["name"] == name)


def cluster(config: dict[str, Any], name: str) -> dict[str, Any]:
    return next(item for item in config["static_resources"]["clusters"] if item["name"] == name)


def seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


def disabled(route: dict[str, Any]) -> set[str]:
    return {name for name, item in route.get("typed_per_filter_config", {}).items() if item.get("disabled")}


@pytest.mark.parametrize("case", ["default", "tls", "https", "https-address", "slots", "ipv6", "key-header", "watched"])
def test_the_real_envoy_accepts_the_bootstrap(case: str, tmp_path: Path) -> None:
    own = identity(tmp_path, "localhost", "127.0.0.1")
    sections: dict[str, dict[str, Any]] = {
        "default": {},
        "tls": {"listen": {"address": "0.0.0.0", "certificate_file": own.certificate, "key_file": own.key}},
        "https": {"upstream": {"url": "https://rerank.example", "trusted_ca": own.certificate}},
        "https-address": {"upstream": {"url": "https://127.0.0.1:8443", "trusted_ca": own.certificate}},
        "slots": {},
        "watched": {
            "listen": {"address": "0.0.0.0", "certificate_file": own.certificate, "key_file": own.key},
            "upstream": {"url": "https://127.0.0.1:8443", "trusted_ca": own.certificate},
        },
        "ipv6": {"listen": {"address": "::1"}, "upstream": {"url": "http://[::1]:8000"}},
        "key-header": {"credentials": {"broker": "file", "file": "/run/secrets/key", "header": "api-key"}},
    }
    options = {"slots": {"authz_slots": 3, "proc_slots": 2}, "watched": {"secrets": tmp_path}}.get(case, {})
    file = tmp_path / "envoy.yaml"
    configured = settings(**sections[case])
    file.write_text(text(configured, **options))
    for path, secret in secret_files(configured, tmp_path).items():
        path.write_text(secret)
    command = [envoy_binary(), "--mode", "validate", "--config-path", file, "--log-level", "warning"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    # A field that is about to go is a failure of the next release.
    assert "deprecated" not in result.stderr.lower()


def test_scenario_49_only_replies_without_an_upstream_run_without_the_filters() -> None:
    for route in routes(bootstrap()):
        if disabled(route):
            assert route["name"] in UNFILTERED
            assert "route" not in route
            assert "direct_response" in route
            assert disabled(route) == {AUTHZ, PROC}


def test_scenario_49_every_served_route_names_itself_to_ext_authz_and_overrides_nothing_else() -> None:
    config = bootstrap()
    served = [route for route in routes(config) if "route" in route]
    assert [route["match"] for route in served] == [{"path": route.path} for route in settings().routes]
    for route in served:
        (override,) = route["typed_per_filter_config"].items()
        assert override[0] == AUTHZ
        assert override[1]["check_settings"] == {"context_extensions": {"route": route["name"]}}
        assert set(override[1]) == {"@type", "check_settings"}


def test_scenario_49_neither_filter_may_fail_open() -> None:
    config = bootstrap()
    for name in (AUTHZ, PROC):
        assert http_filter(config, name)["failure_mode_allow"] is False
        assert http_filter(config, name)["status_on_error"] == {"code": "ServiceUnavailable"}
    assert http_filter(config, PROC)["allow_mode_override"] is False
    assert "filter_enabled" not in http_filter(config, AUTHZ)


def test_the_filters_stand_in_their_order_and_nothing_else_does() -> None:
    names = [item["name"].rpartition(".")[2] for item in manager(bootstrap())["http_filters"]]
    assert names == ["plain_answers", "ext_authz", "ext_proc", "header_mutation", "router"]


def test_the_last_route_catches_everything_has_no_upstream_and_is_recorded() -> None:
    last = routes(bootstrap())[-1]
    assert last["match"] == {"prefix": "/"}
    assert last["direct_response"] == {"status": 404}
    assert last["typed_per_filter_config"][AUTHZ]["check_settings"] == {"context_extensions": {"route": ""}}
    assert not disabled(last)


def test_bodies_are_whole_in_both_filters_and_trailers_are_shown() -> None:
    config = bootstrap()
    assert http_filter(config, AUTHZ)["with_request_body"] == {
        "max_request_bytes": settings().envoy_body_bytes,
        "allow_partial_message": False,
        "pack_as_bytes": True,
    }
    assert http_filter(config, PROC)["processing_mode"] == {
        "request_header_mode": "SEND",
        "request_body_mode": "BUFFERED",
        "request_trailer_mode": "SEND",
        "response_header_mode": "SEND",
        "response_body_mode": "BUFFERED",
        "response_trailer_mode": "SEND",
    }


def test_a_retry_is_never_shorter_than_the_call_it_repeats() -> None:
    config = bootstrap(settings(limits={"check_timeout_s": 90.0}, upstream={"url": "http://a", "timeout_s": 120.0}))
    service = http_filter(config, AUTHZ)["grpc_service"]
    assert seconds(service["timeout"]) == 90.0
    stream = http_filter(config, PROC)["grpc_service"]["retry_policy"]
    policies = [service["retry_policy"], stream]
    policies += [route["route"]["retry_policy"] for route in routes(config) if "route" in route]
    limits = [90.0] + [120.0] * (len(policies) - 1)
    for policy, limit in zip(policies, limits, strict=True):
        assert policy["retry_on"] == "connect-failure"
        assert seconds(policy["retry_back_off"]["max_interval"]) >= limit


def test_the_deadline_is_longer_than_all_its_parts_together() -> None:
    configured = settings()
    limits, upstream = configured.limits, configured.upstream
    parts = limits.request_timeout_s + limits.check_timeout_s + 2 * limits.process_timeout_s + upstream.timeout_s
    assert configured.deadline_s > parts
    common = manager(bootstrap(configured))["common_http_protocol_options"]
    assert seconds(common["max_stream_duration"]) == configured.deadline_s


def test_what_ext_proc_need_not_know_is_withheld_the_credential_header_included() -> None:
    config = bootstrap(settings(credentials={"broker": "file", "file": "/x", "header": "api-key"}))
    patterns = http_filter(config, PROC)["forward_rules"]["disallowed_headers"]["patterns"]
    assert {pattern["exact"] for pattern in patterns} >= {
        "authorization", "cookie", "proxy-authorization", "set-cookie", "api-key",
    }  # fmt: skip
    for route in routes(config):
        if "route" in route:
            assert {pattern["exact"] for pattern in patterns} < set(route["response_headers_to_remove"])


def test_scenario_49_ext_proc_is_on_for_every_route_and_off_only_where_there_is_none() -> None:
    config = bootstrap()
    (host,) = manager(config)["route_config"]["virtual_hosts"]
    assert host["domains"] == ["*"]
    (item,) = (item for item in manager(config)["http_filters"] if item["name"] == PROC)
    assert item["disabled"] is True
    (override,) = host["typed_per_filter_config"].items()
    assert override[0] == PROC
    # Empty: an override of the processing mode would replace it whole, and a body would pass unread.
    assert {key: value for key, value in override[1].items() if key != "@type"} == {"overrides": {}}
    assert not any(item.get("disabled") for item in manager(config)["http_filters"] if item["name"] != PROC)


def test_the_handoff_is_all_that_ext_proc_is_given_of_the_metadata() -> None:
    options = http_filter(bootstrap(), PROC)["metadata_options"]
    assert options == {"forwarding_namespaces": {"untyped": [AUTHZ]}}


def test_an_https_upstream_is_verified_by_name_and_called_by_it(tmp_path: Path) -> None:
    config = bootstrap(settings(upstream={"url": "https://rerank.example:8443", "trusted_ca": "/ca.pem"}))
    tls = cluster(config, "reranker")["transport_socket"]["typed_config"]
    assert tls["sni"] == "rerank.example"
    assert tls["common_tls_context"]["validation_context"] == {
        "trusted_ca": {"filename": "/ca.pem"},
        "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "rerank.example"}}],
    }
    served = [route["route"] for route in routes(config) if "route" in route]
    assert {route["host_rewrite_literal"] for route in served} == {"rerank.example:8443"}


def test_watched_certificates_are_named_and_not_copied_and_the_name_is_still_verified(tmp_path: Path) -> None:
    own = identity(tmp_path, "127.0.0.1")
    configured = settings(
        listen={"certificate_file": own.certificate, "key_file": own.key},
        upstream={"url": "https://rerank.example", "trusted_ca": own.certificate},
    )
    written = {path.name: json.loads(text)["resources"] for path, text in secret_files(configured, tmp_path).items()}
    assert set(written) == {"listener.secret.json", "reranker.secret.json"}
    (listener,), (reranker,) = written["listener.secret.json"], written["reranker.secret.json"]
    assert listener["tls_certificate"] == {
        "certificate_chain": {"filename": str(own.certificate)}, "private_key": {"filename": str(own.key)},
    }  # fmt: skip
    assert reranker["validation_context"] == {"trusted_ca": {"filename": str(own.certificate)}}
    config = bootstrap(configured, secrets=tmp_path)
    context = cluster(config, "reranker")["transport_socket"]["typed_config"]["common_tls_context"]
    assert context["combined_validation_context"]["default_validation_context"] == {
        "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "rerank.example"}}],
    }
    assert "node" not in bootstrap(configured)
    assert secret_files(settings(), tmp_path) == {}


def test_every_process_of_a_filter_has_its_endpoint() -> None:
    config = bootstrap(authz_slots=3, proc_slots=2)
    for name, count in (("ext_authz", 3), ("ext_proc", 2)):
        (locality,) = cluster(config, f"rankgate_{name}")["load_assignment"]["endpoints"]
        paths = [item["endpoint"]["address"]["pipe"]["path"] for item in locality["lb_endpoints"]]
        assert paths == [f"/run/rankgate/{name}-{slot}.sock" for slot in range(count)]


def test_envoy_asks_each_of_several_processes_whether_it_takes_calls_and_one_alone_is_not_asked() -> None:
    config = bootstrap(authz_slots=2)
    (check,) = cluster(config, "rankgate_ext_authz")["health_checks"]
    # Without a service's name: what the parts of a process do is told to callers by its denials.
    assert check["grpc_health_check"] == {}
    assert seconds(check["interval"]) == seconds(check["no_traffic_interval"]) == HEALTH_CHECK.interval_s
    assert check["unhealthy_threshold"] == HEALTH_CHECK.failures
    # What Envoy's main thread heard, its workers know before it asks again; handover.py depends on it.
    assert cluster(config, "rankgate_ext_authz")["common_lb_config"]["update_merge_window"] == "0s"
    assert "health_checks" not in cluster(config, "rankgate_ext_proc")


def test_scenario_49_calls_go_to_processes_that_pass_no_check_only_where_none_does() -> None:
    config = bootstrap(authz_slots=SLOTS, proc_slots=SLOTS)
    for name in ("rankgate_ext_authz", "rankgate_ext_proc"):
        threshold = cluster(config, name)["common_lb_config"]["healthy_panic_threshold"]["value"]
        assert 0 < threshold < 100 / SLOTS


def test_callers_that_wait_for_people_never_take_every_place() -> None:
    asking = {"redis_url": "unix:///run/store.sock", "vote_keys": ["votes.pub"]}
    bootstrap(settings(approvals=asking), authz_slots=3)
    with pytest.raises(SettingsError, match=r"4 ext_authz processes .* waiting calls keep others out"):
        bootstrap(settings(approvals=asking), authz_slots=4)
    bootstrap(settings(approvals=asking, limits={"requests": 2048, "connections": 2048}), authz_slots=4)
    for limit in ("requests", "connections"):
        with pytest.raises(SettingsError, match=r"approvals\.waiters must be fewer"):
            settings(approvals=asking, limits={limit: 256})


def test_the_filters_take_more_calls_than_the_reranker() -> None:
    config = bootstrap(settings(limits={"requests": 7}))

    def most(name: str) -> int:
        (thresholds,) = cluster(config, name)["circuit_breakers"]["thresholds"]
        return thresholds["max_requests"]

    assert most("reranker") == 7
    assert most("rankgate_ext_authz") > 7
    assert most("rankgate_ext_proc") > 7


def test_no_text_of_the_callers_can_enter_the_access_log() -> None:
    (log,) = manager(bootstrap())["access_log"]
    fields = log["typed_config"]["log_format"]["json_format"]
    commands = " ".join(fields.values())
    assert not re.findall(r"%(?:REQ|PATH|QUERY_PARAM\w*|REQUESTED_SERVER_NAME|GRPC_STATUS|RESP|TRAILER)\b", commands)
    assert re.findall(r"%DYNAMIC_METADATA\((.*?)\)%", commands) == [f"{AUTHZ}:rankgate:decision_id"]
    # Of the request, an expression reads the id that Envoy made and compares the method with known words.
    assert set(re.findall(r"request\.\w+", commands)) == {"request.id", "request.method"}
    assert fields["request_id"] == "%CEL(xds.route_name != '' ? request.id : '')%"
    assert fields["method"] == f"%CEL(request.method in {list(METHODS)} ? request.method : 'other')%"


def test_a_local_reply_tells_its_status_whatever_mapper_writes_it() -> None:
    mappers = manager(bootstrap())["local_reply_config"]["mappers"]
    assert len(mappers) == len(LOCAL_REPLIES) + 2
    for mapper in mappers:
        (told,) = mapper["headers_to_add"]
        assert told["header"] == {"key": STATUS_HEADER, "value": "%RESPONSE_CODE%"}


def test_a_denial_of_ours_is_never_cut() -> None:
    assert http_filter(bootstrap(), AUTHZ)["max_denied_response_body_bytes"] == 0


def test_the_headers_that_may_arrive_hold_the_longest_token_and_little_more() -> None:
    most = manager(bootstrap())["max_request_headers_kb"]
    assert TOKEN_BYTES < most * 1024 < 2 * TOKEN_BYTES


@pytest.mark.parametrize("value", ['/log "quoted"', "/log\nname: x", "/log'}}", "/log<&>", "/log: #x", "/ロ"])
def test_a_setting_is_a_value_whatever_it_holds(value: str) -> None:
    (log,) = manager(bootstrap(settings(envoy={"access_log": value})))["access_log"]
    assert log["typed_config"]["path"] == value


def test_a_template_that_names_what_is_not_there_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError):
        render(settings(), "{{ limits.nothing }}", admin_socket=Path("/a.sock"))


def test_a_socket_path_that_no_socket_can_have_is_refused() -> None:
    directory = Path("/" + "d" * (SOCKET_PATH_BYTES - len("/ext_authz-0.sock") - 1))
    assert bootstrap(settings(sockets={"directory": directory}))
    with pytest.raises(SettingsError, match=r"sockets\.directory"):
        bootstrap(settings(sockets={"directory": directory / "x"}))
    with pytest.raises(SettingsError):
        render(settings(), envoy_template(), admin_socket=Path("/" + "a" * SOCKET_PATH_BYTES))


@pytest.mark.parametrize("slots", [{"authz_slots": 0}, {"proc_slots": 0}])
def test_a_filter_without_a_process_is_refused(slots: dict[str, int]) -> None:
    with pytest.raises(SettingsError):
        bootstrap(**slots)


@pytest.mark.parametrize("value", ["Bearer a.b.c", "bearer abc==", "BEARER ~-._+/"])
def test_a_bearer_credential_is_read(value: str) -> None:
    assert re.fullmatch(BEARER, value)


@pytest.mark.parametrize(
    "value", ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer  a", "Bearer a,b", "Bearer a b", "Bearer\ta", "xBearer a"]
)
def test_what_is_no_bearer_credential_is_refused_unread(value: str) -> None:
    assert not re.fullmatch(BEARER, value)


APPROVALS = {"redis_url": "redis://127.0.0.1:6379", "vote_keys": ["vote.pub"], "hold_s": 100, "waiters": 256}


def test_envoy_waits_for_people_and_cuts_no_held_check_in_two() -> None:
    plain, held = settings(), settings(approvals=APPROVALS)
    # What a decision may take before and after waiting, and its record: check.py gives it no more than that.
    assert held.check_s == 100 + held.limits.decision_s + held.limits.check_timeout_s
    assert held.deadline_s - plain.deadline_s == held.check_s - plain.check_s
    for one in (plain, held):
        made = manager(bootstrap(one))
        (authz,) = (each["typed_config"] for each in made["http_filters"] if each["name"] == AUTHZ)
        service = authz["grpc_service"]
        times = (service["timeout"], service["retry_policy"]["retry_back_off"]["max_interval"])
        assert {float(each.removesuffix("s")) for each in times} == {one.check_s}
        assert float(made["stream_idle_timeout"].removesuffix("s")) == one.deadline_s > one.check_s


def test_callers_that_wait_in_every_process_leave_room_for_others() -> None:
    few = settings(approvals=APPROVALS, limits={"requests": 1025, "connections": 2000})
    assert bootstrap(few, authz_slots=4)
    with pytest.raises(SettingsError, match=r"5 ext_authz processes with approvals\.waiters 256"):
        bootstrap(few, authz_slots=5)
    assert bootstrap(settings(limits={"requests": 1}), authz_slots=5)
