"""How long a caller can be kept waiting on its open connection."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

__all__ = ["hold_seconds"]

# By dialect: below the read timeout that its clients ship with. Unknown ones are taken to be impatient.
_BY_DIALECT = {
    "cohere.v1": 240,
    "cohere.v2": 240,
    "voyage": 240,
    "jina": 240,
    "nvidia.ranking": 240,
    "tei": 50,
}
_DEFAULT_S = 50
# Elastic's inference client gives up after ten seconds.
_IMPATIENT = re.compile(rb"elastic", re.IGNORECASE)
_IMPATIENT_S = 8
# For the way back, and a client's clock.
_MARGIN_S = 2.0


def hold_seconds(
    configured_s: float, ruled_s: float | None, dialect: str, header: Callable[[str], Sequence[bytes]]
) -> float:
    """Return the shortest of what the settings, the ruling, the dialect's clients and this client itself allow.

    `header` gives the values of a request header. A read timeout that a client states (`x-stainless-read-timeout`,
    in seconds) counts less two seconds; one that cannot be read counts as none: 0, nobody waits.
    """
    limits = [configured_s, _BY_DIALECT.get(dialect, _DEFAULT_S)]
    if ruled_s is not None:
        limits.append(ruled_s)
    if any(_IMPATIENT.search(value) for value in (*header("user-agent"), *header("x-elastic-client-meta"))):
        limits.append(_IMPATIENT_S)
    limits.extend(_stated(value) - _MARGIN_S for value in header("x-stainless-read-timeout"))
    return max(0.0, float(min(limits)))


def _stated(value: bytes) -> float:
    text = value.strip()
    return float(text) if re.fullmatch(rb"[0-9]{1,6}(\.[0-9]{1,6})?", text) else 0.0
