"""What the store answers, read: anybody with its password may have written it, so None for what is none of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rankgate.approvals import Ask, Event, Review, State, Stored

__all__ = ["event_of", "fields_of", "requirement_text", "review_of", "stored_of"]

_VOTE = b"vote:"
# A quorum is 16 at most. Each is verified by every gate that looks, and calls that need no approval wait meanwhile.
_MOST_VOTES = 256
# The last moment that is a date everywhere: ids of entries may be any number.
_LATEST_MS = 253_402_300_799_999


def requirement_text(ask: Ask) -> str:
    """Return one text for all requirements that ask for the same."""
    needed = ask.requirement
    return "\n".join((str(needed.quorum), str(needed.ttl_s), *sorted(set(needed.groups))))


def fields_of(answer: Any) -> dict[bytes, bytes]:
    """Return the fields of a hash, as a script gives them: names and values in turns."""
    items = answer if isinstance(answer, list) else []
    return dict(zip(items[::2], items[1::2], strict=False))


def stored_of(approval: str, answer: Any) -> Stored | None:
    """Return the approval in the answer of a script: its fields and revocations; None where it cannot be read."""
    try:
        flat, revocations = answer
        fields = fields_of(flat)
        ask = _ask(approval, fields)
        votes = sorted(name for name in fields if name.startswith(_VOTE))
        if len(votes) > _MOST_VOTES:
            return None
        return Stored(
            ask=ask,
            body=fields[b"body"],
            mac=_text(fields[b"mac"]),
            state=State(_text(fields[b"state"])),
            revision=_number(fields[b"revision"]),
            votes=tuple(_readable(fields[name] for name in votes)),
            revocations=tuple(_readable(revocations)),
            used_by=_text(fields.get(b"used_by", b"")),
            changed_ms=_moment(_number(fields[b"changed"])),
            note=_text(fields.get(b"note", b"")),
        )
    except (KeyError, ValueError, TypeError):
        return None


def review_of(review: str, fields: Mapping[bytes, bytes]) -> Review | None:
    """Return the review item in the fields of its hash; None where it cannot be read."""
    try:
        return Review(
            ask=_ask(review, fields),
            body=fields[b"body"],
            mac=_text(fields[b"mac"]),
            closed_by=_text(fields.get(b"closed_by", b"")),
            closed_reason=_text(fields.get(b"closed_reason", b"")),
            closed_ms=_moment(_number(fields.get(b"closed", b"0"))),
        )
    except (KeyError, ValueError):
        return None


def event_of(entry: bytes, fields: Mapping[bytes, bytes]) -> Event | None:
    """Return the event in an entry of the stream; None where it cannot be read."""
    try:
        cursor = _text(entry)
        time_ms = min(int(cursor.partition("-")[0]), _LATEST_MS)
        return Event(cursor, _text(fields[b"kind"]), _text(fields[b"approval"]), time_ms)
    except (KeyError, ValueError):
        return None


def _ask(name: str, fields: Mapping[bytes, bytes]) -> Ask:
    ask = Ask.decode(fields[b"body"])
    # One record copied over another would pass every check of its own.
    if ask.id != name:
        raise ValueError("another record")
    _moment(ask.opened_ms)
    _moment(ask.expires_ms)
    return ask


def _readable(values: Any) -> Sequence[str]:
    found = []
    for value in values:
        try:
            found.append(_text(value))
        except ValueError:
            continue
    return found


def _text(value: bytes) -> str:
    return value.decode("utf-8")


def _moment(time_ms: int) -> int:
    if not 0 <= time_ms <= _LATEST_MS:
        raise ValueError("no time")
    return time_ms


def _number(value: bytes) -> int:
    if not (value.isdigit() and len(value) < 16):
        raise ValueError("no number")
    return int(value)
