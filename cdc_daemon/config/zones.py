"""Time zones by their IANA names."""

from __future__ import annotations

from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator

from cdc_daemon.config.scalars import Complaint


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise Complaint(
            f"there is no time zone {name!r} on this machine",
            "write an IANA name, as in Europe/Berlin, or UTC",
        ) from None
    return name


ZoneName = Annotated[str, AfterValidator(_zone)]
"""A name that :class:`zoneinfo.ZoneInfo` knows."""
