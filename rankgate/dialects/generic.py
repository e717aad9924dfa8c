"""The common core of rerank APIs, for engines that have no file of their own yet.

Requests of Jina, Together, vLLM, Infinity, LocalAI, llama.cpp, Xinference and others share it; answers are told
apart by their form; a refusal carries the member that each of their clients looks for.
"""

from __future__ import annotations

from rankgate.dialects.answering import AnswerShape
from rankgate.dialects.denying import error_type
from rankgate.dialects.dialect import Dialect
from rankgate.dialects.reading import RequestShape

__all__ = ["GENERIC"]


def _envelope(status: int, message: str, _decision_id: str) -> dict[str, object]:
    error = {"message": message, "type": error_type(status), "code": status}
    return {"message": message, "detail": message, "error": error}


GENERIC = Dialect(
    name="generic",
    revision=2,
    requests=(RequestShape(documents="documents", least_top_n=0),),
    answers=(
        AnswerShape(results="results", score="relevance_score", echo=("document",)),
        AnswerShape(results="data", score="relevance_score", echo=("document",)),
        AnswerShape(results="data", score="score", echo=("document", "input")),
        AnswerShape(results=None, score="score", echo=("text", "document")),
    ),
    envelope=_envelope,
)
