"""Model of ``failures``: what becomes of parked changes by themselves."""

from __future__ import annotations

import datetime as dt

from pydantic import Field, field_validator

from cdc_daemon.config.scalars import Complaint
from cdc_daemon.config.strict import Model
from cdc_daemon.model.duration import EXAMPLES, duration_of


class FailuresConfig(Model):
    """The failure queue."""

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
