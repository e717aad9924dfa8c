"""NVIDIARerank of langchain-nvidia-ai-endpoints, changed only in its base URL."""

from langchain_core.documents import Document
from langchain_nvidia_ai_endpoints import NVIDIARerank
from outcome import report


def rank(url, token, query, documents):
    client = NVIDIARerank(
        model="nvidia/llama-nemotron-rerank-1b-v2", base_url=f"{url}/v1", api_key=token, usage_telemetry_enabled=False
    )
    given = [Document(text, metadata={"position": position}) for position, text in enumerate(documents)]
    answer = client.compress_documents(given, query)
    return [(document.metadata["position"], document.metadata["relevance_score"]) for document in answer]


report(rank)
