"""Who agrees to risky requests, and how long callers wait for it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator

from rankgate.settings.base import NonEmpty, Section
from rankgate.settings.redis import RedisSettings

__all__ = ["ApprovalSettings", "BreakGlassSettings", "OwnerSettings"]


class OwnerSettings(Section):
    """The people behind one machine, none of whom may approve for it."""

    subject: NonEmpty = Field(description="Subject of the machine, as in its token.")
    issuer: str | None = Field(None, description="Issuer of the subject; unset: any of `issuers`.")
    people: tuple[NonEmpty, ...] = Field((), description="Names, mail addresses or subjects of people.")
    groups: tuple[NonEmpty, ...] = Field((), description="Groups whose members own the machine.")


class BreakGlassSettings(Section):
    """The right to go ahead without an approval, for callers that say why in the header `rankgate-reason`."""

    scope: str | None = Field(None, description="Scope of the tokens that have the right; unset: nobody has it.")
    token_s: int = Field(300, ge=60, le=3600, description="Longest `exp - iat` of such a token, in seconds.")
    uses: int = Field(3, ge=1, le=1000, description="Most uses of one subject within `within_s`.")
    within_s: int = Field(3600, ge=60, le=86400, description="Time that `uses` counts, in seconds.")


class ApprovalSettings(RedisSettings):
    """Approvals: where they are kept, whose votes count, how long callers wait."""

    section: ClassVar[str] = "approvals"

    redis_url: str | None = Field(
        None, description="Where approvals are kept: redis://, rediss:// or unix://; unset: there are none."
    )

    vote_keys: tuple[Path, ...] = Field(
        (), description="PEM files of the public keys (Ed25519) that votes are signed with: the console's."
    )
    preview_recipient: str | None = Field(
        None, description="age recipient that previews are sealed to: the console's; unset: approvers see none."
    )
    hold_s: float = Field(25.0, ge=0, le=280, description="Longest time a caller is kept waiting, in seconds.")
    waiters: int = Field(
        256,
        ge=0,
        le=4096,
        description="Most callers waiting at once in one process; of all together fewer than `limits.requests` and `limits.connections`.",
    )
    waiter_bytes: int = Field(
        67_108_864,
        ge=0,
        le=1_073_741_824,
        description="Most memory of the calls that wait in one process, in bytes, as estimated.",
    )
    pending_per_subject: int = Field(10, ge=1, le=1000, description="Most pending approvals of one subject.")
    pending_per_tenant: int = Field(100, ge=1, le=10_000, description="Most pending approvals of one tenant.")
    history_s: int = Field(
        2_592_000, ge=3600, le=31_536_000, description="How long what became of an approval is kept, in seconds."
    )
    owners: tuple[OwnerSettings, ...] = Field((), description="Who owns which machine.")
    allow_unowned: bool = Field(False, description="Let machines be approved that have no owner here.")
    name_claims: tuple[NonEmpty, ...] = Field(
        ("email", "preferred_username", "upn", "client_id", "azp"),
        description="Claims that name a caller as well; who bears such a name cannot approve for it.",
    )
    break_glass: BreakGlassSettings = Field(
        default_factory=lambda: BreakGlassSettings.model_validate({}), description="Going ahead without an approval."
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.redis_url is None) != (not self.vote_keys):
            raise ValueError("approvals.redis_url and approvals.vote_keys belong together; set both or neither")
        if self.redis_url is None and self.model_fields_set:
            raise ValueError(
                f"approvals.{min(self.model_fields_set)} has no effect without approvals.redis_url; "
                "set it, or remove the section"
            )
        return self

    @property
    def enabled(self) -> bool:
        """Tell whether there is anywhere to ask."""
        return self.redis_url is not None
