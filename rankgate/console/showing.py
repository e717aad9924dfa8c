"""How things are said to people: times, states, objections, what was decided. Values in, words out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import urlsplit

from rankgate.approvals import Choice, Objection, PlanSummary, Requirement, State
from rankgate.audit.event import Outcome
from rankgate.audit.text import printable
from rankgate.console.views import Item, ReviewItem
from rankgate.errors import Reason

__all__ = [
    "Segment",
    "ago",
    "and_list",
    "closing",
    "count",
    "document_positions",
    "duration",
    "excerpt",
    "findings",
    "iso",
    "issuer",
    "left",
    "micros",
    "objection",
    "outcome",
    "plain",
    "plan",
    "reason",
    "risk_level",
    "segments",
    "standing",
    "state",
    "treatment",
    "utc",
]

# As in rankgate.audit.text, but line ends and tabs stay: a preview is a text with lines.
_ODD = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]+"
)
_REDACTED = re.compile(r"<[A-Z][A-Z0-9_]{1,40}>")
_SPLIT = re.compile(f"({_ODD.pattern}|{_REDACTED.pattern})")
_RISKS = ("low", "medium", "high", "critical")
_NEVER = "never"
_ACRONYMS = frozenset(
    ("API", "DE", "ES", "IBAN", "IN", "IP", "IT", "JWT", "MAC", "NHS", "NIF", "PESEL", "PL", "SSN", "UK", "URL", "US")
)

_STATES: Mapping[State, str] = {
    State.PENDING: "Waiting",
    State.APPROVED: "Approved",
    State.DENIED: "Denied",
    State.EXPIRED: "Expired",
    State.CANCELLED: "Cancelled",
    State.CONSUMED: "Used",
}

_CLOSED: Mapping[State, str] = {
    State.PENDING: "Nobody decided in time.",
    State.APPROVED: "It was approved, and not used in time.",
    State.DENIED: "One refusal is enough. Its caller was told no.",
    State.EXPIRED: "Its time ran out before it was decided and used.",
    State.CANCELLED: "It was closed without a decision.",
    State.CONSUMED: "It was used, once. It cannot be used again.",
}

_OUTCOMES: Mapping[str, str] = {
    Outcome.COMPLETE: "The documents were ranked and the caller was answered.",
    Outcome.ABORTED: "The call was broken off before it was answered.",
    Outcome.REFUSED: "The gate did not pass it on.",
    Outcome.LOCAL_REPLY: "Envoy answered by itself.",
    Outcome.UPSTREAM_ERROR: "The reranker failed.",
}


class Segment(NamedTuple):
    """A piece of a text from outside. `kind`: `text`, `odd` (characters that are not seen), `redacted`."""

    kind: str
    text: str


def outcome(word: str) -> str:
    """Return how an allowed call ended."""
    return _OUTCOMES.get(word, word.replace("_", " ") + ".")


def micros(value: object) -> str:
    """Return a number of microseconds for people."""
    if not isinstance(value, int | float):
        return ""
    return f"{value / 1000:.1f} ms" if value < 1_000_000 else f"{value / 1_000_000:.1f} s"


def segments(text: str) -> list[Segment]:
    """Return `text` in pieces, none of which holds a character that moves, hides or reorders others."""
    pieces = []
    for piece in _SPLIT.split(text.replace("\r\n", "\n")):
        if not piece:
            continue
        if _REDACTED.fullmatch(piece):
            pieces.append(Segment("redacted", piece[1:-1]))
        elif _ODD.fullmatch(piece):
            pieces.append(Segment("odd", printable(piece)))
        else:
            pieces.append(Segment("text", piece))
    return pieces


def plain(text: str) -> str:
    """Return `text` on one line with what is not seen written as escapes, for a title."""
    return printable(" ".join(text.split()))


def excerpt(text: str, limit: int = 240) -> str:
    """Return the beginning of `text` on one line."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1].rstrip()}…"


