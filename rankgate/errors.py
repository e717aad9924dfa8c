"""Why a request is refused: one closed list of reasons, each with its status and the only text a caller may see.

The same word stands in the answer, the audit event, the log and the metric. Growth rule: add, never rename.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self

__all__ = ["GateError", "Reason", "SettingsError"]


class Reason(StrEnum):
    """A reason word; `status` is the HTTP status it answers with, `public` the caller's text."""

    status: int
    public: str

    def __new__(cls, word: str, status: int, public: str) -> Self:
        member = str.__new__(cls, word)
        member._value_ = word
        member.status = status
        member.public = public
        return member

    ALLOWED = "allowed", 200, "allowed"

    # identity (RFC 6750 section 3.1: invalid_request 400, invalid_token 401)
    TOKEN_MISSING = "token_missing", 401, "a bearer token is required"
    TOKEN_INVALID = "token_invalid", 401, "the bearer token was not accepted"
    AUTHORIZATION_AMBIGUOUS = "authorization_ambiguous", 400, "exactly one bearer credential is accepted"
    KEYS_UNAVAILABLE = "keys_unavailable", 503, "the identity provider's keys are not available"

    # the request itself
    PATH_UNKNOWN = "path_unknown", 404, "this path is not served"
    METHOD_NOT_ALLOWED = "method_not_allowed", 405, "this method is not allowed here"
    QUERY_PARAMETER_REFUSED = "query_parameter_refused", 400, "query parameters are not accepted here"
    HEADER_REFUSED = "header_refused", 400, "a request header is not acceptable"
    CONTENT_TYPE_UNSUPPORTED = "content_type_unsupported", 415, "the body must be application/json in UTF-8"
    CONTENT_ENCODING_UNSUPPORTED = (
        "content_encoding_unsupported",
        415,
        "compressed request bodies are not accepted",
    )
    BODY_INVALID = "body_invalid", 400, "the body is not a valid rerank request"
    BODY_TOO_LARGE = "body_too_large", 413, "the body is too large"
    TOO_MANY_DOCUMENTS = "too_many_documents", 413, "too many documents"
    DIALECT_UNKNOWN = "dialect_unknown", 400, "the body matches no rerank API served here"
    SENSITIVE_STRUCTURE = (
        "sensitive_structure",
        422,
        "sensitive data in an object key, a number or an unmaskable place",
    )

    # the decision
    POLICY_DENIED = "policy_denied", 403, "denied by policy"
    POLICY_UNDEFINED = "policy_undefined", 503, "the policy gave no decision"
    POLICY_INVALID = "policy_invalid", 503, "the policy's decision was not understood"
    POLICY_ERROR = "policy_error", 503, "the policy could not be evaluated"
    POLICY_TIMEOUT = "policy_timeout", 503, "the policy did not answer in time"
    POLICY_UNAVAILABLE = "policy_unavailable", 503, "the policy engine is not available"
    APPROVAL_UNAVAILABLE = (
        "approval_unavailable",
        403,
        "this request needs an approval, which is not available here",
    )
    APPROVAL_PENDING = "approval_pending", 429, "this request waits for an approval"
    APPROVAL_LIMIT = "approval_limit", 429, "too many requests wait for an approval"
    APPROVAL_DENIED = "approval_denied", 403, "this request was not approved"
    APPROVAL_EXPIRED = "approval_expired", 403, "nobody approved this request in time"
    APPROVAL_CANCELLED = "approval_cancelled", 403, "the approval of this request was cancelled"
    APPROVAL_USED = "approval_used", 403, "the approval of this request was used by another call"
    APPROVAL_STORE_UNAVAILABLE = "approval_store_unavailable", 503, "approvals are not available right now"
    CALLER_LEFT = "caller_left", 503, "the caller did not wait for the answer"
    BREAK_GLASS_REFUSED = "break_glass_refused", 403, "going ahead without an approval is not possible here"
    NO_DOCUMENTS_LEFT = "no_documents_left", 403, "no document of this request may be ranked by this caller"

    # the gate's own parts
    DETECTOR_UNAVAILABLE = "detector_unavailable", 503, "the gate cannot inspect requests right now"
    PROCESSOR_UNAVAILABLE = "processor_unavailable", 503, "the gate cannot process bodies right now"
    CREDENTIAL_UNAVAILABLE = "credential_unavailable", 503, "the gate has no upstream credential right now"
    AUDIT_UNAVAILABLE = "audit_unavailable", 503, "the gate cannot record requests right now"
    BUSY = "busy", 429, "the gate has too many large requests in hand"
    DEADLINE_EXCEEDED = "deadline_exceeded", 503, "the gate did not decide in time"
    INTERNAL = "internal", 503, "the gate failed to decide"

    # ext_proc: after an allow
    HANDOFF_MISSING = "handoff_missing", 503, "the gate cannot process this request"
    HANDOFF_MISMATCH = "handoff_mismatch", 503, "the gate cannot process this request"
    TRAILERS_REFUSED = "trailers_refused", 400, "request trailers are not accepted"
    UPSTREAM_INVALID = "upstream_invalid", 502, "the reranker's answer could not be inspected"
    UPSTREAM_REFUSED = "upstream_refused", 502, "the reranker refused the gate's credential"


class GateError(Exception):
    """A refusal. `public` is what a caller reads: the reason's own text, or one of ours that quotes no request.

    `detail` narrows the reason down for operators and holds no request data.
    """

    def __init__(self, reason: Reason, detail: str = "", *, public: str | None = None) -> None:
        super().__init__(detail or reason.value)
        self.reason = reason
        self.detail = detail
        self.public = public or reason.public


class SettingsError(Exception):
    """A setting that can never work. The text names the setting and the remedy."""
