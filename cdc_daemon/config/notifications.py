"""Model of ``notifications``: whom the daemon tells what.

Not in here: the channels' own models (``channels``), and what sends (``notify``).
"""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, field_validator, model_validator

from cdc_daemon.config.channels import AnyChannel, Language
from cdc_daemon.config.scalars import AsTuple, Complaint, Name
from cdc_daemon.config.strict import Model
from cdc_daemon.config.zones import ZoneName

HOME = "/var/lib/cdc-daemon"
FILE = "notifications.db"

_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_DAY = 86_400.0


class RuleConfig(Model):
    """Which alerts go to which channels; one that several rules send to a channel goes once."""

    to: Annotated[tuple[str, ...], AsTuple] = Field(
        min_length=1, description="Names of channels.", examples=[["ops", "mail"]]
    )
    severity: Literal["info", "warning", "critical"] = Field(
        default="warning", description="Alerts of this severity and above."
    )
    pipeline: str | None = Field(
        default=None,
        description="Only of pipelines with such a name; `*`, `?` and `[…]` as in a shell.",
        examples=["erp*"],
    )
    entity: str | None = Field(
        default=None,
        description="Only about such entities (parked changes, differences); likewise a pattern.",
        examples=["employee*"],
    )


class QuietHours(Model):
    """A time of each day in which only what is critical is told; the rest waits until its end."""

    from_: str = Field(alias="from", description="When they begin.", examples=["22:00"])
    to: str = Field(description="When they end, perhaps on the next day.", examples=["07:00"])
    zone: ZoneName | None = Field(
        default=None, description="Whose clock that is: an IANA name. Default: that of the section."
    )
    critical: bool = Field(
        default=False, description="Whether also critical alerts wait until the end."
    )

    @field_validator("from_", "to")
    @classmethod
    def _is_time(cls, text: str) -> str:
        if not _TIME.fullmatch(text):
            raise Complaint("this is no time of the day", 'write "22:00"')
        return text

    @model_validator(mode="after")
    def _not_empty(self) -> QuietHours:
        if self.from_ == self.to:
            raise Complaint("quiet hours end when they begin", "write two different times")
        return self

    def hold(self, moment: float, zone: str) -> bool:
        """Whether that moment (seconds since 1970) is in them; ``zone``: where they name none."""
        clock = dt.datetime.fromtimestamp(moment, ZoneInfo(self.zone or zone)).strftime("%H:%M")
        if self.from_ < self.to:
            return self.from_ <= clock < self.to
        return clock >= self.from_ or clock < self.to


class NotificationsConfig(Model):
    """Alerts by chat, mail and webhook, sent by the daemon itself."""

    channels: dict[Name, Annotated[AnyChannel, Field(discriminator="kind")]] = Field(
        default_factory=dict, description="Where messages go, by name."
    )
    rules: Annotated[tuple[RuleConfig, ...], AsTuple] = Field(
        default=(), description="What goes where. Default: warnings and worse to every channel."
    )
    language: Language = Field(
        default="en", description="Of the texts: Chinese (`zh`) or English (`en`)."
    )
    instance: str = Field(
        default="",
        max_length=100,
        description="What messages call this daemon. Default: the machine's name.",
        examples=["group control, production"],
    )
    zone: ZoneName = Field(
        default="UTC", description="Whose clock messages go by: an IANA name.",
        examples=["Asia/Shanghai"],
    )  # fmt: skip
    quiet_hours: QuietHours | None = Field(
        default=None, description="When only what is critical is told."
    )
    settle_seconds: float = Field(
        default=30.0,
        ge=0,
        le=3600,
        description="How long a state must last until it is told, and be gone until it is over; so "
        "one that comes and goes is one alert. What cannot pass by itself is told at once.",
    )
    group_wait_seconds: float = Field(
        default=10.0,
        ge=0,
        le=3600,
        description="What a channel gets within this time of the first is one message.",
    )
    repeat_seconds: float = Field(
        default=14_400.0,
        ge=0,
        le=30 * _DAY,
        description="After which an alert that goes on is told again; 0: never.",
    )
    give_up_seconds: float = Field(
        default=_DAY,
        ge=60,
        le=30 * _DAY,
        description="How long the delivery of a message is tried.",
    )
    keep_days: int = Field(
        default=30, ge=1, le=3650, description="How long `notify log` knows what was sent."
    )
    directory: str | None = Field(
        default=None,
        description="Folder of the file in which messages wait; absolute. Default: systemd's state "
        f"folder, else `{HOME}`.",
    )

    @field_validator("directory")
    @classmethod
    def _absolute(cls, text: str | None) -> str | None:
        if text is not None and (not text.startswith("/") or "\0" in text):
            raise Complaint("the folder needs an absolute path", f"write {HOME}")
        return text

    @property
    def effective_rules(self) -> tuple[RuleConfig, ...]:
        """The rules, or the one that holds where there are none."""
        return self.rules or (RuleConfig(to=tuple(self.channels)),)

    def file(self, environ: Mapping[str, str] = os.environ) -> Path:
        """Where messages wait."""
        state = environ.get("STATE_DIRECTORY", "").partition(":")[0]
        return Path(self.directory or state or HOME, FILE)

    def secrets(self) -> Iterator[tuple[str, str, SecretStr]]:
        """Every secret with its channel and key."""
        for name, channel in self.channels.items():
            for key in type(channel).model_fields:
                value = getattr(channel, key)
                if isinstance(value, SecretStr):
                    yield name, key, value
