"""vLLM: rerank on `/rerank`, `/v1/rerank` and `/v2/rerank`, scores of pairs on `/score` and `/v1/score`.

Queries and documents may be content parts; of those only text can be inspected. Rerank answers always echo the
documents; scores come in the order of the documents.
"""

from __future__ import annotations

from rankgate.dialects.answering import AnswerShape
from rankgate.dialects.denying import phrase
from rankgate.dialects.dialect import Dialect
from rankgate.dialects.forms import PARTS, STRING
from rankgate.dialects.reading import RequestShape

__all__ = ["RERANK", "SCORE"]

_FORMS = (STRING, PARTS)
# What the score API calls its two sides; a body has one of these pairs.
_SIDES = (("queries", "documents"), ("queries", "items"), ("text_1", "text_2"), ("data_1", "data_2"))
_USAGE = '"usage":{"prompt_tokens":0,"total_tokens":0}'


def _envelope(status: int, message: str, _decision_id: str) -> dict[str, object]:
    return {"error": {"message": message, "type": phrase(status), "param": None, "code": status}}


RERANK = Dialect(
    name="vllm.rerank",
    revision=1,
    requests=(
        RequestShape(
            documents="documents",
            document_forms=_FORMS,
            single=True,
            query_forms=_FORMS,
            least_top_n=0,
            return_documents=None,
            echoes=True,
        ),
    ),
    answers=(
        AnswerShape(
            results="results",
            score="relevance_score",
            echo=("document",),
            # Never a null: clients print it as a text.
            result_also='"document":{"text":"","multi_modal":null}',
            answer_also=_USAGE,
        ),
    ),
    envelope=_envelope,
)

SCORE = Dialect(
    name="vllm.score",
    revision=1,
    requests=tuple(
        RequestShape(
            documents=documents,
            document_forms=_FORMS,
            single=True,
            query=query,
            query_forms=_FORMS,
            paired=True,
            operation="score",
            top_n=None,
            return_documents=None,
        )
        for query, documents in _SIDES
    ),
    answers=(
        AnswerShape(
            results="data",
            score="score",
            in_order=True,
            result_also='"object":"score"',
            answer_also=f'"object":"list",{_USAGE}',
        ),
    ),
    envelope=_envelope,
)
