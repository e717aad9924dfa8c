"""CohereRerank of langchain-cohere, changed only in its base URL."""

from langchain_cohere import CohereRerank
from outcome import report


def rank(url, token, query, documents):
    client = CohereRerank(model="rerank-v3.5", cohere_api_key=token, base_url=url, top_n=None)
    return [(result["index"], result["relevance_score"]) for result in client.rerank(documents, query)]


report(rank)
