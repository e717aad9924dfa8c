"""Running a gate: what it tells of itself is true, several processes share the work, and what may change without a
restart does."""

from __future__ import annotations

import asyncio
import re
import signal
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from certificates import Identity, identity
from fakes.people import People
from flow.gate import ALLOW_ALL, Gate, trivial
from flow.operations import Scrape, expressions, free_port, page, probe, scrape, selectors
from flow.upstream import Script
from prometheus_client import CollectorRegistry, generate_latest

from rankgate.console.webhook import CursorFile, WebhookSender

ROOT = Path(__file__).parents[2]
MAIL = "maren.oldfield@example.org"
WATCHED = {"health": {"ext_authz_port": 0, "ext_proc_port": 0}}
BOTH = (("ext_authz", 0), ("ext_proc", 0))

pytestmark = pytest.mark.flow


def call(mark: str = "q") -> dict[str, Any]:
    return {"model": "m", "query": f"{mark} {MAIL}", "documents": [f"one {MAIL}", "two"], "return_documents": True}


async def until(condition: Callable[[], Awaitable[bool]], within_s: float = 10.0) -> None:
    """Wait until `await condition()` holds."""
    deadline = time.monotonic() + within_s
    while not await condition():
        assert time.monotonic() < deadline, "the condition did not come about"
        await asyncio.sleep(0.02)


# -- metrics ----------------------------------------------------------------------------------------------------------


async def test_each_call_is_counted_once_by_each_filter_and_nothing_of_it_becomes_a_label() -> None:
    async with Gate(WATCHED) as gate:
        token = gate.token()
        assert (await gate.post("/v2/rerank", call(), token=token)).status == 200
        assert (await gate.post("/v2/rerank", call("again"), token=token)).status == 200
        assert (await gate.post("/v2/rerank", b"{}", token=gate.token(exp=1))).status == 401
        assert (await gate.post("/secret-path", call())).status == 404
        await gate.events()
        seen = await scrape(gate, *BOTH)
        decisions = {(one["reason"], one["route"]) for one in _counted(seen, "rankgate_decisions_total")}
        assert decisions == {("allowed", "cohere-v2"), ("token_invalid", "cohere-v2"), ("path_unknown", "")}
        assert seen.sum("rankgate_decisions_total") == seen.sum("rankgate_check_seconds_count") == 4
        assert seen.sum("rankgate_completions_total", outcome="complete") == 2
        assert seen.sum("rankgate_process_seconds_count", body="request") == 2
        assert seen.sum("rankgate_upstream_seconds_count") == seen.sum("rankgate_policy_seconds_count") == 2
        assert seen.sum("rankgate_findings_total", type="EMAIL_ADDRESS") == 4
        assert seen.sum("rankgate_masked_total", direction="request", type="EMAIL_ADDRESS") == 4
        assert seen.sum("rankgate_identity_cache_hits_total") > 0
        assert seen.sum("rankgate_detection_cache_hits_total") > 0
        assert seen.sum("process_resident_memory_bytes") > 0
        named = ("maren", "acme", "search", "secret-path", "127.0.0.1:", gate.credential)
        issuer = gate.issuer.url
        assert [word for word in named if word in seen.text.replace(issuer, "")] == []


def _counted(seen: Scrape, name: str) -> list[Any]:
    return [one.labels for one in seen.samples if one.name == name and one.value]


async def test_every_metric_that_alerts_and_dashboard_name_is_there_with_its_labels(tmp_path: Path) -> None:
    port = free_port()
    gate = Gate()
    gate.overrides = {
        "health": {**WATCHED["health"], "envoy_port": port},
        "approvals": People(tmp_path).settings(f"unix://{gate.directory}/valkey.sock"),
    }
    async with gate:
        assert (await gate.post("/v2/rerank", call())).status == 200
        await gate.events()
        seen = await scrape(gate, *BOTH)
        seen = Scrape(seen.text, (await page(port, "/metrics"))[1], console_metrics(tmp_path))
    wrong = []
    named = 0
    for place, expression in expressions():
        for name, matchers in selectors(expression):
            named += 1
            if name not in seen.names:
                wrong.append(f"{place}: {name} does not exist")
                continue
            for label, operator, value in matchers:
                if value == "$instance":  # Prometheus itself adds it
                    continue
                there = {one.labels.get(label) for one in seen.samples if one.name == name}
                wanted = value.split("|") if operator == "=~" else [value]
                wrong += [f"{place}: {name} has no {label}={word}" for word in wanted if word not in there]
    assert wrong == []
    assert named > 60


