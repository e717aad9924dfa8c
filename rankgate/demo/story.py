"""The story of a gate, step by step: every step is a real call, and says what had to come out of it.

A step that comes out otherwise is told as such; the demo then fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from rankgate.demo.caller import Answer, Caller, on_one_line
from rankgate.demo.people import APPROVER, OWNER
from rankgate.demo.stage import DOCUMENT_LIMIT, Stage
from rankgate.demo.telling import Step
from rankgate.demo.trail import Trail

__all__ = ["RECEIPT", "STEPS", "Scene"]

RECEIPT = "x-rankgate-decision-id"
SEARCH = ("search-svc", "acme", ("search",))
BATCH = ("batch-svc", "acme", ("batch",))
FRAUD = ("fraud-svc", "acme", ("fraud",))

# Nobody's data: reserved domains, a documentation phone number, the example IBAN of the standard.
MAIL = "jonas.feld@example.com"
IBAN = "GB82 WEST 1234 5698 7654 32"
CARD = "4111 1111 1111 1111"
PERSONAL = (MAIL, IBAN, CARD)
QUERY = f"Was the order of {MAIL} refunded?"
DOCUMENTS = [
    "The store on Mill Lane is open from 9 to 18 on weekdays.",
    f"Order 4411 of {MAIL}: refunded 84.20 EUR to {IBAN} on Monday.",
    "A refunded order takes three working days to reach the account.",
]
RESTRICTED = "hr-salaries-2026"


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a step is played."""

    stage: Stage
    caller: Caller
    trail: Trail

    def token(self, who: tuple[str, str, tuple[str, ...]], **other: str) -> str:
        """Return a token of the machine `who`: subject, tenant, groups."""
        subject, tenant, groups = who
        return self.stage.token(subject, tenant=tenant, groups=groups, **other)


