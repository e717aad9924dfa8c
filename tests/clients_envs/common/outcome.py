"""What a client's script has in common: calls from stdin, one JSON line of outcome for each on stdout.

Runs in a client's own environment: nothing but the standard library.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

Ranked = Iterable[tuple[int, float]]


def report(rank: Callable[..., Ranked]) -> None:
    """Call `rank(url, token, query, documents, **options)` for each line of stdin and print what it got.

    A result is a document's position as the client sees it, and its score; an error is told by its class, the
    classes above it, its status where it has one, and its text.
    """
    # Some clients print; what they say must not mix with outcomes.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        outcome: dict[str, Any]
        try:
            outcome = {"ranked": [[position, float(score)] for position, score in rank(**json.loads(line))]}
        except Exception as error:  # noqa: BLE001 - whatever a client raises is what is asked for
            outcome = {
                "error": type(error).__name__,
                "kinds": [kind.__name__ for kind in type(error).__mro__],
                "status": getattr(error, "status_code", getattr(error, "http_status", None)),
                "text": str(error),
            }
        print(json.dumps(outcome), file=out, flush=True)
