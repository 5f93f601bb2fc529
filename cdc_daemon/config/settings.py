"""Model of ``daemon``: limits, logs and metrics of the daemon itself."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from cdc_daemon.config.conninfo import is_loopback
from cdc_daemon.config.scalars import Complaint
from cdc_daemon.config.strict import Model

MIB = 1024 * 1024


class SettingsConfig(Model):
    """The daemon itself: limits, logs, metrics."""

    metrics_listen: str = Field(
        default="127.0.0.1:9464",
        description="Address of `/metrics`, `/healthz` and `/readyz`, on this machine only; port 0 "
        "takes a free one.",
    )
    log_format: Literal["auto", "logfmt", "json"] = Field(
        default="auto",
        description="Form of the log lines; `auto` is entries with fields in the systemd journal, "
        "coloured text on a terminal, else logfmt.",
    )
    log_file: str | None = Field(
        default=None,
        description="File that lines are appended to instead of stderr; absolute. It may be moved "
        "away at any time, and is then created anew.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least important lines that are written."
    )
    drain_seconds: float = Field(
        default=10.0,
        ge=0,
        le=600,
        description="How long an open unit of work may take to end after TERM.",
    )
    batch_rows: int = Field(
        default=20_000, ge=1, le=1_000_000, description="Changes that are applied together at most."
    )
    batch_bytes: int = Field(
        default=8 * MIB,
        ge=1024,
        le=1024 * MIB,
        description="Bytes of log that are applied together at most.",
    )
    queue_bytes: int = Field(
        default=16 * MIB,
        ge=1024,
        le=4096 * MIB,
        description="Bytes of log that may wait between reading and applying.",
    )
    idle_checkpoint_seconds: float = Field(
        default=2.0,
        ge=0.1,
        le=10,
        description="Longest time until the progress of a log without mapped changes is "
        "checkpointed and acknowledged, so that the source need not keep its log.",
    )
    retry_first_seconds: float = Field(
        default=0.5, gt=0, le=600, description="Wait before the first retry; it doubles from there."
    )
    retry_max_seconds: float = Field(
        default=30.0, gt=0, le=3600, description="Longest wait between two retries."
    )
    max_restarts: int = Field(
        default=10,
        ge=0,
        le=1_000_000,
        description="Restarts of one pipeline's process within `restart_window_seconds` before it "
        "stays down.",
    )
    restart_window_seconds: float = Field(
        default=600.0, gt=0, le=86_400, description="The window in which restarts are counted."
    )

    @field_validator("metrics_listen")
    @classmethod
    def _loopback_only(cls, text: str) -> str:
        host, colon, port = text.rpartition(":")
        if not colon or not port.isdecimal() or int(port) > 65_535 or not host:
            raise Complaint("this is no address", "write host:port, as in 127.0.0.1:9464")
        if not is_loopback({"host": host.strip("[]")}):
            raise Complaint(
                "the address is reachable from other machines, and nothing guards it yet",
                "use 127.0.0.1:port, and a reverse proxy for access from elsewhere",
            )
        return text

    @field_validator("log_file")
    @classmethod
    def _absolute(cls, text: str | None) -> str | None:
        if text is not None and (not text.startswith("/") or "\0" in text):
            raise Complaint(
                "the log file needs an absolute path", "write /var/log/cdc-daemon/daemon.log"
            )
        return text

    @property
    def logs(self) -> dict[str, str | None]:
        """What ``telemetry.configure`` takes; JSON-ready."""
        return {"level": self.log_level, "format": self.log_format, "file": self.log_file}

    @property
    def metrics_host(self) -> str:
        """Host part of ``metrics_listen``."""
        return self.metrics_listen.rpartition(":")[0].strip("[]")

    @property
    def metrics_port(self) -> int:
        """Port part of ``metrics_listen``."""
        return int(self.metrics_listen.rpartition(":")[2])
