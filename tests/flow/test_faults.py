"""Parts die, hang and come back. Nothing passes unmasked or unrecorded, nothing recorded is lost or doubled."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import time

import pytest
from fakes.journal import bodies, log_folders
from flow.gate import Answer, Gate
from flow.upstream import Script

from rankgate import envoyconfig, resources

MAIL = "maren.oldfield@example.org"
SETTINGS = {"limits": {"process_timeout_s": 1.0, "check_timeout_s": 2.0}, "upstream": {"timeout_s": 5.0}}

pytestmark = pytest.mark.flow


def call(mark="q"):
    return {"model": "m", "query": f"{mark} {MAIL}", "documents": [f"one {MAIL}", "two"]}


async def until(condition, within_s=10.0):
    """Wait until `condition()` holds."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come about"
        await asyncio.sleep(0.01)


async def accepted(gate, body=None, within_s=15.0) -> Answer:
    """Call until the gate answers 200 again; whatever it says before must be a refusal of its own."""
    deadline = time.monotonic() + within_s
    while (answer := await gate.post("/v2/rerank", body or call())).status != 200:
        assert answer.status in {500, 503, 504}, answer
        assert time.monotonic() < deadline, answer
        await asyncio.sleep(0.05)
    return answer


async def revive(gate, role):
    await gate.stack.start_filter(role, 0)
    socket = envoyconfig.filter_socket(gate.stack.settings.sockets.directory, role, 0)
    await until(socket.exists)


def logged(gate, kind):
    """Return the entries of `kind` in the files, by decision id."""
    entries = [one for folder in log_folders(gate.directory / "audit") for one in bodies(folder)]
    ours = [one["unmapped"]["rankgate"] for one in entries]
    return [one for one in ours if one["kind"] == kind]


# -- ext_proc ---------------------------------------------------------------------------------------------------------


async def test_scenario_45_ext_proc_killed_mid_stream_leaks_nothing_and_the_allow_stays_unconfirmed():
    async with Gate(SETTINGS) as gate:
        gate.upstream.script = Script(delay_s=1.0, body=json.dumps({"results": [], "note": MAIL}).encode())
        waiting = asyncio.create_task(gate.post("/v2/rerank", call("first")))
        await until(lambda: gate.upstream.requests)
        gate.stack.child("ext_proc-0").kill(signal.SIGKILL)
        answer = await waiting
        assert answer.status in {500, 503}
        assert MAIL not in repr(answer)
        assert b"maren" not in gate.upstream.bytes_seen
        gate.upstream.script = Script()
        await revive(gate, "ext_proc")
        await accepted(gate)
        (first,) = [one for one in logged(gate, "decision") if "first" in json.dumps(one)]
        assert first["allowed"]
        assert first["decision_id"] not in {one["decision_id"] for one in logged(gate, "completion")}


async def test_without_ext_proc_nothing_is_lent_or_forwarded_and_the_record_says_why():
    async with Gate(SETTINGS) as gate:
        gate.stack.child("ext_proc-0").kill(signal.SIGKILL)
        await gate.stack.child("ext_proc-0").wait()
        answer = await gate.post("/v2/rerank", call())
        # Envoy shows its denials to ext_proc too, so without it the answer is Envoy's own.
        assert (answer.status, set(answer.json)) == (503, {"message", "detail", "error"})
        assert gate.upstream.connections == []
        (decision,) = logged(gate, "decision")
        assert (decision["reason"], decision.get("lease", "")) == ("processor_unavailable", "")


async def test_scenario_46_an_ext_proc_that_hangs_is_given_up_on_with_nothing_forwarded():
    async with Gate(SETTINGS) as gate:
        await accepted(gate)
        gate.upstream.requests.clear()
        before = len(gate.upstream.bytes_seen)
        gate.stack.child("ext_proc-0").kill(signal.SIGSTOP)
        answers = [await gate.post("/v2/rerank", call()) for _ in range(3)]
        gate.stack.child("ext_proc-0").kill(signal.SIGCONT)
        assert {answer.status for answer in answers} <= {500, 503, 504}
        assert len(gate.upstream.bytes_seen) == before
        await accepted(gate)


# -- ext_authz --------------------------------------------------------------------------------------------------------


async def test_without_ext_authz_nothing_is_forwarded_until_it_is_back():
    async with Gate(SETTINGS) as gate:
        gate.stack.child("ext_authz-0").kill(signal.SIGKILL)
        await gate.stack.child("ext_authz-0").wait()
        answer = await gate.post("/v2/rerank", call())
        assert (answer.status, set(answer.json)) == (503, {"message", "detail", "error"})
        assert gate.upstream.connections == []
        await revive(gate, "ext_authz")
        await accepted(gate)


async def test_scenario_57_every_request_at_the_reranker_has_exactly_one_earlier_durable_allow():
    """The reranker itself looks into the files, at the moment a request reaches it, while parts are being killed."""
    async with Gate(SETTINGS) as gate:
        earlier: dict[str, int] = {}

        def answer(request):
            query = request.json["query"]
            allows = [one for one in logged(gate, "decision") if one["allowed"] and query in json.dumps(one)]
            earlier[query] = len(allows)
            return json.dumps({"results": [{"index": 0, "relevance_score": 0.5}]}).encode()

        gate.upstream.script = Script(body=answer)

        quiet = asyncio.Event()

        async def traffic(worker):
            for number in itertools.count():
                answer = await gate.post("/v2/rerank", call(f"w{worker}n{number}x"))
                assert answer.status in {200, 500, 503, 504}
                if quiet.is_set() and answer.status == 200:
                    break

        async def killing():
            for role in ("ext_authz", "ext_proc", "ext_authz"):
                await asyncio.sleep(0.3)
                gate.stack.child(f"{role}-0").kill(signal.SIGKILL)
                await gate.stack.child(f"{role}-0").wait()
                await revive(gate, role)
            quiet.set()

        await asyncio.gather(killing(), *(traffic(worker) for worker in range(4)))
        queries = [request.json["query"] for request in gate.upstream.requests]
        assert len(queries) >= 8
        assert len(set(queries)) == len(queries)
        assert earlier == dict.fromkeys(queries, 1)
        ids = [one["decision_id"] for one in logged(gate, "decision")]
        assert len(set(ids)) == len(ids)
        for folder in log_folders(gate.directory / "audit"):
            indices = [one["unmapped"]["rankgate"]["index"] for one in bodies(folder)]
            assert indices == list(range(len(indices)))
        assert b"maren" not in gate.upstream.bytes_seen