def console_metrics(folder: Path) -> str:
    """Return what a console counts before anything happened."""
    registry = CollectorRegistry()
    WebhookSender(
        "http://127.0.0.1:1", folder / "secret", None, None, CursorFile(folder / "cursor"),  # type: ignore[arg-type]
        agreed=lambda *_: False, deployment="default", public_url="http://127.0.0.1:1", registry=registry,
    )  # fmt: skip
    return generate_latest(registry).decode()


def test_names_in_expressions_are_found() -> None:
    found = selectors('sum by (envoy_cluster_name) (rate(rankgate_a_total{x="1",y=~"b|c"}[5m])) / on (envoy_z) envoy_d')
    assert list(found) == [("rankgate_a_total", [("x", "=", "1"), ("y", "=~", "b|c")]), ("envoy_d", [])]


def test_every_alert_is_explained_and_every_explanation_has_an_alert() -> None:
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules.yaml").read_text(encoding="utf-8"))
    alerts = [rule["alert"] for group in rules["groups"] for rule in group["rules"]]
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    assert len(set(alerts)) == len(alerts)
    assert re.findall(r"^\| `(Rankgate\w+)` \|", page, re.MULTILINE) == alerts


async def test_envoys_metrics_are_one_page_of_its_admin_interface_and_no_other() -> None:
    port = free_port()
    async with Gate({"health": {"envoy_port": port}}) as gate:
        status, text = await page(port, "/metrics")
        assert (status, "envoy_server_live" in text) == (200, True)
        for path in ("/", "/stats", "/config_dump", "/quitquitquit", "/metrics/../config_dump", "/metrics/x"):
            assert (await page(port, path))[0] == 404
        assert (await gate.post("/metrics", b"")).status == 404


# -- probes -----------------------------------------------------------------------------------------------------------


async def test_without_ext_proc_ext_authz_is_alive_and_not_ready() -> None:
    async with Gate(WATCHED) as gate:
        assert await probe(gate, "ext_proc", "/readyz") == (
            200,
            {"ready": True, "draining": False, "parts": {"audit": True}},
        )
        assert (await probe(gate, "ext_authz", "/readyz"))[0] == 200
        gate.stack.child("ext_proc-0").kill(signal.SIGKILL)

        async def refused() -> bool:
            return (await probe(gate, "ext_authz", "/readyz"))[0] == 503

        await until(refused)
        _, told = await probe(gate, "ext_authz", "/readyz")
        assert told["parts"] == {"policy": True, "issuers": True, "audit": True, "ext_proc": False}
        assert (await probe(gate, "ext_authz", "/livez"))[0] == 200
        assert (await scrape(gate, ("ext_authz", 0))).sum("rankgate_ready", part="all") == 0


async def test_scenario_47_a_process_told_to_end_is_not_ready_and_finishes_its_call() -> None:
    async with Gate(WATCHED) as gate:
        gate.upstream.script = Script(delay_s=1.5)
        waiting = asyncio.create_task(gate.post("/v2/rerank", call()))

        async def forwarded() -> bool:
            return bool(gate.upstream.requests)

        await until(forwarded)
        gate.stack.child("ext_proc-0").kill(signal.SIGTERM)

        async def draining() -> bool:
            return bool((await probe(gate, "ext_proc", "/readyz"))[1]["draining"])

        await until(draining)
        assert (await probe(gate, "ext_proc", "/readyz"))[0] == 503
        assert (await probe(gate, "ext_proc", "/livez"))[0] == 200
        assert (await waiting).status == 200
        assert await gate.stack.child("ext_proc-0").wait() == 0
        assert (await gate.post("/v2/rerank", call())).status == 503
        assert MAIL.encode() not in gate.upstream.bytes_seen
        decisions, completions = await gate.decisions(), await gate.completions()
        assert (len(decisions), len(completions)) == (2, 1)


async def test_scenario_54_a_trail_that_is_not_shipped_shows_and_leaves_the_gate_ready() -> None:
    async with Gate(WATCHED) as gate:
        valkey = gate.stack.child("valkey")
        valkey.kill(signal.SIGKILL)
        await valkey.wait()
        assert (await gate.post("/v2/rerank", call())).status == 200

        async def waiting() -> bool:
            seen = await scrape(gate, ("ext_authz", 0))
            return seen.sum("rankgate_shipper_state", state="waiting") == 1

        await until(waiting)
        seen = await scrape(gate, ("ext_authz", 0))
        assert seen.sum("rankgate_audit_alarms_total", word="ship_failed") > 0
        assert seen.sum("rankgate_audit_lag_entries") > 0
        assert 0 < seen.sum("rankgate_audit_log_ratio") < 1
        assert (await probe(gate, "ext_authz", "/readyz"))[0] == 200


