"""What of a ruling Envoy does in the end: what the parser admits is never refused after an allow was recorded."""

from __future__ import annotations

import json
from typing import Any

from flow.gate import Gate

CALL = {"query": "river bank", "documents": ["a bank by the river", "a bank for money"]}
# Every character that a query parameter of a ruling may have.
ADMITTED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._*-"


def ruling(**members: Any) -> str:
    """Return a policy that always rules so."""
    return f"package rankgate\n\nimport rego.v1\n\ndecision := {json.dumps(members)}\n"


async def test_every_query_parameter_that_a_ruling_may_set_arrives_as_it_is() -> None:
    policy = ruling(allowed=True, query_parameters_to_set={ADMITTED: ADMITTED, "empty": ""})
    async with Gate(policy=policy) as gate:
        assert (await gate.post("/v2/rerank", CALL)).status == 200
        assert gate.upstream.requests[0].target == f"/v2/rerank?{ADMITTED}={ADMITTED}&empty="


async def test_a_query_parameter_that_envoy_would_refuse_is_denied_before_an_allow_is_recorded() -> None:
    async with Gate(policy=ruling(allowed=True, query_parameters_to_set={"a": "x%20y"})) as gate:
        assert (await gate.post("/v2/rerank", CALL)).status == 503
        (event,) = await gate.decisions()
        assert event["body"]["unmapped"]["rankgate"]["reason"] == "policy_invalid"
        assert not await gate.completions()
        assert not gate.upstream.connections


async def test_of_several_values_of_one_name_the_last_goes_upstream_and_into_an_answer() -> None:
    several = ["1", "2"]
    policy = ruling(
        allowed=True,
        headers={"x-a": several},
        response_headers_to_add={"x-b": several},
        query_parameters_to_set={"c": several},
    )
    async with Gate(policy=policy) as gate:
        answer = await gate.post("/v2/rerank", CALL)
        (arrived,) = gate.upstream.requests
        assert arrived.values("x-a") == ["2"]
        assert arrived.target == "/v2/rerank?c=2"
        assert answer.headers["x-b"] == "2"


async def test_of_several_values_of_one_name_a_denial_has_all() -> None:
    async with Gate(policy=ruling(allowed=False, headers={"x-a": ["1", "2"]})) as gate:
        answer = await gate.post("/v2/rerank", CALL)
        assert (answer.status, answer.headers["x-a"]) == (403, "1,2")


async def test_an_empty_answer_for_thousands_of_documents_is_whole() -> None:
    count = 5_000
    policy = ruling(allowed=True, rankgate={"documents": {"drop": list(range(count)), "on_empty": "empty"}})
    async with Gate({"limits": {"documents": count}}, policy=policy) as gate:
        answer = await gate.post("/v2/rerank", {"query": "q", "documents": ["a"] * count})
        assert answer.status == 200
        assert len(answer.body) > 65_536
        assert [result["index"] for result in answer.json["results"]] == list(range(count))
        assert not gate.upstream.connections
