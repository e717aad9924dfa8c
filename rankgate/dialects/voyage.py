"""Voyage's rerank API: `POST /v1/rerank`, told from others on that path by its `top_k`."""

from __future__ import annotations

from rankgate.dialects.answering import AnswerShape
from rankgate.dialects.dialect import Dialect
from rankgate.dialects.forms import STRING
from rankgate.dialects.reading import RequestShape

__all__ = ["VOYAGE"]

VOYAGE = Dialect(
    name="voyage",
    revision=1,
    requests=(RequestShape(documents="documents", document_forms=(STRING,), top_n="top_k"),),
    answers=(
        AnswerShape(
            results="data",
            score="relevance_score",
            echo=("document",),
            # Its client fails on an answer without usage.
            answer_also='"object":"list","usage":{"total_tokens":0}',
        ),
    ),
    envelope=lambda _status, message, _decision_id: {"detail": message},
    invalid_status=422,
)
