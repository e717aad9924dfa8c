"""The calls that are sent: synthetic texts, some with personal data, the same at every run."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

__all__ = ["PATH", "bodies", "body", "requests", "texts"]

PATH = "/v2/rerank"
# Characters of one document: 20 of them make 4 KB, 200 of them 45 KB.
FEW_CHARS, MANY_CHARS = 190, 220
FEW = 20
# One document in this many holds personal data.
FINDING_EVERY = 10

WORDS = """
    account archive audit balance branch budget cargo claim clause client contract court credit customs deadline
    delivery deposit device draft engine estimate export factory filter freight garden harbour hearing import index
    invoice journal ledger letter licence machine manual market meeting member minutes mortgage notice office order
    packet parcel pension permit policy premium quarter query receipt record refund region renewal repair report
    request return review sample schedule section service session settlement shipment station storage supplier
    survey tariff tenant ticket transfer update valley vendor version visit voucher warehouse warranty winter
""".split()  # noqa: SIM905 - words, not a column of quotes
NAMES = ("ada", "boris", "carla", "dmitri", "elena", "farid", "greta", "hugo")


def texts(count: int, seed: int) -> list[str]:
    """Return `count` texts of one length; every tenth holds an e-mail address and a card number."""
    chars = FEW_CHARS if count <= FEW else MANY_CHARS
    source = random.Random(seed)  # noqa: S311 - the same texts at every run
    found = []
    for index in range(count):
        text = ""
        while len(text) < chars:
            text += source.choice(WORDS) + " "
        if index % FINDING_EVERY == 1:
            data = f"{source.choice(NAMES)}.{source.choice(WORDS)}@example.org 4111 1111 1111 1111"
            text = f"{text[: chars - len(data) - 1]} {data}"
        found.append(text[:chars])
    return found


def bodies(documents: int, pool: int, *, model: str = "rerank") -> list[bytes]:
    """Return `pool` different bodies of `documents` documents each."""
    return [body(documents, number, model=model) for number in range(pool)]


def body(documents: int, number: int, *, model: str = "rerank") -> bytes:
    """Return body `number` of `documents` documents; its model says how many, for upstream.py."""
    return json.dumps(
        {
            "model": f"{model}-{documents}",
            "query": f"which {WORDS[number % len(WORDS)]} is due this quarter",
            "documents": texts(documents, seed=documents * 100_003 + number),
        }
    ).encode()


def requests(contents: Sequence[bytes], token: str) -> list[bytes]:
    """Return whole HTTP/1.1 requests that carry `contents`."""
    head = (
        f"POST {PATH} HTTP/1.1\r\nhost: gate\r\nauthorization: Bearer {token}\r\n"
        "content-type: application/json\r\naccept: */*\r\nuser-agent: bench\r\ncontent-length: "
    )
    return [f"{head}{len(content)}\r\n\r\n".encode() + content for content in contents]