def duration(seconds: float) -> str:
    """Return a span of time in at most two units: `45 s`, `12 min`, `1 h 20 min`, `3 d`."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86_400:
        hours, minutes = whole // 3600, whole % 3600 // 60
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{whole // 86_400} d"


def ago(then_ms: int, now_ms: int) -> str:
    """Return how long ago `then_ms` was; what lies in the future is now, because clocks differ."""
    seconds = (now_ms - then_ms) / 1000
    return "just now" if seconds < 5 else f"{duration(seconds)} ago"


def left(until_ms: int, now_ms: int) -> str:
    """Return how much time is left until `until_ms`."""
    return "no time left" if until_ms <= now_ms else f"{duration((until_ms - now_ms) / 1000)} left"


def utc(ms: int) -> str:
    """Return an exact time for people."""
    return f"{_moment(ms):%Y-%m-%d %H:%M:%S} UTC" if _is_moment(ms) else _NEVER


def iso(ms: int) -> str:
    """Return an exact time for machines."""
    return f"{_moment(ms):%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z" if _is_moment(ms) else ""


def issuer(url: str) -> str:
    """Return an issuer without its scheme, short: the host, and the path where there is one."""
    parts = urlsplit(url) if "://" in url and url.isascii() else None
    return excerpt(f"{parts.netloc}{parts.path.rstrip('/')}" if parts and parts.netloc else url, 60)


def count(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def and_list(items: Iterable[str], word: str = "and") -> str:
    """Return items as people list them: `a, b and c`."""
    every = list(items)
    return " ".join(filter(None, [", ".join(every[:-1]), word if every[1:] else "", *every[-1:]]))


def findings(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return what was found, most first, the types in words."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(_in_words(name), number) for name, number in ordered if number]


def risk_level(risk: object) -> str:
    """Return a risk as one of our four words where the policy used one, else empty."""
    word = str(risk).strip().lower()
    return word if word in _RISKS else ""


def state(value: State) -> str:
    """Return a state in a word."""
    return _STATES[value]


def objection(value: Objection, requirement: Requirement) -> str:
    """Return why this person may not decide, and who may."""
    match value:
        case Objection.SELF:
            return "This is your own request, so someone else must decide."
        case Objection.OWNER:
            return "You own this machine, so someone else must decide."
        case Objection.GROUP:
            return f"Only members of {and_list(requirement.groups, 'or')} can decide this."


def standing(item: Item, *, is_open: bool) -> str:
    """Return what this reader can do about an approval, or why nothing; empty where they may vote."""
    if not is_open:
        return _CLOSED.get(item.state, "Nobody decided in time.")
    own = next((vote for vote in item.votes if vote.own), None)
    if own is not None and own.counts and own.choice is Choice.APPROVE:
        more = f"{count(item.needed, 'more vote')} {'is' if item.needed == 1 else 'are'} needed" if item.needed else ""
        return f"You approved this; {more or 'it waits for its caller'}."
    if own is not None:
        return "Your vote does not count any more. Withdraw it to vote again."
    if item.objection is not None:
        return objection(Objection(item.objection), item.requirement)
    return "" if item.may_vote else "You have voted on this."


def closing(item: ReviewItem) -> str:
    """Return why this reader cannot close a review."""
    if item.objection is not None:
        return {
            Objection.SELF.value: "This was your own call, so someone else must look at it.",
            Objection.OWNER.value: "You own this machine, so someone else must look at it.",
        }.get(item.objection, "Someone else must look at it.")
    return "Operators close reviews."


def document_positions(positions: Iterable[int], limit: int = 12) -> str:
    """Return positions as they are written in the request: `documents[1], documents[4] and 3 more`."""
    every = [f"documents[{position}]" for position in positions]
    return and_list(every) if len(every) <= limit else f"{', '.join(every[:limit])} and {len(every) - limit} more"


def treatment(summary: PlanSummary) -> list[str]:
    """Return how the texts of a request that may pass are treated, a sentence each."""
    said = [
        _masked(summary.mask_request, "Sensitive values in query, instruction and documents", "before ranking"),
        _masked(summary.mask_response, "Sensitive values in the answer", "before the caller reads it"),
    ]
    if not summary.dropped:
        return [*said, "No document is dropped."]
    verb = "is" if len(summary.dropped) == 1 else "are"
    ranked = f"{count(summary.kept, 'document')} {'is' if summary.kept == 1 else 'are'} ranked"
    return [*said, f"{document_positions(summary.dropped)} {verb} dropped before ranking; {ranked}."]


def plan(summary: PlanSummary) -> list[str]:
    """Return what will be done with a request that may pass, a sentence each."""
    if not summary.credential:
        return [*treatment(summary), "No upstream credential is lent."]
    return [*treatment(summary), f"An upstream credential ({summary.credential}) is lent for this one request."]


def reason(word: str) -> str:
    """Return the text of a reason word; the word itself where a newer gate wrote it."""
    return next((known.public for known in Reason if known.value == word), word.replace("_", " "))


def _in_words(name: str) -> str:
    return " ".join(word if word in _ACRONYMS else word.lower() for word in name.split("_"))


def _masked(profile: str, what: str, when: str) -> str:
    if profile in {"", "none"}:
        return f"{what} are not masked."
    return f"{what} are masked {when} (profile {profile})."


def _is_moment(ms: int) -> bool:
    return 0 < ms < 253_402_300_800_000


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms // 1000, UTC)
