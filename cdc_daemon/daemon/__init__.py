"""The supervisor: one worker process per pipeline, started, watched, restarted, drained."""

from cdc_daemon.daemon.pipeline import Document
from cdc_daemon.daemon.restarts import Limits
from cdc_daemon.daemon.supervisor import Reload, Reloaded, Supervisor
from cdc_daemon.daemon.verifying import Schedule

__all__ = ["Document", "Limits", "Reload", "Reloaded", "Schedule", "Supervisor"]