# -- several processes ------------------------------------------------------------------------------------------------


async def test_two_processes_of_each_filter_share_the_calls_and_record_each_once() -> None:
    slots = [(role, slot) for role in ("ext_authz", "ext_proc") for slot in (0, 1)]
    async with Gate(WATCHED, authz_slots=2, proc_slots=2) as gate:
        gate.upstream.script = Script(delay_s=0.05)
        answers = await asyncio.gather(*(gate.post("/v2/rerank", call(f"n{number}")) for number in range(24)))
        assert {answer.status for answer in answers} == {200}
        events = await gate.events()
        decided = {one["body"]["unmapped"]["rankgate"]["decision_id"] for one in await gate.decisions()}
        assert len(decided) == 24
        assert len([one for one in events if "completion" in one["type"]]) == 24
        each = [(await scrape(gate, one)).sum("rankgate_audit_append_seconds_count") for one in slots]
        assert sum(each[:2]) == 24 + 2  # and the start of each process
        assert sum(each[2:]) == 24 + 2
        assert min(each) > 1, each


async def test_processes_restarted_one_after_another_cost_no_call() -> None:
    async with Gate(authz_slots=2, proc_slots=2) as gate:
        statuses: Counter[int] = Counter()
        ended = asyncio.Event()

        async def calling() -> None:
            while not ended.is_set():
                statuses[(await gate.post("/v2/rerank", call())).status] += 1

        callers = [asyncio.create_task(calling()) for _ in range(4)]
        for role in ("ext_authz", "ext_proc"):

            async def both(role: str = role) -> bool:
                return await gate.counter(f"cluster.rankgate_{role}.membership_healthy") == 2

            for slot in range(2):
                await until(both)
                await gate.stack.restart(f"{role}-{slot}", grace_s=30)
            await until(both)
        ended.set()
        await asyncio.gather(*callers)
        assert statuses.keys() == {200}


# -- what changes without a restart -----------------------------------------------------------------------------------


class Mount:
    """A folder as Kubernetes mounts a ConfigMap or Secret: links into `..data`, itself a link that is replaced."""

    def __init__(self, folder: Path, **files: str) -> None:
        self._folder = folder
        self._version = 0
        folder.mkdir()
        self.put(**files)
        for name in files:
            (folder / name.replace("_", ".")).symlink_to(Path("..data", name.replace("_", ".")))

    def put(self, **files: str) -> None:
        """Replace every file at once."""
        self._version += 1
        data = self._folder / f"..2026_{self._version}"
        data.mkdir()
        for name, text in files.items():
            (data / name.replace("_", ".")).write_text(text)
        (self._folder / "..data_tmp").symlink_to(data.name)
        (self._folder / "..data_tmp").rename(self._folder / "..data")


async def test_a_policy_in_a_replaced_mount_is_in_force_without_a_restart(tmp_path: Path) -> None:
    mount = Mount(tmp_path / "policy", policy_rego=ALLOW_ALL)
    async with Gate({**WATCHED, "policy": {"directory": str(tmp_path / "policy")}}) as gate:
        assert (await gate.post("/v2/rerank", call())).status == 200
        mount.put(policy_rego=ALLOW_ALL.replace("true", "false"))

        async def denied() -> bool:
            return (await gate.post("/v2/rerank", call())).status == 403

        await until(denied)
        mount.put(policy_rego="package rankgate\n\ndecision := {")

        async def stale() -> bool:
            return (await scrape(gate, ("ext_authz", 0))).sum("rankgate_policy_stale") == 1

        await until(stale)
        assert (await gate.post("/v2/rerank", call())).status == 403
        mount.put(policy_rego=ALLOW_ALL)

        async def allowed() -> bool:
            return (await gate.post("/v2/rerank", call())).status == 200

        await until(allowed)
        seen = await scrape(gate, ("ext_authz", 0))
        assert seen.sum("rankgate_policy_stale") == 0
        assert seen.sum("rankgate_policy_reload_failures_total") == 1
        assert seen.sum("rankgate_policy_reloads_total") == 2


async def test_a_credential_in_a_replaced_mount_is_lent_without_a_restart(tmp_path: Path) -> None:
    mount = Mount(tmp_path / "upstream", key="upstream-aaaaaaaaaaaaaaaaaaaa")
    credentials = {"broker": "file", "file": str(tmp_path / "upstream" / "key")}
    async with Gate({"credentials": credentials}) as gate:
        await gate.post("/v2/rerank", call())
        mount.put(key="upstream-bbbbbbbbbbbbbbbbbbbb")
        await gate.post("/v2/rerank", call())
        lent = [request.values("authorization") for request in gate.upstream.requests]
        assert lent == [["Bearer upstream-aaaaaaaaaaaaaaaaaaaa"], ["Bearer upstream-bbbbbbbbbbbbbbbbbbbb"]]


