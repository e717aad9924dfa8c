"""A console as its API shows it to the command line: approvals, votes, events; no signatures, no store."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

from fakes.http_server import Exchange

__all__ = ["TOKEN", "ConsoleApi", "approval"]

TOKEN = "ada-token"
OPEN = ("pending", "approved")


def approval(number: int = 1, **members: Any) -> dict[str, Any]:
    """Return an approval as the API gives it."""
    usual: dict[str, Any] = {
        "id": f"apr-{number:026d}",
        "state": "pending",
        "opened": "2026-11-25T10:00:00.000Z",
        "expires": "2026-11-25T10:15:00.000Z",
        "changed": "2026-11-25T10:00:00.000Z",
        "caller": {"issuer": "https://issuer.example", "subject": "search", "tenant": "acme"},
        "route": "rerank",
        "path": "/v2/rerank",
        "upstream": "cohere",
        "dialect": "cohere.v2",
        "model": "rerank-v3.5",
        "document_count": 3,
        "total_chars": 420,
        "findings": {"EMAIL_ADDRESS": 2, "IBAN_CODE": 1},
        "risk": "high",
        "reasons": ["bank data in the query"],
        "policy_revision": "sha256:1",
        "plan": {
            "mask_request": "default", "mask_response": "default", "dropped": [1], "kept": 2, "credential": "cohere",
            "relaxed": False,
        },
        "requirement": {"groups": ["approvers"], "quorum": 1, "ttl_s": 900},
        "votes": [],
        "needed": 1,
        "objection": None,
        "record": f"record-{number}",
        "preview": {"query": "who owns <IBAN_CODE>?", "instruction": None, "documents": [[0, "a <EMAIL_ADDRESS>"]],
                    "cut": False},
        "decision_id": f"dec-{number}",
        "used_by": "",
        "note": "",
    }  # fmt: skip
    return usual | members


class ConsoleApi:
    """Serves `/api/v1`. `requests` are method, path, authorization and body, as they came."""

    def __init__(self, *approvals: dict[str, Any]) -> None:
        self.url = ""
        self.approvals = {item["id"]: item for item in approvals}
        self.reviews: list[dict[str, Any]] = []
        self.openid: dict[str, Any] = {}
        self.tokens = {TOKEN: "ada"}
        self.requests: list[tuple[str, str, str, Any]] = []
        self.looked_at = threading.Event()
        self._events: list[tuple[str, str]] = []
        self._changed = threading.Condition()
        self.drop_streams = False

    @property
    def posted(self) -> list[tuple[str, Any]]:
        """Return path and body of what was posted."""
        return [(path, body) for method, path, _, body in self.requests if method == "POST"]

    def happen(self, identity: str, state: str) -> None:
        """Let an approval go to `state`, and tell those who listen."""
        with self._changed:
            self.approvals[identity] |= {"state": state, "needed": 0}
            self._events.append((state, identity))
            self._changed.notify_all()

    def tell(self, kind: str, identity: str) -> None:
        """Tell an event that changes nothing here."""
        with self._changed:
            self._events.append((kind, identity))
            self._changed.notify_all()

    def answer(self, exchange: Exchange) -> None:  # noqa: RET503
        path = exchange.path.removeprefix("/api/v1")
        body = json.loads(exchange.body) if exchange.body else None
        self.requests.append((exchange.method, path, exchange.headers.get("authorization", ""), body))
        if path == "/openid":
            return exchange.json(self.openid)
        person = self.tokens.get(exchange.headers.get("authorization", "").removeprefix("Bearer "))
        if person is None:
            return self._refuse(exchange, 401, "login_required", "Log in first.")
        match path.strip("/").split("/"):
            case ["me"]:
                exchange.json({"name": person, "groups": ["approvers"]})
            case ["approvals"]:
                self._list(exchange)
            case ["approvals", identity, *what] if identity in self.approvals:
                self._one(exchange, person, self.approvals[identity], "".join(what), body)
            case ["revocations"]:
                exchange.json({"people": [body["person"]], "approvals": 1})
            case ["reviews"]:
                closed = "state=closed" in exchange.query
                exchange.json({"reviews": [one for one in self.reviews if bool(one.get("closed_by")) is closed]})
            case ["reviews", _, "close"]:
                exchange.send(b"", 204)
            case ["events"]:
                exchange.stream(self._stream())
            case _:
                self._refuse(exchange, 404, "not_found", "There is no such thing here, or it is not yours to see.")

    def _list(self, exchange: Exchange) -> None:
        query = {name: values[0] for name, values in parse_qs(exchange.query).items()}
        states = {"open": OPEN, "all": None}.get(query["state"], (query["state"],))
        found = [
            {**item, "preview": None}
            for identity, item in sorted(self.approvals.items(), reverse=True)
            if (states is None or item["state"] in states) and (not query.get("before") or identity < query["before"])
        ]
        exchange.json({"approvals": found[: int(query["limit"])]})

    def _one(self, exchange: Exchange, person: str, item: dict[str, Any], what: str, body: Any) -> None:
        if not what:
            exchange.json(item)
            return self.looked_at.set()
        if item["state"] not in OPEN:
            return self._refuse(exchange, 409, "closed", "This is closed; nothing can be changed any more.")
        if what != "cancel" and body["record"] != item["record"]:
            return self._refuse(exchange, 409, "record_changed", "This is not what you were shown.")
        item["state"] = {"approve": "approved", "deny": "denied", "cancel": "cancelled", "withdraw": "pending"}[what]
        item["needed"] = 1 if what == "withdraw" else 0
        if what in {"approve", "deny"}:
            item["votes"] = [{"person": person, "choice": what, "reason": body["reason"], "time": item["changed"]}]
        return exchange.json(item)

    def _stream(self) -> Iterator[bytes]:
        with self._changed:
            place = len(self._events)
        yield b": here\n\n"
        while not self.drop_streams:
            with self._changed:
                self._changed.wait_for(lambda place=place: len(self._events) > place, timeout=0.2)
                fresh, place = self._events[place:], len(self._events)
            yield b": still here\n\n"
            for number, (kind, identity) in enumerate(fresh):
                data = json.dumps({"approval": identity, "time": "2026-11-25T10:00:00.000Z"})
                yield f"id: {place}-{number}\nevent: {kind}\ndata: {data}\n\n".encode()

    @staticmethod
    def _refuse(exchange: Exchange, status: int, code: str, title: str) -> None:
        exchange.json(
            {"type": "about:blank", "title": title, "status": status, "code": code}, status, "application/problem+json"
        )
