"""What approvers see of a request: every finding of every type redacted, cut short, sealed to the console's key."""

from __future__ import annotations

import base64
from collections.abc import Iterable

import msgspec
import pyrage

from rankgate.errors import SettingsError

__all__ = ["Opener", "Preview", "Sealer", "redacted"]

QUERY_CHARS = 2000
DOCUMENT_CHARS = 400
DOCUMENTS = 20


class Preview(msgspec.Struct, frozen=True):
    """Query, instruction and the first documents by position, redacted. `cut` tells whether anything is left out."""

    query: str
    instruction: str | None = None
    documents: tuple[tuple[int, str], ...] = ()
    cut: bool = False


class Sealer:
    """Encrypts previews to an age X25519 recipient (`age1...`); only the console can read them."""

    def __init__(self, recipient: str) -> None:
        try:
            self._recipient = pyrage.x25519.Recipient.from_str(recipient.strip())
        except pyrage.RecipientError:
            raise SettingsError("approvals.preview_recipient is no age recipient; it begins with age1") from None

    def seal(self, preview: Preview) -> str:
        """Return the sealed preview in base64."""
        sealed = pyrage.encrypt(msgspec.json.encode(preview), [self._recipient])
        return base64.b64encode(sealed).decode("ascii")


class Opener:
    """Opens what a Sealer of the same key sealed."""

    def __init__(self, identity: str) -> None:
        try:
            self._identity = pyrage.x25519.Identity.from_str(identity.strip())
        except pyrage.IdentityError:
            raise SettingsError("preview_key_file holds no age identity; it begins with AGE-SECRET-KEY-1") from None

    @property
    def recipient(self) -> str:
        """Return what the gates' `approvals.preview_recipient` must be."""
        return str(self._identity.to_public())

    def open(self, sealed: str) -> Preview | None:
        """Return the preview; None for what was not sealed to this key."""
        try:
            data = pyrage.decrypt(base64.b64decode(sealed, validate=True), [self._identity])
            return msgspec.json.decode(data, type=Preview)
        except (ValueError, pyrage.DecryptError, msgspec.DecodeError, RecursionError):
            return None


def redacted(query: str, instruction: str | None, documents: Iterable[tuple[int, str]]) -> Preview:
    """Return a preview of texts that are redacted already."""
    every = list(documents)
    texts = [query, *([instruction] if instruction else []), *(text for _, text in every)]
    cut = len(every) > DOCUMENTS or any(
        len(text) > (QUERY_CHARS if place == 0 else DOCUMENT_CHARS) for place, text in enumerate(texts)
    )
    return Preview(
        _clip(query, QUERY_CHARS),
        None if instruction is None else _clip(instruction, DOCUMENT_CHARS),
        tuple((position, _clip(text, DOCUMENT_CHARS)) for position, text in every[:DOCUMENTS]),
        cut,
    )


def _clip(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"
