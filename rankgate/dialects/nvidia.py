"""NVIDIA's ranking API: `POST /v1/ranking` of a NIM, and `/v1/retrieval/{model}/reranking` where it is hosted.

Scores are logits. Its LangChain client sends 32 passages a call, each call with indices of its own.
"""

from __future__ import annotations

from rankgate.dialects.answering import AnswerShape
from rankgate.dialects.denying import phrase
from rankgate.dialects.dialect import Dialect
from rankgate.dialects.forms import TEXT_OBJECT
from rankgate.dialects.reading import RequestShape

__all__ = ["RANKING"]


def _envelope(status: int, message: str, decision_id: str) -> dict[str, object]:
    # Which of these a client prints differs by version.
    return {
        "object": "error",
        "status": status,
        "title": phrase(status),
        "message": message,
        "detail": message,
        "requestId": decision_id,
    }


RANKING = Dialect(
    name="nvidia.ranking",
    revision=1,
    requests=(
        RequestShape(
            documents="passages",
            document_forms=(TEXT_OBJECT,),
            query_forms=(TEXT_OBJECT,),
            top_n="top_k",
            return_documents=None,
        ),
    ),
    answers=(AnswerShape(results="rankings", score="logit", logits=True),),
    envelope=_envelope,
    invalid_status=422,
)