class Telling:
    """Collects the lines of a step, and everything that was not as told."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.lines: list[tuple[str, str]] = []
        self.faults: list[str] = []

    def tell(self, label: str, text: str = "") -> None:
        """Add a line."""
        self.lines.append((label, text))

    def expect(self, what: str, holds: bool) -> None:
        """Note a fault unless `holds`."""
        if not holds:
            self.faults.append(what)

    def answer(self, answer: Answer, status: int) -> None:
        """Tell the answer, a refusal by its message alone; it must have `status` and be JSON."""
        body = answer.json if isinstance(answer.json, dict) else {}
        message = next((body[name] for name in ("message", "error") if isinstance(body.get(name), str)), None)
        self.tell("answer", f"{answer.status} {message or on_one_line(answer.body)}")
        self.expect(f"the answer should be {status}, it is {answer.status}", answer.status == status)
        self.expect("the answer should be JSON", answer.json is not None)

    def untouched(self, scene: Scene, before: int) -> None:
        """Tell that the engine received nothing since it had received `before` requests."""
        came = scene.stage.reranker.count - before
        self.tell("engine", "received nothing" if not came else f"received {came} requests")
        self.expect("the engine should have received nothing", not came)

    async def recorded(self, scene: Scene, answer: Answer, *, allowed: bool, reason: str) -> dict[str, Any]:
        """Tell the receipt and the decision recorded under it, read from the trail; return the record."""
        receipt = answer.headers.get(RECEIPT, "")
        self.expect(f"the answer should carry its receipt in {RECEIPT}", bool(receipt))
        event = await scene.trail.decision(receipt) if receipt else None
        self.expect("the decision should be in the trail", event is not None)
        event = event or {}
        self.tell("receipt", receipt or "none")
        self.tell("trail", _verdict(event) or "not recorded")
        self.expect(f"the trail should say {reason}", event.get("reason") == reason)
        self.expect(f"the trail should say allowed: {allowed}", event.get("allowed") is allowed)
        return event

    def done(self) -> Step:
        """Return the step as it came out."""
        return Step(self.title, tuple(self.lines), tuple(self.faults))


def personal(data: bytes) -> list[str]:
    """Return the personal data of the story that stands in `data` unmasked."""
    text = data.decode("utf-8", "replace")
    return [value for value in PERSONAL if value in text or value.replace(" ", "") in text]


async def no_token(scene: Scene) -> Step:
    """A call without a token is refused by Envoy itself."""
    told, before = Telling("No token"), scene.stage.reranker.count
    body = {"model": "demo", "query": QUERY, "documents": DOCUMENTS}
    told.tell("sent", f"POST /v2/rerank without authorization: {on_one_line(body)}")
    told.answer(await scene.caller.post("/v2/rerank", body), 401)
    told.untouched(scene, before)
    return told.done()


async def wrong_audience(scene: Scene) -> Step:
    """A token meant for another service is refused, and the refusal is recorded."""
    told, before = Telling("A token for another service"), scene.stage.reranker.count
    body = {"model": "demo", "query": QUERY, "documents": DOCUMENTS}
    told.tell("sent", "POST /v2/rerank with a valid token of this issuer whose audience is billing")
    answer = await scene.caller.post("/v2/rerank", body, scene.token(SEARCH, audience="billing"))
    told.answer(answer, 401)
    told.untouched(scene, before)
    await told.recorded(scene, answer, allowed=False, reason="token_invalid")
    return told.done()


async def masked(scene: Scene) -> Step:
    """An allowed call: personal data is masked on the way in and out, and the ranking still works."""
    told, before = Telling("Allowed and masked"), scene.stage.reranker.count
    token = scene.token(SEARCH)
    documents = [{"text": text} for text in DOCUMENTS]
    body = {"model": "demo", "query": QUERY, "documents": documents, "return_documents": True}
    answer = await scene.caller.post("/v1/rerank", body, token)
    told.tell("the caller sent (POST /v1/rerank, search-svc of acme)")
    _tell_texts(told, QUERY, DOCUMENTS)
    told.expect("the engine should have received one request", scene.stage.reranker.count == before + 1)
    if scene.stage.reranker.count > before:
        _tell_received(told, scene, token)
    told.tell("the caller got")
    results = answer.json.get("results", []) if isinstance(answer.json, dict) else []
    for result in results:
        echoed = (result.get("document") or {}).get("text", "")
        told.tell(f"  {result.get('relevance_score', 0):.3f}", f"document {result.get('index')}: {echoed}")
    told.expect(f"the answer should be 200, it is {answer.status}", answer.status == 200)
    told.expect("the answer should hold no personal data", not personal(answer.body))
    told.expect(
        "the document with the same address should be ranked first", bool(results) and results[0].get("index") == 1
    )
    event = await told.recorded(scene, answer, allowed=True, reason="allowed")
    told.expect("the trail should count what was found", bool(event.get("findings")))
    return told.done()


def _tell_texts(told: Telling, query: str, documents: list[str]) -> None:
    told.tell("  query", query)
    for position, text in enumerate(documents):
        told.tell(f"  doc {position}", text)


def _tell_received(told: Telling, scene: Scene, token: str) -> None:
    received = scene.stage.reranker.received[-1]
    texts = [document["text"] for document in received.json["documents"]]
    told.tell("the engine received")
    _tell_texts(told, received.json["query"], texts)
    told.expect("the engine should have received no personal data", not personal(received.body))
    pseudonyms = [word.strip(":?.,") for word in received.json["query"].split() if word not in QUERY.split()]
    told.expect(
        "query and document should hold the same pseudonym",
        bool(pseudonyms) and all(any(pseudonym in text for text in texts) for pseudonym in pseudonyms),
    )
    key = received.headers.get("authorization")
    told.tell("  key", "the gate's own upstream key, never the caller's token")
    told.expect("the engine should have received the gate's key", key == f"Bearer {scene.stage.upstream_key}")
    told.expect("the caller's token should not reach the engine", token not in str(received.headers))


async def denied(scene: Scene) -> Step:
    """A policy denial comes in the error shape of the caller's own API, with a receipt."""
    told, before = Telling("Denied by policy"), scene.stage.reranker.count
    told.tell("sent", f"POST /rerank (TEI) by batch-svc: {on_one_line({'query': QUERY, 'texts': DOCUMENTS})}")
    answer = await scene.caller.post("/rerank", {"query": QUERY, "texts": DOCUMENTS}, scene.token(BATCH))
    told.answer(answer, 403)
    told.tell("shape", f"TEI's: {', '.join(answer.json) if isinstance(answer.json, dict) else 'none'}")
    told.expect(
        "the denial should be in TEI's shape",
        isinstance(answer.json, dict) and set(answer.json) == {"error", "error_type"},
    )
    told.expect("the denial should hold no personal data", not personal(answer.body))
    told.untouched(scene, before)
    event = await told.recorded(scene, answer, allowed=False, reason="policy_denied")
    told.tell("reasons", ", ".join(event.get("policy_reasons", [])) or "none")
    told.expect("the trail should hold the policy's reason", bool(event.get("policy_reasons")))
    return told.done()


