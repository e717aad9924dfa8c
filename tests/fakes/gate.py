"""A Gate of small working parts: one good token, a policy of one ruling, a broker and a trail in memory."""

from __future__ import annotations

import asyncio
import json

from fakes.handing import CREDENTIAL, DETECTOR, EVERYTHING, KEYS, MASKERS

from ext_authz.gate import Gate
from rankgate.clients.offload import Offload, deadline
from rankgate.credentials import Lease, Secret, fingerprint
from rankgate.errors import GateError, Reason
from rankgate.identity import Principal
from rankgate.masking import Plan
from rankgate.request import HttpRequest
from rankgate.settings import load

__all__ = ["BODY", "MAIL", "PRINCIPAL", "Broker", "Policy", "Processor", "Trail", "call", "gate"]

MAIL = "maren.oldfield@example.org"
PRINCIPAL = Principal(
    issuer="https://issuer.example",
    subject="search-svc",
    tenant="acme",
    groups=("search",),
    scopes=(),
    claims={},
    kind="service",
    bound=False,
    expires=2_000_000_000,
    token_id=None,
)


class Tokens:
    """Knows one good token."""

    async def verify(self, token, audiences, now):
        if token != "good":
            raise GateError(Reason.TOKEN_INVALID, "signature")
        return PRINCIPAL


class Policy:
    """Answers every question with `result`, or by calling it."""

    revision = "policy-1"
    ready = True

    def __init__(self, result=True):
        self.result = result
        self.questions = []

    async def decide(self, question):
        self.questions.append(json.loads(question))
        result = self.result(question) if callable(self.result) else self.result
        if isinstance(result, Exception):
            raise result
        if asyncio.iscoroutine(result):
            return await result
        return result


class Processor:
    def __init__(self, ready=True):
        self.answer = ready

    async def ready(self):
        return self.answer


class Broker:
    def __init__(self, fault=None):
        self.fault = fault
        self.grants = []

    async def lease(self, grant):
        self.grants.append(grant)
        if self.fault:
            raise self.fault
        return Lease("authorization", Secret(f"Bearer {CREDENTIAL}"), fingerprint(KEYS.lease(), CREDENTIAL))


class Trail:
    """Keeps what is appended."""

    ready = True

    def __init__(self, fault=None):
        self.fault = fault
        self.events = []

    async def append(self, event):
        if self.fault:
            raise self.fault
        self.events.append(event)


def gate(policy=True, *, route=None, processor=True, broker=None, trail=None, limits=None, approvals=None, **sections):
    settings = load(
        None,
        upstream={"url": "http://127.0.0.1:9"},
        issuers=[{"issuer": "https://issuer.example", "audiences": ["rerank"]}],
        routes=[{"name": "rerank", "path": "/v2/rerank", "dialect": "cohere.v2", **(route or {})}],
        masking={
            "key_file": "unused",
            "profiles": {
                "default": {"types": ["EMAIL_ADDRESS"]},
                "strict": {"types": ["US_SSN"], "operator": "redact"},
            },
        },
        audit={"directory": "unused"},
        sockets={"directory": "unused"},
        limits=limits or {},
        policy={"timeout_s": 0.05},
        **sections,
    )
    return Gate(
        settings=settings,
        keys=KEYS,
        maskers=MASKERS,
        plans={name: Plan.of(profile) for name, profile in settings.masking.profiles.items()} | {"none": Plan.none()},
        all_types=EVERYTHING,
        detector=DETECTOR,
        identities=Tokens(),
        policy=policy if isinstance(policy, Policy) else Policy(policy),
        processor=Processor(processor),
        approvals=approvals,
        credentials=broker or Broker(),
        audit=trail or Trail(),
        work=Offload(),
        clock=lambda: 1_800_000_000.0,
        deadline=deadline,
    )


BODY = json.dumps({"model": "m", "query": f"for {MAIL}", "documents": ["a", f"b {MAIL}", "c"]}).encode()


def call(body=BODY, *, headers=(), route="rerank", **changes):
    fields = {
        "id": "1",
        "method": "POST",
        "path": "/v2/rerank",
        "query": "",
        "host": "gate",
        "scheme": "http",
        "protocol": "HTTP/1.1",
        "body": body,
        "route": route,
        "source_address": "127.0.0.1:1",
        "headers": (
            (":method", b"POST"),
            ("authorization", b"Bearer good"),
            ("content-type", b"application/json"),
            *headers,
        ),
    }
    return HttpRequest(**{**fields, **changes})
