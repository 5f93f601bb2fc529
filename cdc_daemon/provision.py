"""What an administrator sets up: publication, ledger, entity tables, rights; planned, then applied.

Beside ``build``: it names adapters too, and connects with an administrator's rights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cdc_daemon.build import compile_all, compiler, make_control, make_sink, make_source
from cdc_daemon.config.configuration import Configuration
from cdc_daemon.config.schema import MysqlSourceConfig, PostgresSourceConfig
from cdc_daemon.mapping.compile import tables_of
from cdc_daemon.model.effects import Layout
from cdc_daemon.model.errors import ConfigurationError, Problem
from cdc_daemon.model.findings import Finding
from cdc_daemon.model.ports import CopiedMapping, Table
from cdc_daemon.model.position import Checkpoint, Phase
from cdc_daemon.sinks import sqlite
from cdc_daemon.sinks.planned import Plan as TargetPlan
from cdc_daemon.sinks.postgres.plan import apply_plan as apply_target
from cdc_daemon.sinks.postgres.plan import plan as plan_target
from cdc_daemon.sinks.postgres.plan import role_statements as target_role
from cdc_daemon.sources.mysql import setup as mysql_setup
from cdc_daemon.sources.postgres import setup as postgres_setup


class PlannedChange(Protocol):
    """One step at a server: what it does, in words and in SQL."""

    @property
    def description(self) -> str: ...

    @property
    def sql(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPlan:
    """Ordered changes to one server, and what only a person can put right.

    ``role``: the SQL with which an administrator makes the role that the daemon connects as; the
    changes grant it the rest.
    """

    server: str
    changes: tuple[PlannedChange, ...]
    refusals: tuple[Problem, ...]
    role: tuple[str, ...] = ()


Admins = Mapping[str, Mapping[str, str]]
"""Connection keywords of each source and of ``target``, with the rights to set them up."""


def plan_all(configuration: Configuration, admins: Admins) -> list[ServerPlan]:
    """What has to be created: sources first, then the target. Raises Unreachable, and
    ConfigurationError where it cannot even be planned."""
    plans = [
        _set_up_source(configuration, name, admins, apply=False) for name in configuration.sources
    ]
    try:
        return [*plans, _set_up_target(configuration, admins, apply=False)]
    except ConfigurationError as error:
        refusals = [problem for plan in plans for problem in plan.refusals]
        raise ConfigurationError(list(dict.fromkeys([*refusals, *error.problems]))) from error


def apply_all(configuration: Configuration, admins: Admins) -> list[ServerPlan]:
    """Create it; what was done. Raises ConfigurationError for what is refused."""
    plans = [
        _set_up_source(configuration, name, admins, apply=True) for name in configuration.sources
    ]
    return [*plans, _set_up_target(configuration, admins, apply=True)]


def _set_up_source(
    configuration: Configuration, name: str, admins: Admins, *, apply: bool
) -> ServerPlan:
    source = configuration.sources[name]
    tables = tables_of(configuration.mappings_of(name))
    match source:
        case PostgresSourceConfig():
            return _set_up_postgres(source, admins[name], tables, apply=apply)
        case MysqlSourceConfig():
            return _set_up_mysql(source, admins[name], tables, apply=apply)


def _set_up_postgres(
    source: PostgresSourceConfig,
    admin: Mapping[str, str],
    tables: Sequence[Table],
    *,
    apply: bool,
) -> ServerPlan:
    worker = source.conninfo.get("user")
    make = postgres_setup.apply_plan if apply else postgres_setup.plan
    made = make(source.name, admin, publication=source.publication, tables=tables, worker=worker)
    database = source.conninfo.get("dbname", "…")
    role = postgres_setup.role_statements(worker, database) if worker else ()
    return ServerPlan(
        server=f"source {source.name}",
        changes=made.changes,
        refusals=made.refusals,
        role=tuple(role),
    )


def _set_up_mysql(
    source: MysqlSourceConfig, admin: Mapping[str, str], tables: Sequence[Table], *, apply: bool
) -> ServerPlan:
    make = mysql_setup.apply_plan if apply else mysql_setup.plan
    made = make(
        source.name,
        admin,
        tables=tables,
        worker=source.user,
        follows=source.cascades == "follow",
    )
    return ServerPlan(
        server=f"source {source.name}",
        changes=made.changes,
        refusals=made.refusals,
        role=tuple(mysql_setup.role_statements(source.user)),
    )


def _set_up_target(configuration: Configuration, admins: Admins, *, apply: bool) -> ServerPlan:
    match configuration.target.kind:
        case "sqlite":
            return _set_up_file(configuration, admins, sqlite.apply_plan if apply else sqlite.plan)
        case "mysql":
            return _set_up_mysql_target(configuration, admins, apply=apply)
        case "postgresql":
            return _set_up_server(configuration, admins, apply_target if apply else plan_target)


def _set_up_file(
    configuration: Configuration, admins: Admins, make: Callable[..., TargetPlan]
) -> ServerPlan:
    layouts = layouts_of(configuration, admins)
    made = make(configuration.target.path, configuration.entities, layouts)
    return ServerPlan(server="target", changes=made.changes, refusals=made.refusals)


def _set_up_mysql_target(
    configuration: Configuration, admins: Admins, *, apply: bool
) -> ServerPlan:
    from cdc_daemon.sinks import mysql

    make = mysql.apply_plan if apply else mysql.plan
    worker = configuration.target.conninfo.get("user")
    made = make(
        admins["target"],
        configuration.entities,
        layouts_of(configuration, admins),
        worker=worker,
    )
    role = mysql.role_statements(worker) if worker else ()
    return ServerPlan(
        server="target", changes=made.changes, refusals=made.refusals, role=tuple(role)
    )


def _set_up_server(
    configuration: Configuration, admins: Admins, make: Callable[..., TargetPlan]
) -> ServerPlan:
    target = configuration.target
    worker = target.conninfo.get("user")
    made = make(
        admins["target"],
        configuration.entities,
        layouts_of(configuration, admins),
        schema=target.schema_,
        worker=worker,
    )
    database = target.conninfo.get("dbname", "…")
    role = target_role(worker, target.schema_, database) if worker else ()
    return ServerPlan(
        server="target", changes=made.changes, refusals=made.refusals, role=tuple(role)
    )


def layouts_of(configuration: Configuration, admins: Admins) -> list[Layout]:
    """Every mapping's layout, against what the sources' catalogues say now."""
    problems: list[Problem] = []
    found: list[Layout] = []
    for name in configuration.sources:
        source = make_source(configuration, name, admins[name])
        try:
            compiled = compile_all(configuration, source.relations(), compiler(configuration, name))
            found += [one.layout for one in compiled]
        except ConfigurationError as error:
            problems += error.problems
        finally:
            source.close()
    if problems:
        raise ConfigurationError(problems)
    return found


def examine_target(configuration: Configuration, layouts: Sequence[Layout]) -> list[Finding]:
    """The findings of every check on the control database, for these mappings' layouts."""
    return make_sink(configuration, "check", layouts).examine()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a pipeline goes on from, and whether a worker holds it now."""

    checkpoint: Checkpoint
    held: bool
    copied: dict[str, CopiedMapping]


def standings(configuration: Configuration) -> dict[str, Standing]:
    """Every configured pipeline's; one that never ran is new. Raises as the control database does.

    Asked before the sources are: a slot may only be ahead of what the ledger says by then.
    """
    control = make_control(configuration)
    try:
        known = {found.pipeline: found for found in control.checkpoints()}
        return {
            name: Standing(
                checkpoint=known.get(name) or Checkpoint(pipeline=name, phase=Phase.NEW, epoch=0),
                held=control.holder_alive(name),
                copied=control.copied_mappings(name),
            )
            for name in configuration.sources
        }
    finally:
        control.close()
