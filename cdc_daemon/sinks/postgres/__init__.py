"""The control database on PostgreSQL 14 and later."""

from cdc_daemon.sinks.planned import Change, Plan
from cdc_daemon.sinks.postgres.control import PostgresControl
from cdc_daemon.sinks.postgres.plan import apply_plan, plan
from cdc_daemon.sinks.postgres.sink import PostgresSink

__all__ = [
    "Change",
    "Plan",
    "PostgresControl",
    "PostgresSink",
    "apply_plan",
    "plan",
]
