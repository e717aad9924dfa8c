"""Cohere's rerank API: `POST /v1/rerank` and `POST /v2/rerank`.

v2 has no echo by contract, but early v2 clients send `return_documents` and read `results[].document`.
"""

from __future__ import annotations

from rankgate.dialects.answering import AnswerShape
from rankgate.dialects.dialect import Dialect
from rankgate.dialects.reading import RequestShape

__all__ = ["V1", "V2"]

_REQUEST = RequestShape(documents="documents")
_ANSWER = AnswerShape(results="results", score="relevance_score", echo=("document",))

V1 = Dialect(
    name="cohere.v1",
    revision=2,
    requests=(_REQUEST,),
    answers=(_ANSWER,),
    envelope=lambda _status, message, _decision_id: {"message": message},
)

V2 = Dialect(
    name="cohere.v2",
    revision=2,
    requests=(_REQUEST,),
    answers=(_ANSWER,),
    envelope=lambda _status, message, decision_id: {"id": decision_id, "message": message},
)