def pem(one: Identity) -> dict[str, str]:
    return {"tls_crt": one.certificate.read_text(), "tls_key": one.key.read_text()}


async def refuse(gate: Gate, secret: str, mount: Mount, **files: str) -> None:
    """Replace the files of a mount by what Envoy cannot use, and wait until it has said so."""
    before = await gate.counter(f"sds.{secret}.key_rotation_failed")
    mount.put(**files)

    async def refused() -> bool:
        return await gate.counter(f"sds.{secret}.key_rotation_failed") > before

    await until(refused)


async def test_a_renewed_certificate_in_a_replaced_mount_is_served_without_a_restart(tmp_path: Path) -> None:
    first, second = identity(tmp_path / "first", "127.0.0.1"), identity(tmp_path / "second", "127.0.0.1")
    mount = Mount(tmp_path / "tls", **pem(first))
    files = {"certificate_file": str(tmp_path / "tls" / "tls.crt"), "key_file": str(tmp_path / "tls" / "tls.key")}
    async with Gate({"listen": files}, filters=trivial, listen_tls=first.client()) as gate:
        envoy = gate.stack.child("envoy").pid
        assert (await gate.post("/v2/rerank", call())).status == 200

        async def served(one: Identity) -> bool:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", gate.port, ssl=one.client())
            except ssl.SSLCertVerificationError:
                return False
            writer.transport.abort()
            return True

        for wrong in (pem(second) | {"tls_key": pem(first)["tls_key"]}, {"tls_crt": "none", "tls_key": "none"}):
            await refuse(gate, "listener", mount, **wrong)
            assert await served(first)
        mount.put(**pem(second))
        await until(lambda: served(second))
        assert not await served(first)
        assert (await gate.post("/v2/rerank", call())).status == 200  # over the connection that was open
        assert gate.stack.child("envoy").pid == envoy


async def test_a_reranker_is_trusted_by_the_bundle_in_a_replaced_mount_and_never_without_one(tmp_path: Path) -> None:
    trusted, other = identity(tmp_path / "trusted", "127.0.0.1"), identity(tmp_path / "other", "127.0.0.1")
    mount = Mount(tmp_path / "ca", ca_crt=other.certificate.read_text())
    bundle = {"trusted_ca": str(tmp_path / "ca" / "ca.crt")}
    async with Gate({"upstream": bundle}, filters=trivial, upstream_tls=trusted.server()) as gate:
        for wrong in ("", "none"):
            await refuse(gate, "reranker", mount, ca_crt=wrong)
            assert (await gate.post("/v2/rerank", call())).status == 503
        assert not gate.upstream.bytes_seen
        mount.put(ca_crt=trusted.certificate.read_text())

        async def allowed() -> bool:
            return (await gate.post("/v2/rerank", call())).status == 200

        await until(allowed)


async def test_a_gate_that_starts_with_an_empty_bundle_sends_nothing(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").touch()
    reranker = identity(tmp_path, "127.0.0.1").server()
    bundle = {"trusted_ca": str(tmp_path / "ca.crt")}
    async with Gate({"upstream": bundle}, filters=trivial, upstream_tls=reranker) as gate:
        assert (await gate.post("/v2/rerank", call())).status == 503
        assert not gate.upstream.bytes_seen


# -- traces -----------------------------------------------------------------------------------------------------------


async def test_a_call_leaves_a_span_of_each_filter_in_its_callers_trace() -> None:
    pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")
    from fakes.collector import Collector

    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    async with Collector() as collector:
        async with Gate({"traces": {"endpoint": collector.url}}) as gate:
            answer = await gate.post("/v2/rerank", call(), {"traceparent": f"00-{trace}-{parent}-01"})
            assert answer.status == 200
            await gate.events()
        # Stopping sent what was left.
        spans = {span.name: span for span in collector.spans}
        assert set(spans) == {"rankgate.check", "rankgate.process"}
        receipt = answer.headers["x-rankgate-decision-id"]
        for span in spans.values():
            assert (span.trace_id, span.parent_id, span.status) == (trace, parent, 0)
            assert span.attributes["rankgate.decision_id"] == receipt
            assert span.attributes["rankgate.route"] == "cohere-v2"
            assert 0 < span.end - span.start < 10_000_000_000
        assert spans["rankgate.check"].attributes["rankgate.reason"] == "allowed"
        assert spans["rankgate.process"].attributes["rankgate.outcome"] == "complete"
        assert [word for word in (b"maren", b"acme", gate.credential.encode()) if word in collector.raw] == []