async def too_many(scene: Scene) -> Step:
    """More documents than the gate accepts: 413 before the engine sees anything."""
    told, before = Telling("Too many documents"), scene.stage.reranker.count
    documents = [f"Note {number}" for number in range(DOCUMENT_LIMIT + 1)]
    told.tell("sent", f"POST /v2/rerank with {len(documents)} documents, {DOCUMENT_LIMIT} are accepted here")
    body = {"model": "demo", "query": "note", "documents": documents}
    answer = await scene.caller.post("/v2/rerank", body, scene.token(SEARCH))
    told.answer(answer, 413)
    told.untouched(scene, before)
    await told.recorded(scene, answer, allowed=False, reason="too_many_documents")
    return told.done()


async def dropped(scene: Scene) -> Step:
    """A document the caller may not see is not ranked; the caller's indices stay right."""
    told, before = Telling("A document the caller may not see"), scene.stage.reranker.count
    documents = [
        {"id": "kb-1", "text": "Parental leave: how to apply for it."},
        {"id": RESTRICTED, "text": "Salaries of everyone, parental leave included."},
        {"id": "kb-2", "text": "Parental leave is paid for fourteen weeks."},
    ]
    told.tell("sent", "documents " + ", ".join(f"{i}: {document['id']}" for i, document in enumerate(documents)))
    body = {"model": "demo", "query": "Is parental leave paid?", "documents": documents, "top_n": 2}
    answer = await scene.caller.post("/v1/rerank", body, scene.token(SEARCH))
    arrived = scene.stage.reranker.count == before + 1
    told.expect("the engine should have received one request", arrived)
    received = scene.stage.reranker.received[-1].json["documents"] if arrived else []
    told.tell("engine", "documents " + ", ".join(f"{i}: {document['id']}" for i, document in enumerate(received)))
    told.expect("the restricted document should not reach the engine", RESTRICTED not in str(received))
    told.expect("the other documents should reach the engine", len(received) == len(documents) - 1)
    told.answer(answer, 200)
    results = answer.json.get("results", []) if isinstance(answer.json, dict) else []
    indices = [result.get("index") for result in results]
    told.tell("indices", f"{indices}: the engine's 0 and 1 are the caller's 0 and 2")
    told.expect("the indices should be the caller's: 2 first, then 0", indices == [2, 0])
    event = await told.recorded(scene, answer, allowed=True, reason="allowed")
    told.expect("the trail should name the dropped position", event.get("plan", {}).get("dropped") == [1])
    return told.done()


