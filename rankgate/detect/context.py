"""Words near a value that make it more or less likely to be sensitive."""

from __future__ import annotations

import re

__all__ = ["BEFORE", "PHONE", "SERIAL", "near"]

BEFORE = 48
_AFTER = 16

PHONE = re.compile(
    r"(?:phone|mobile|\bcell|\btel\b|\btel[.:]|telef|t[e]l\.|\bfax|whatsapp|\bsms\b|\bcall(?:ing|ed)?\b|\bdial|\bring\b|"
    r"\breach|hotline|helpline|\btext (?:me|us|him|her)|contact|movil|handy|rufnummer|anruf|cellulare|portable|"
    r"appel|llam|numero de tel|\bph[.:]|\bmob\b|signal\b)",
    re.IGNORECASE,
)
# Numbers that are counted or issued by a machine, and so are not a person's.
SERIAL = re.compile(
    r"(?:order|invoice|\bref\b|reference|ticket|tracking|\bsku\b|part (?:no|number)|serial|batch|\blot\b|isbn|issn|"
    r"\bean\b|\bupc\b|barcode|model|version|build|commit|item|product|article|case (?:no|number)|po number|"
    r"transaction|shipment|\bids?\b|\bid[:=]|uuid|hash|total|amount|price|bestell|rechnung|artikel|commande|facture|"
    r"pedido|factura|timestamp|epoch|checksum|row|record|confirmation|booking|\bdoi\b|patent|#)",
    re.IGNORECASE,
)


def near(words: re.Pattern[str], text: str, start: int, end: int, *, after: int = _AFTER) -> bool:
    """Return whether `words` occur within BEFORE characters before `text[start:end]` or `after` behind it."""
    if words.search(text, max(0, start - BEFORE), start) is not None:
        return True
    return after > 0 and words.search(text, end, end + after) is not None
