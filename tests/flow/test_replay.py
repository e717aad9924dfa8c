"""History asked again: the same policy rules the same on every exact question, another one differs where it must."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flow.gate import Gate

from rankgate.cli import root

pytest.importorskip("regorus", reason="regorus is not installed: rankgate[embedded]")

MAIL = "maren.oldfield@example.org"
# Every kind of answer, by what the call looks like; also by the time, which comes with the question.
POLICY = """package rankgate

decision := {"allowed": false, "http_status": 404, "rankgate": {"reasons": ["no such model"]}} if {
	input.rerank.model == "unknown"
}

decision := {"allowed": true, "rankgate": object.union(terms, timed)} if {
	input.rerank.model == "known"
	input.rerank.query != "undefined"
}

decision := {"allowed": true, "rankgate": {"risk": "enormous"}} if input.rerank.model == "invalid"

decision := {"allowed": 1 / (input.rerank.document_count - 2) == 1} if input.rerank.model == "error"

timed := {"reasons": [sprintf("asked at %s", [input.time.rfc3339])]}

terms := {"risk": "low"} if input.rerank.document_count == 1

terms := {"risk": "high", "mask": {"request": "strict"}, "limits": {"documents": 9}} if {
	input.rerank.document_count == 2
}

terms := {"documents": {"drop": [0, 2]}, "mask": {"response": "strict"}} if input.rerank.document_count == 3

terms := {"approval": {"groups": ["dpo"], "quorum": 2}} if input.rerank.document_count == 4
"""
CHANGED = POLICY.replace('{"risk": "low"}', '{"risk": "medium"}').replace('"drop": [0, 2]', '"drop": [0]')
SETTINGS: dict[str, Any] = {
    "routes": [{"name": "cohere-v2", "path": "/v2/rerank", "dialect": "cohere.v2", "capture_question": True}],
    "masking": {
        "profiles": {"default": {"types": ["EMAIL_ADDRESS"]}, "strict": {"types": ["US_SSN"], "operator": "redact"}}
    },
}
MODELS = ("known", "unknown", "invalid", "error", None)
QUERIES = ("river bank", "für Größe ☃ \u2028 end", "undefined", f"for {MAIL}", "null and void")


def calls() -> list[dict[str, Any]]:
    """Return bodies that differ in everything the policy looks at."""
    found = []
    for model, query, count, top_n in itertools.product(MODELS, QUERIES, (1, 2, 3, 4), (None, 1)):
        body = {"model": model, "query": query, "documents": [f"document {n} of {MAIL}" for n in range(count)]}
        found.append({name: value for name, value in {**body, "top_n": top_n}.items() if value is not None})
    return found


def replay(folder: Path, policy: str, *options: str) -> tuple[int, dict[str, Any]]:
    name = folder / "again" / "policy.rego"
    name.parent.mkdir(exist_ok=True)
    name.write_text(policy)
    told = CliRunner().invoke(root, ["policy", "replay", "--policy", str(name.parent), "-o", "json", *options])
    assert "Traceback" not in told.output
    return told.exit_code, json.loads(told.stdout)


async def test_the_same_policy_reproduces_every_decision_and_another_differs_where_it_must(tmp_path: Path) -> None:
    bodies = calls()
    async with Gate(SETTINGS, policy=POLICY) as gate:
        room = asyncio.Semaphore(16)

        async def send(body: dict[str, Any]) -> None:
            async with room:
                await gate.post("/v2/rerank", body)

        await asyncio.gather(*(send(body) for body in bodies))
        await gate.post("/v2/rerank", bodies[0], token="nobody")
        events = [event["body"] for event in await gate.decisions()]
        redis = ("--redis", f"unix://{gate.directory}/valkey.sock")

        code, told = await asyncio.to_thread(replay, tmp_path, POLICY, *redis, "--fail-on-change")
        masked = sum(MAIL in body["query"] for body in bodies)
        exact = len(bodies) - masked
        assert (code, told["decisions"], told["unreadable"]) == (0, len(bodies) + 1, 0)
        assert (told["replayed"], told["same"], told["changed"]) == (exact, exact, 0)
        assert told["not_replayable"]["total"] == masked + 1
        assert told["not_replayable"]["inexact"] == masked
        assert told["because"] == {"before_policy": {"token_invalid": 1}, "inexact": {"query": masked}}
        # What was compared is not one kind of decision many times over.
        assert {event["unmapped"]["rankgate"]["reason"] for event in events} >= {
            "allowed", "policy_denied", "policy_undefined", "policy_invalid", "policy_error", "approval_unavailable",
        }  # fmt: skip

        export = tmp_path / "export.ndjson"
        export.write_text("".join(json.dumps(event) + "\n" for event in events))
        code, told = await asyncio.to_thread(replay, tmp_path, CHANGED, "--from", str(export), "--fail-on-change")
        known = [body for body in bodies if body.get("model") == "known" and body["query"] != "undefined"]
        known = [body for body in known if MAIL not in body["query"]]
        counts = {kind: one["count"] for kind, one in told["changes"].items() if one["count"]}
        assert code == 3
        assert counts == {
            "risk": sum(len(body["documents"]) == 1 for body in known),
            "fewer_dropped": sum(len(body["documents"]) == 3 for body in known),
        }
        assert told["changed"] == sum(counts.values())
        example = told["changes"]["risk"]["examples"][0]
        assert (example["before"]["risk"], example["after"]["risk"]) == ("low", "medium")
        assert example["decision_id"] in {event["unmapped"]["rankgate"]["decision_id"] for event in events}
