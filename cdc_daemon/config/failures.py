"""Model of ``failures``: what becomes of parked changes by themselves."""

from __future__ import annotations

from cdc_daemon.config.keys import KeysConfig


class FailuresConfig(KeysConfig):
    """The failure queue."""