async def approved(scene: Scene) -> Step:
    """A risky query waits for a person, passes once, and with one byte changed it waits again."""
    told, before = Telling("A risky query waits for a person"), scene.stage.reranker.count
    people, token = scene.stage.people, scene.token(FRAUD)
    query = f"Who paid with {CARD}?"
    body = {"model": "demo", "query": query, "documents": DOCUMENTS}
    told.tell("sent", f"POST /v2/rerank by fraud-svc: {query}")
    call = asyncio.create_task(scene.caller.post("/v2/rerank", body, token))
    shown = await people.waiting(APPROVER)
    if not shown:
        told.answer(await call, 429)
        told.expect("the query should wait for a person", False)
        return told.done()
    preview = shown.get("preview") or {}
    told.tell(
        "waits", f"{shown.get('id')}: high risk, so someone of {', '.join(shown['requirement']['groups'])} must agree"
    )
    told.tell(f"{APPROVER} sees", f"{shown['caller']['subject']} asks: {preview.get('query')}")
    told.expect("the engine should have received nothing yet", scene.stage.reranker.count == before)
    told.expect("the approver should see no personal data", not personal(str(shown).encode()))
    status, _ = await people.call("POST", f"/approvals/{shown['id']}/approve", token, {"record": shown["record"]})
    told.tell("fraud-svc", f"tries to approve it itself: {status}")
    told.expect("the machine's own token should not be let in", status in {401, 403})
    owner = await people.approve(OWNER, shown, "I need it")
    told.tell(OWNER, f"owns fraud-svc and tries to approve: {owner}")
    told.expect("the owner should be refused", owner == 403)
    agreed = await people.approve(APPROVER, shown, "Chargeback case 88, known to us")
    told.tell(APPROVER, f"approves at {people.url}: {agreed}")
    answer = await call
    told.answer(answer, 200)
    told.expect("the engine should have received one request", scene.stage.reranker.count == before + 1)
    event = await told.recorded(scene, answer, allowed=True, reason="allowed")
    votes = event.get("approval", {}).get("votes", [])
    told.tell("approved by", ", ".join(f"{vote['person']}: {vote['reason']}" for vote in votes) or "nobody")
    told.expect("the trail should name who approved", any(APPROVER in vote["person"] for vote in votes))
    changed = {**body, "query": query.replace("Who", "who")}
    # A client that says it will not wait is told at once.
    again = await scene.caller.post("/v2/rerank", changed, token, x_stainless_read_timeout="1")
    told.tell("replayed", "with one byte changed")
    told.answer(again, 429)
    waiting = await scene.trail.decision(again.headers.get(RECEIPT, ""))
    told.expect("the trail should say that it waits", (waiting or {}).get("reason") == "approval_pending")
    told.expect("the engine should have received nothing more", scene.stage.reranker.count == before + 1)
    return told.done()


async def trail(scene: Scene) -> Step:
    """The trail, as it came in while the calls were made."""
    told = Telling("The trail, tailed live while the calls were made")
    await scene.trail.completions(3)
    events = scene.trail.events
    for event in events:
        told.tell(event.get("kind", "?"), _in_words(event))
    decisions = [event for event in events if event.get("kind") == "decision"]
    told.expect("there should be seven decisions", len(decisions) == 7)
    told.expect(
        "every allowed call should have its completion",
        {event["decision_id"] for event in decisions if event["allowed"]}
        == {event.get("decision_id") for event in events if event.get("kind") == "completion"},
    )
    told.expect("every entry should agree with its body", not scene.trail.doubtful)
    told.expect("the trail should hold no personal data", not personal(str(events).encode()))
    return told.done()


def _in_words(event: dict[str, Any]) -> str:
    names = ("outcome", "what", "component")
    return " ".join(filter(None, [event.get("decision_id"), _verdict(event), *(event.get(name) for name in names)]))


def _verdict(event: dict[str, Any]) -> str:
    if "allowed" not in event:
        return ""
    return "allowed" if event["allowed"] else f"denied, {event.get('reason')}"


STEPS: tuple[Callable[[Scene], Awaitable[Step]], ...] = (
    no_token,
    wrong_audience,
    masked,
    denied,
    too_many,
    dropped,
    approved,
    trail,
)
