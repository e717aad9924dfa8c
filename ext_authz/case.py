"""What is known of a call so far. A refusal at any step records and answers with what there is."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rankgate.approvals import Ask, Standing, State
from rankgate.credentials import Lease
from rankgate.detect import Finding
from rankgate.dialects import Dialect
from rankgate.identity import Principal
from rankgate.jsontext import JsonText
from rankgate.masking import Plan
from rankgate.policy import Ruling
from rankgate.request import HttpRequest, RerankRequest
from rankgate.settings import RouteSettings

__all__ = ["Case", "Consent", "Masks", "Reading"]


@dataclass(frozen=True, slots=True)
class Reading:
    """A body as its dialect reads it, and what detection found: in texts by ordinal, in keys and numbers by word."""

    json: JsonText
    dialect: Dialect
    request: RerankRequest
    findings: Mapping[int, Sequence[Finding]] = field(default_factory=dict)
    structure: Sequence[tuple[str, Finding]] = ()


@dataclass(frozen=True, slots=True)
class Masks:
    """What is masked in each direction and captured: the plans, and the profile names they came from."""

    request: Plan
    response: Plan
    request_name: str
    response_name: str
    capture: Literal["none", "masked"]
    relaxed: bool


@dataclass(frozen=True, slots=True)
class Consent:
    """What people were asked, and where that stands. `glass`: the caller goes ahead without them."""

    ask: Ask
    state: State
    standing: Standing | None = None
    glass: bool = False


@dataclass(slots=True)
class Case:
    """One call on its way through `check`. `left` is set when its caller waits for no answer any more.

    `asked` is the question as the policy got it, `question` the value it was written from, None where it is not kept;
    `ruled` is what the policy ruled, `ruling` what the gate made of it.
    """

    http: HttpRequest
    decision_id: str
    now: float
    route: RouteSettings | None = None
    principal: Principal | None = None
    reading: Reading | None = None
    body_digest: str = ""
    question_digest: str = ""
    asked: str = ""
    question: dict[str, Any] | None = None
    ruled: Ruling | None = None
    ruling: Ruling | None = None
    reasons: tuple[str, ...] = ()
    policy_revision: str = ""
    masks: Masks | None = None
    consent: Consent | None = None
    lease: Lease | None = None
    detail: str = ""
    left: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def tenant(self) -> str:
        """Return the verified tenant; empty where there is none."""
        return self.principal.tenant if self.principal else ""

    @property
    def kept(self) -> tuple[int, ...]:
        """Return the positions of the documents that are not dropped."""
        if self.reading is None:
            return ()
        every = range(self.reading.request.document_count)
        if self.ruling is None or not self.ruling.drop:
            return tuple(every)
        dropped = set(self.ruling.drop)
        return tuple(position for position in every if position not in dropped)

    @property
    def counts(self) -> dict[str, int]:
        """Return how many findings of each type the texts hold."""
        findings = self.reading.findings if self.reading else {}
        return dict(Counter(kind for found in findings.values() for one in found for kind in one.types))

    @property
    def total_chars(self) -> int:
        """Return the characters of every text of the call."""
        return sum(len(text.value) for text in self.reading.request.texts) if self.reading else 0
