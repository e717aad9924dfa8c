"""litellm.rerank, changed only in its api_base; `model` begins with the provider whose API it speaks."""

import litellm
from outcome import report

litellm.telemetry = False


def rank(url, token, query, documents, model):
    answer = litellm.rerank(model=model, query=query, documents=documents, api_base=url, api_key=token)
    return [(result["index"], result["relevance_score"]) for result in answer.results]


report(rank)
