"""Why the console does not do what it was asked: a closed list, each with its status and the only text people see."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

__all__ = ["Refusal", "RefusedError"]


class Refusal(StrEnum):
    """A word, as the API's `code`; `status` is the HTTP status it answers with, `text` what people read."""

    status: int
    text: str

    def __new__(cls, word: str, status: int, text: str) -> Self:
        member = str.__new__(cls, word)
        member._value_ = word
        member.status = status
        member.text = text
        return member

    # who asks
    LOGIN_REQUIRED = "login_required", 401, "Log in first."
    LOGIN_STALE = "login_stale", 401, "Your login is too old to vote with. Log in again."
    LOGIN_FAILED = "login_failed", 400, "The login did not succeed. Start again."
    NO_PERSON = "no_person", 403, "Only people may use the console; this token is a machine's."
    ROLE_MISSING = "role_missing", 403, "Your groups do not give you the right to do this."
    RATE_LIMITED = "rate_limited", 429, "Too many attempts. Wait a minute."

    # why this person may not vote on this
    SELF = "self", 403, "You asked for this yourself; somebody else has to decide."
    OWNER = "owner", 403, "You own the machine that asks; somebody else has to decide."
    GROUP = "group", 403, "You are in none of the groups that may decide this."

    # what is asked for
    NOT_FOUND = "not_found", 404, "There is no such thing here, or it is not yours to see."
    PERSON_UNKNOWN = "person_unknown", 404, "No open approval has a vote of this person."
    RECORD_CHANGED = "record_changed", 409, "This is not what you were shown. Look again, then decide."
    ALREADY_VOTED = "already_voted", 409, "You have voted on this already. Withdraw that vote first."
    NO_VOTE = "no_vote", 409, "You have no vote here to withdraw."
    CLOSED = "closed", 409, "This is closed; nothing can be changed any more."
    BUSY = "busy", 409, "Others are changing this right now. Try again."
    REASON_INVALID = "reason_invalid", 422, "Give a reason: 1 to 1000 characters on one or more lines."
    INPUT_INVALID = "input_invalid", 422, "The request holds something that is not accepted here."

    # the request itself
    HOST_UNKNOWN = "host_unknown", 421, "This server is not known by that name."
    ORIGIN_REFUSED = "origin_refused", 403, "This was sent from another site."
    FORM_STALE = "form_stale", 403, "This form is not from your session. Reload the page and try again."
    TOO_SLOW = "too_slow", 408, "The request did not arrive in time."
    TOO_LARGE = "too_large", 413, "The request is too large."
    TYPE_REFUSED = "type_refused", 415, "This content type is not accepted here."
    METHOD_REFUSED = "method_refused", 405, "This method is not accepted here."

    # the console's own parts
    STORE_UNAVAILABLE = "store_unavailable", 503, "Approvals are not available right now."
    JOURNAL_UNAVAILABLE = "journal_unavailable", 503, "Nothing can be recorded right now, so nothing is done."
    ISSUER_UNAVAILABLE = "issuer_unavailable", 503, "The identity provider is not available right now."
    INTERNAL = "internal", 500, "The console failed. The time of this page finds it in the log."


class RefusedError(Exception):
    """A refusal; `refusal` is all that leaves the process."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal
