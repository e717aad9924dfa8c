"""voyageai, changed only in its base URL."""

import voyageai
from outcome import report


def rank(url, token, query, documents):
    client = voyageai.Client(api_key=token, base_url=f"{url}/v1")
    answer = client.rerank(query, documents, model="rerank-2.5-lite")
    return [(result.index, result.relevance_score) for result in answer.results]


report(rank)