async def test_a_caller_that_leaves_does_not_undo_its_record():
    async with Gate(SETTINGS) as gate:
        gate.upstream.script = Script(delay_s=1.0)
        waiting = asyncio.create_task(gate.post("/v2/rerank", call()))
        await until(lambda: gate.upstream.requests)
        waiting.cancel()
        await until(lambda: logged(gate, "completion"))
        (completion,) = logged(gate, "completion")
        (decision,) = logged(gate, "decision")
        assert completion["decision_id"] == decision["decision_id"]
        assert completion["outcome"] == "aborted"


async def test_an_orderly_stop_finishes_the_call_in_flight():
    async with Gate(SETTINGS) as gate:
        gate.upstream.script = Script(delay_s=1.0)
        waiting = asyncio.create_task(gate.post("/v2/rerank", call()))
        await until(lambda: gate.upstream.requests)
        gate.stack.child("ext_proc-0").kill(signal.SIGTERM)
        assert (await waiting).status == 200
        assert await gate.stack.child("ext_proc-0").wait() == 0
        assert [one["outcome"] for one in logged(gate, "completion")] == ["complete"]
        assert [one["what"] for one in logged(gate, "lifecycle") if one["component"] == "ext_proc"][-1] == "stop"


# -- the trail --------------------------------------------------------------------------------------------------------


async def test_scenario_51_with_redis_down_requests_go_on_and_everything_arrives_later_once():
    async with Gate(SETTINGS) as gate:
        await accepted(gate)
        valkey = gate.stack.child("valkey")
        valkey.kill(signal.SIGKILL)
        await valkey.wait()
        for number in range(20):
            assert (await gate.post("/v2/rerank", call(f"n{number}"))).status == 200
        await gate.stack.start_valkey()
        events = await gate.events(within_s=30)
        shipped = {}
        for event in events:
            own = event["body"]["unmapped"]["rankgate"]
            shipped.setdefault(own["log"], []).append(own["index"])
        in_files = {}
        for folder in log_folders(gate.directory / "audit"):
            for one in bodies(folder):
                own = one["unmapped"]["rankgate"]
                in_files.setdefault(own["log"], []).append(own["index"])
        assert sum("decision" in event["type"] for event in events) == 21
        for log, indices in shipped.items():
            assert indices == list(range(len(indices)))
            assert in_files[log][: len(indices)] == indices


async def test_scenario_56_a_full_log_refuses_and_recovers_once_it_is_shipped():
    async with Gate({**SETTINGS, "audit": {"cap_bytes": 1_048_576}}) as gate:
        await accepted(gate)
        valkey = gate.stack.child("valkey")
        valkey.kill(signal.SIGKILL)
        await valkey.wait()
        document = "lorem ipsum dolor sit amet " * 1500
        statuses = []
        for number in range(60):
            answer = await gate.post("/v2/rerank", {"model": "m", "query": f"n{number}", "documents": [document]})
            statuses.append(answer.status)
            if answer.status != 200:
                break
        assert statuses[-1] == 503
        assert "cannot record" in answer.json["message"]
        assert len(gate.upstream.requests) == statuses.count(200) + 1
        await gate.stack.start_valkey()
        await accepted(gate, within_s=30)


# -- the handoff ------------------------------------------------------------------------------------------------------


async def test_scenario_35_and_49_a_route_that_skips_ext_authz_forwards_nothing(monkeypatch):
    """A broken configuration: ext_proc alone has to catch it."""
    template = resources.envoy_template()
    broken = template.replace(
        "check_settings: { context_extensions: { route: {{ route | tojson }} } }", "disabled: true"
    )
    assert broken != template
    monkeypatch.setattr(resources, "envoy_template", lambda: broken)
    async with Gate(SETTINGS) as gate:
        answer = await gate.post("/v2/rerank", call())
        assert answer.status in {500, 503}
        assert gate.upstream.connections == []


# -- the policy -------------------------------------------------------------------------------------------------------


async def test_scenario_66_a_policy_that_does_not_load_leaves_the_old_one_in_force_and_raises_an_alarm():
    async with Gate(SETTINGS) as gate:
        await accepted(gate)
        policy = gate.directory / "policy/policy.rego"
        good = policy.read_text()
        policy.write_text(good + "decision := {")
        await until(lambda: [one for one in logged(gate, "lifecycle") if one.get("word") == "policy_reload_failed"])
        await accepted(gate)
        policy.write_text('package rankgate\n\nimport rego.v1\n\ndecision := {"allowed": false}\n')
        await until(lambda: [one for one in logged(gate, "lifecycle") if one["what"] == "policy_reload"])
        assert (await gate.post("/v2/rerank", call())).status == 403
        entries = [one for folder in log_folders(gate.directory / "audit") for one in bodies(folder)]
        revisions = [one["policy"]["version"] for one in entries if "policy" in one]
        assert revisions[0] == revisions[1] != revisions[2]
