"""The ledger: tables ``cdc_…`` in the database being written, changed only with what they describe.

``cdc_meta`` holds its version, which is the same on every sink: ``apply`` creates and migrates,
workers refuse any other. Statements that create can be repeated, for the server commits each by
itself: a broken ``apply`` goes on where it was. Moments are DATETIME in UTC, by this server's
clock.
"""

from __future__ import annotations

from collections.abc import Iterator

from cdc_daemon.model.effects import Layout
from cdc_daemon.sinks.columns import key_attributes, reference_columns
from cdc_daemon.sinks.mysql import migrations
from cdc_daemon.sinks.mysql.migrations import OLDEST_HERE, Step, options
from cdc_daemon.sinks.mysql.names import (
    column_type,
    is_text,
    ledger,
    ledger_name,
    listed,
    quote,
    reference_type,
)
from cdc_daemon.sinks.mysql.session import Session
from cdc_daemon.sinks.versions import LEDGER_VERSION

_NAME = "varchar(255) NOT NULL"
_NUMBER = "bigint NOT NULL DEFAULT 0"
_OLDEST = {
    "meta": """
        one tinyint NOT NULL DEFAULT 1 PRIMARY KEY,
        version int NOT NULL,
        migrated_at datetime(6) NOT NULL""",
    "checkpoint": f"""
        pipeline {_NAME} PRIMARY KEY,
        phase varchar(20) NOT NULL DEFAULT 'new',
        epoch {_NUMBER},
        `system` varchar(255),
        timeline int,
        `database` varchar(255),
        publication longtext,
        slot varchar(255),
        generation int NOT NULL DEFAULT 0,
        generation_started datetime(6),
        position longtext,
        commit_time datetime(6),
        transactions {_NUMBER},
        changes {_NUMBER},
        holder varchar(255) NOT NULL DEFAULT '',
        backend_pid bigint unsigned,
        seen_at datetime(6),
        updated_at datetime(6) NOT NULL DEFAULT '1970-01-01 00:00:00'""",
    "failure": f"""
        id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
        pipeline {_NAME},
        mapping {_NAME},
        entity {_NAME},
        source_table varchar(600) NOT NULL,
        operation varchar(20) NOT NULL,
        position longtext NOT NULL,
        sequence bigint NOT NULL,
        commit_time datetime(6),
        parked_at datetime(6) NOT NULL,
        error_code {_NAME},
        error_message longtext NOT NULL,
        attempts int NOT NULL DEFAULT 1,
        state varchar(20) NOT NULL DEFAULT 'parked',
        payload longtext NOT NULL,
        mapping_version {_NAME},
        lanes longtext NOT NULL,
        resolved_at datetime(6),
        actor varchar(255),
        reason longtext,
        KEY cdc_failure_open (pipeline, state, id)""",
    "failure_lane": f"""
        pipeline {_NAME},
        digest binary(16) NOT NULL,
        failure bigint NOT NULL,
        PRIMARY KEY (pipeline, digest, failure),
        KEY cdc_failure_lane_failure (failure)""",
    "backfill_chunk": f"""
        pipeline {_NAME},
        generation int NOT NULL,
        mapping {_NAME},
        number int NOT NULL DEFAULT 0,
        `rows` {_NUMBER},
        finished_at datetime(6),
        PRIMARY KEY (pipeline, generation, mapping, number)""",
    "command": f"""
        id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
        pipeline {_NAME},
        verb varchar(100) NOT NULL,
        arguments longtext NOT NULL,
        actor {_NAME},
        state varchar(20) NOT NULL DEFAULT 'pending',
        result longtext,
        created_at datetime(6) NOT NULL,
        finished_at datetime(6),
        KEY cdc_command_pending (pipeline, state, id)""",
    "verification": f"""
        id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
        pipeline {_NAME},
        origin varchar(20) NOT NULL,
        actor {_NAME},
        state varchar(20) NOT NULL DEFAULT 'running',
        whole tinyint(1) NOT NULL DEFAULT 1,
        started_at datetime(6) NOT NULL,
        finished_at datetime(6),
        error longtext,
        KEY cdc_verification_pipeline (pipeline, id)""",
    "verification_mapping": f"""
        verification bigint NOT NULL,
        mapping {_NAME},
        source_rows bigint NOT NULL,
        target_rows bigint NOT NULL,
        matching bigint NOT NULL,
        missing bigint NOT NULL,
        extra bigint NOT NULL,
        different bigint NOT NULL,
        moving bigint NOT NULL,
        parked bigint NOT NULL,
        kept bigint NOT NULL,
        PRIMARY KEY (verification, mapping)""",
    "verification_difference": f"""
        verification bigint NOT NULL,
        mapping {_NAME},
        number int NOT NULL,
        kind varchar(20) NOT NULL,
        `key` longtext NOT NULL,
        source_row longtext NOT NULL,
        attributes longtext NOT NULL,
        reason longtext NOT NULL,
        PRIMARY KEY (verification, mapping, number)""",
    "repair": f"""
        id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
        pipeline {_NAME},
        mapping {_NAME},
        command bigint NOT NULL,
        actor {_NAME},
        reason longtext NOT NULL,
        kind varchar(20) NOT NULL,
        `key` longtext NOT NULL,
        source_row longtext NOT NULL,
        outcome varchar(20) NOT NULL,
        detail longtext NOT NULL,
        repaired_at datetime(6) NOT NULL""",
    "copied_mapping": f"""
        pipeline {_NAME},
        mapping {_NAME},
        shape varchar(255) NOT NULL,
        referenced tinyint(1) NOT NULL,
        version varchar(255) NOT NULL,
        PRIMARY KEY (pipeline, mapping)""",
    "child_row": f"""
        parent binary(16) NOT NULL,
        digest binary(16) NOT NULL,
        pipeline {_NAME},
        source_table varchar(600) NOT NULL,
        tracked longtext NOT NULL,
        PRIMARY KEY (parent, digest)""",
}

