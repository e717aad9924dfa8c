"""TextEmbeddingInference of llama-index, changed only in its base URL; it expects a result for every document."""

from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference
from outcome import report


def rank(url, token, query, documents):
    client = TextEmbeddingInference(base_url=url, auth_token=f"Bearer {token}", top_n=len(documents))
    nodes = [NodeWithScore(node=TextNode(id_=str(place), text=text)) for place, text in enumerate(documents)]
    return [(int(node.node_id), node.score) for node in client.postprocess_nodes(nodes, query_str=query)]


report(rank)
