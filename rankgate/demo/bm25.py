"""Okapi BM25 over the documents of one request: a reranker small enough to read."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

__all__ = ["scores"]

WORD = re.compile(r"\w+")
K1 = 1.2  # how soon repeating a word stops helping
B = 0.75  # how much a long document is held against it


def scores(query: str, documents: Sequence[str]) -> list[float]:
    """Return the relevance of each document to `query`, from 0 (shares no word) to below 1.

    Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009, section 3.4; s is mapped to s / (1 + s).
    """
    bags = [Counter(_words(document)) for document in documents]
    lengths = [bag.total() for bag in bags]
    average = sum(lengths) / len(lengths) if any(lengths) else 1.0
    weights = {word: _rarity(word, bags) for word in set(_words(query))}
    found = []
    for bag, length in zip(bags, lengths, strict=True):
        norm = K1 * (1 - B + B * length / average)
        score = sum(weight * bag[word] * (K1 + 1) / (bag[word] + norm) for word, weight in weights.items())
        found.append(round(score / (1 + score), 6))
    return found


def _words(text: str) -> list[str]:
    return WORD.findall(text.casefold())


def _rarity(word: str, bags: Sequence[Counter[str]]) -> float:
    holding = sum(word in bag for bag in bags)
    return math.log(1 + (len(bags) - holding + 0.5) / (holding + 0.5))
