"""CohereRerank of llama-index, changed only in its base URL."""

from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.postprocessor.cohere_rerank import CohereRerank
from outcome import report


def rank(url, token, query, documents):
    client = CohereRerank(model="rerank-v3.5", api_key=token, base_url=url, top_n=len(documents), max_retries=1)
    nodes = [NodeWithScore(node=TextNode(id_=str(place), text=text)) for place, text in enumerate(documents)]
    return [(int(node.node_id), node.score) for node in client.postprocess_nodes(nodes, query_str=query)]


report(rank)
