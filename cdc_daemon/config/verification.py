"""Model of ``verification``: when source and target are compared by themselves.

Not in here: who starts the run (``daemon.verifying``) and what it does (``verify``).
"""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import Field, field_validator

from cdc_daemon.config.scalars import Complaint
from cdc_daemon.config.strict import Model
from cdc_daemon.config.zones import ZoneName

_FIELDS = 5


class VerificationConfig(Model):
    """Verification on a schedule: every mapping of every source, one source after the other."""

    schedule: str | None = Field(
        default=None,
        description="When to verify, as five cron fields (minute, hour, day of month, month, day "
        "of week). Without it nothing is verified by itself.",
        examples=["0 3 * * *"],
    )
    timezone: ZoneName = Field(
        default="UTC",
        description="Whose clock the schedule means: an IANA name. In a zone with summer time a "
        "time that is skipped runs right after the gap, one that comes twice runs once.",
        examples=["Europe/Berlin"],
    )
    timeout_seconds: float = Field(
        default=600.0,
        ge=0,
        le=86_400,
        description="How long a run waits, at each reading, for the pipeline to apply what its "
        "source has written.",
    )
    max_seconds: float = Field(
        default=21_600.0,
        gt=0,
        le=604_800,
        description="A run of one source that takes longer is ended and counts as failed.",
    )
    examples: int = Field(
        default=20, ge=0, le=1000, description="Keys to keep for each mapping that differs."
    )

    @field_validator("schedule")
    @classmethod
    def _is_cron(cls, text: str | None) -> str | None:
        if text is None:
            return None
        cure = "write five fields, as in 0 3 * * * (every day at 03:00)"
        if len(text.split()) != _FIELDS:
            raise Complaint("a schedule has five fields", cure)
        try:
            next(CronSim(text, dt.datetime(2000, 1, 1, tzinfo=dt.UTC)))
        except CronSimError as error:
            raise Complaint(f"this is no schedule: {str(error).lower()}", cure) from None
        except StopIteration:
            raise Complaint("this schedule never comes", cure) from None
        return text

    def next_after(self, moment: float) -> float | None:
        """When the first run after that moment is due; both in seconds since 1970."""
        if self.schedule is None:
            return None
        start = dt.datetime.fromtimestamp(moment, ZoneInfo(self.timezone))
        return next(CronSim(self.schedule, start)).timestamp()
