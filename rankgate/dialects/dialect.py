"""One rerank API, put together from its request shape, its answer shapes and its error envelope."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rankgate.dialects import answering, denying
from rankgate.dialects.answering import AnswerShape, DropMode, Result
from rankgate.dialects.listing import Listing, read_listing
from rankgate.dialects.reading import RequestShape
from rankgate.errors import Reason
from rankgate.jsontext import Edit, JsonText
from rankgate.request import RerankRequest

__all__ = ["Dialect"]

_INVALID = frozenset({Reason.BODY_INVALID, Reason.DIALECT_UNKNOWN})


@dataclass(frozen=True, slots=True)
class Dialect:
    """A rerank API as data.

    `revision` grows whenever the same body would be read differently, so that the two filters notice when they
    differ. A body is read by the first of `requests` that fits. The first of `answers` is the form this gate itself
    answers in. `invalid_status` is what the API answers to a body it does not understand.
    """

    name: str
    revision: int
    requests: tuple[RequestShape, ...]
    answers: tuple[AnswerShape, ...]
    envelope: denying.Envelope
    invalid_status: int = 400

    def read(self, json: JsonText) -> RerankRequest:
        """Return the rerank call in a request body. Raises GateError(BODY_INVALID) naming the wrong field."""
        return self._shape(json).read(json, self.name, self.revision)

    def drop(self, json: JsonText, request: RerankRequest, keep: Sequence[int]) -> list[Edit]:
        """Return the edits of the request body that leave the documents at the positions `keep`, at least one."""
        return self._shape(json).drop(json, request, keep)

    def results(self, json: JsonText) -> tuple[Result, ...]:
        """Return the results in an answer. Raises GateError(UPSTREAM_INVALID) for anything but a list of results."""
        return answering.results(self.answers, json)

    def listing(self, body: bytes) -> Listing | None:
        """Return an answer whose results are a position and a score each, read in one pass; None for every other."""
        return read_listing(self.answers, body)

    def restore(
        self, json: JsonText, results: Sequence[Result], kept: Sequence[int],
        document_count: int, mode: DropMode, top_n: int | None,
    ) -> list[Edit]:  # fmt: skip
        """Return the edits of an answer that make its indices the caller's own.

        `kept` and `document_count`: which documents were sent on, of how many. `top_n` as the caller gave it.
        Raises GateError(UPSTREAM_INVALID) for an index of no document that was sent on.
        """
        return answering.restore(self.answers, json, results, kept, document_count, mode, top_n)

    def drop_mode(self, configured: Literal["auto", "omit", "floor"], top_n: int | None, sent_count: int) -> DropMode:
        """Return how dropped documents show in the answer to a caller who sent `sent_count` documents."""
        return answering.drop_mode(self.answers[0], configured, top_n, sent_count)

    def empty_answer(self, request: RerankRequest, mode: DropMode) -> bytes:
        """Return the body of a 200 to a request none of whose documents may be ranked."""
        return answering.empty_answer(self.answers[0], request, mode)

    def status(self, reason: Reason) -> int:
        """Return the status of a refusal for `reason` in this API."""
        return self.invalid_status if reason in _INVALID else reason.status

    def denial(self, status: int, message: str, decision_id: str) -> tuple[denying.Headers, bytes]:
        """Return headers and body of a refusal, for any status; `message` must hold no request data."""
        return denying.deny(self.envelope, status, message, decision_id)

    def _shape(self, json: JsonText) -> RequestShape:
        return next((shape for shape in self.requests if shape.fits(json.value)), self.requests[0])
