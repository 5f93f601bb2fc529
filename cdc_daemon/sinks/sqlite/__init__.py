"""The embedded control database: one SQLite file, one pipeline."""

from cdc_daemon.sinks.planned import Change, Plan
from cdc_daemon.sinks.sqlite.control import SqliteControl
from cdc_daemon.sinks.sqlite.plan import apply_plan, plan
from cdc_daemon.sinks.sqlite.sink import SqliteSink

__all__ = [
    "Change",
    "Plan",
    "SqliteControl",
    "SqliteSink",
    "apply_plan",
    "plan",
]
