"""Jina's rerank API: `POST /v1/rerank`.

Its bodies look like those of a dozen other engines, so only a route's setting makes a call Jina's.
"""

from __future__ import annotations

from rankgate.dialects.answering import AnswerShape
from rankgate.dialects.dialect import Dialect
from rankgate.dialects.forms import STRING, TEXT_OBJECT
from rankgate.dialects.reading import RequestShape

__all__ = ["JINA"]

JINA = Dialect(
    name="jina",
    revision=1,
    requests=(
        RequestShape(
            documents="documents",
            document_forms=(STRING, TEXT_OBJECT),
            query_forms=(STRING, TEXT_OBJECT),
            echoes=True,
        ),
    ),
    answers=(
        AnswerShape(
            results="results",
            score="relevance_score",
            echo=("document",),
            answer_also='"object":"list","usage":{"total_tokens":0}',
        ),
    ),
    # Jina's clients look for `detail` wherever `results` is missing.
    envelope=lambda _status, message, _decision_id: {"detail": message},
    invalid_status=422,
)
