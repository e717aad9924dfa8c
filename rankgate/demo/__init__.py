"""What the demo adds to the gate: a development issuer, a BM25 reranker, and the story told with both."""