TABLES = (*_OLDEST, *migrations.ADDED_TABLES)
"""The ledger's tables without their prefix, and without those that mappings bring."""


def create(session: Session) -> Iterator[Step]:
    """The steps to a ledger: the oldest version, then forward; its note comes last."""
    for name, columns in _OLDEST.items():
        body = "\n".join(line.strip() for line in columns.strip().splitlines())
        end = options(session.collation)
        sql = f"CREATE TABLE IF NOT EXISTS {ledger(name)} (\n{body}\n) {end}"
        yield Step(words=f"create the ledger's table cdc_{name}", sql=sql)
    yield from migrations.forward(session, OLDEST_HERE)
    note = (
        f"INSERT INTO {ledger('meta')} (version, migrated_at)"
        f" VALUES ({LEDGER_VERSION}, UTC_TIMESTAMP(6))"
    )
    yield Step(words=f"note the ledger's version {LEDGER_VERSION}", sql=note)


def reference_types(layout: Layout) -> dict[str, str]:
    """Columns of a mapping's reference table and their types."""
    assert layout.reference is not None
    sources, targets = reference_columns(layout)
    width = len(layout.reference.columns)
    kinds = [reference_type(kind, width) for _, kind in layout.reference.columns]
    kinds += [column_type(one.type, keyed=True) for one in key_attributes(layout.entity)]
    return dict(zip(sources + targets, kinds, strict=True))


def create_reference(layout: Layout, collation: str) -> tuple[str, str]:
    """The reference table of a mapping: source key (primary key) → entity key, no second index.
    (description, SQL)"""
    assert layout.reference is not None
    sources, _ = reference_columns(layout)
    columns = [
        f"{quote(name)} {kind}{f' COLLATE {collation}' if is_text(kind) else ''} NOT NULL"
        for name, kind in reference_types(layout).items()
    ]
    body = ", ".join([*columns, f"PRIMARY KEY ({listed(sources)})"])
    sql = f"CREATE TABLE {ledger(layout.reference.name)} ({body}) {options(collation)}"
    return f"create the reference table of {layout.mapping}", sql


def reference_name(layout: Layout) -> str:
    """The name of a mapping's reference table."""
    assert layout.reference is not None
    return ledger_name(layout.reference.name)
