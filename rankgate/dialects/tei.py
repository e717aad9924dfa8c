"""Hugging Face Text Embeddings Inference: `POST /rerank`, answered by a bare array with one result a text."""

from __future__ import annotations

from rankgate.dialects.answering import AnswerShape
from rankgate.dialects.dialect import Dialect
from rankgate.dialects.forms import STRING
from rankgate.dialects.reading import RequestShape

__all__ = ["TEI"]


def _envelope(status: int, message: str, _decision_id: str) -> dict[str, object]:
    # TEI's own words, of which clients know no others.
    words = {424: "Backend", 429: "Overloaded", 503: "Unhealthy"}
    return {"error": message, "error_type": words.get(status, "Backend" if status >= 500 else "Validation")}


TEI = Dialect(
    name="tei",
    revision=2,
    requests=(
        RequestShape(
            documents="texts", document_forms=(STRING,), model=None, top_n=None, return_documents="return_text"
        ),
    ),
    answers=(AnswerShape(results=None, score="score", echo=("text",)),),
    envelope=_envelope,
    invalid_status=422,
)
