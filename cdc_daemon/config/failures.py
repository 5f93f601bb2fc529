"""Model of ``failures``: what becomes of parked changes by themselves."""

from __future__ import annotations

import datetime as dt

from pydantic import Field, field_validator

from cdc_daemon.config.keys import KeysConfig
from cdc_daemon.config.scalars import Complaint
from cdc_daemon.config.strict import Model
from cdc_daemon.model.duration import EXAMPLES, duration_of


class BreakerConfig(Model):
    """When so much fails at once that the pipeline stops instead of parking it: whichever limit is
    passed first. `cdc-daemon failures resume PIPELINE` lets it go on.
    """

    window_seconds: float = Field(
        default=300.0, gt=0, le=86_400, description="How long what was parked counts."
    )
    parked: int = Field(default=20_000, ge=0, description="Changes that may be parked; 0: any.")
    share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Share of all changes that may fail, without those that wait behind others, "
        "once `least` came; 0: any.",
    )
    least: int = Field(default=2_000, ge=1, description="Changes below which no share is judged.")
    same_error: int = Field(
        default=10_000,
        ge=0,
        description="Changes that may be parked with one error class, without those that wait "
        "behind others; 0: any.",
    )


class RetryConfig(Model):
    """When parked changes with an error class are tried again by themselves."""

    first_seconds: float = Field(
        default=60.0, gt=0, le=604_800, description="After which the first time; then doubling."
    )
    max_seconds: float = Field(
        default=3600.0, gt=0, le=2_592_000, description="The longest time between two tries."
    )
    tries: int | None = Field(
        default=None,
        ge=1,
        description="How often, the try that parked it among them; 1: never again. Without it for "
        "good.",
    )


class FailuresConfig(KeysConfig):
    """The failure queue."""

    breaker: BreakerConfig = Field(
        default=BreakerConfig(), description="When the pipeline stops instead of parking more."
    )
    retry: dict[str, RetryConfig] = Field(
        default_factory=dict,
        description="When changes are tried again by themselves, by error class. Without it: "
        "`reference_missing`, `reference_unresolved`, `still_referenced` and "
        "`duplicate_entity_key`, after a minute, then doubling up to an hour.",
        examples=[{"sqlstate_23514": {"first_seconds": 600, "tries": 5}}],
    )

    keep_settled: str | None = Field(
        default=None,
        description="How long changes that were replayed, skipped or resynced are kept, with their "
        f"row images and edits: {EXAMPLES}. Without it they are kept until `failures purge`. What "
        "is parked is never deleted.",
        examples=["90d"],
    )

    @field_validator("keep_settled")
    @classmethod
    def _is_duration(cls, text: str | None) -> str | None:
        if text is not None and not duration_of(text):
            raise Complaint("this is no duration", f"write {EXAMPLES}")
        return text

    @property
    def kept(self) -> dt.timedelta | None:
        """How long settled changes are kept; None: for good."""
        return None if self.keep_settled is None else duration_of(self.keep_settled)
