"""The control database on MySQL 8.0.17 and later, and on MariaDB 10.6 and later."""

from cdc_daemon.sinks.mysql.control import MysqlControl
from cdc_daemon.sinks.mysql.plan import apply_plan, plan, role_statements
from cdc_daemon.sinks.mysql.sink import MysqlSink
from cdc_daemon.sinks.planned import Change, Plan

__all__ = [
    "Change",
    "MysqlControl",
    "MysqlSink",
    "Plan",
    "apply_plan",
    "plan",
    "role_statements",
]
