"""The ledger: tables ``cdc_…`` in the database being written, changed only with what they describe.

``cdc_meta`` holds its version: ``apply`` migrates (``migrations``), workers refuse any other.
Moments are texts of fixed width in UTC (``2026-02-28 23:59:59.000000+00``), which compare as they
follow one another.
"""

from __future__ import annotations

from cdc_daemon.model.effects import Layout
from cdc_daemon.sinks.columns import key_attributes, reference_columns
from cdc_daemon.sinks.sqlite import migrations
from cdc_daemon.sinks.sqlite.names import key_type, ledger, listed, quote, stored_type
from cdc_daemon.sinks.versions import OLDEST_LEDGER

_VERSION_1 = {
    "meta": """
        one INTEGER PRIMARY KEY DEFAULT 1 CHECK (one = 1),
        version INTEGER NOT NULL,
        migrated_at TEXT NOT NULL""",
    "checkpoint": """
        pipeline TEXT PRIMARY KEY NOT NULL,
        phase TEXT NOT NULL DEFAULT 'new',
        epoch INTEGER NOT NULL DEFAULT 0,
        system TEXT,
        timeline INTEGER,
        database TEXT,
        publication TEXT,
        slot TEXT,
        generation INTEGER NOT NULL DEFAULT 0,
        generation_started TEXT,
        position TEXT,
        commit_time TEXT,
        transactions INTEGER NOT NULL DEFAULT 0,
        changes INTEGER NOT NULL DEFAULT 0,
        holder TEXT NOT NULL DEFAULT '',
        holder_pid INTEGER,
        updated_at TEXT NOT NULL DEFAULT ''""",
    "failure": """
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        pipeline TEXT NOT NULL,
        mapping TEXT NOT NULL,
        entity TEXT NOT NULL,
        source_table TEXT NOT NULL,
        operation TEXT NOT NULL,
        position TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        commit_time TEXT,
        parked_at TEXT NOT NULL,
        error_code TEXT NOT NULL,
        error_message TEXT NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 1,
        state TEXT NOT NULL DEFAULT 'parked',
        payload TEXT NOT NULL CHECK (json_valid(payload)),
        mapping_version TEXT NOT NULL,
        lanes TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(lanes)),
        resolved_at TEXT,
        actor TEXT,
        reason TEXT""",
    "failure_lane": """
        pipeline TEXT NOT NULL,
        digest BLOB NOT NULL,
        failure INTEGER NOT NULL REFERENCES "cdc_failure" (id) ON DELETE CASCADE,
        PRIMARY KEY (pipeline, digest, failure)""",
    "backfill_chunk": """
        pipeline TEXT NOT NULL,
        generation INTEGER NOT NULL,
        mapping TEXT NOT NULL,
        number INTEGER NOT NULL DEFAULT 0,
        rows INTEGER NOT NULL DEFAULT 0,
        finished_at TEXT,
        PRIMARY KEY (pipeline, generation, mapping, number)""",
    "command": """
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        pipeline TEXT NOT NULL,
        verb TEXT NOT NULL,
        arguments TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(arguments)),
        actor TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT 'pending',
        result TEXT CHECK (result IS NULL OR json_valid(result)),
        created_at TEXT NOT NULL,
        finished_at TEXT""",
}
_INDEXES_1 = {
    "cdc_failure_open": (
        "CREATE INDEX cdc_failure_open ON cdc_failure (pipeline, id) WHERE state = 'parked'"
    ),
    "cdc_failure_lane_failure": (
        "CREATE INDEX cdc_failure_lane_failure ON cdc_failure_lane (failure)"
    ),
    "cdc_command_pending": (
        "CREATE INDEX cdc_command_pending ON cdc_command (pipeline, id) WHERE state = 'pending'"
    ),
}
_NOW = "strftime('%Y-%m-%d %H:%M:%f000+00')"

TABLES = (*_VERSION_1, *migrations.ADDED_TABLES)
"""The ledger's tables without their prefix, and without those that mappings bring."""


def create() -> list[tuple[str, str]]:
    """Statements for a ledger: the oldest version, then forward. (description, SQL)."""
    found = []
    for name, columns in _VERSION_1.items():
        body = "\n".join(line.strip() for line in columns.strip().splitlines())
        sql = f"CREATE TABLE {ledger(name)} (\n{body}\n) STRICT"
        found.append((f"create the ledger's table cdc_{name}", sql))
    found += [(f"create the ledger's index {name}", sql) for name, sql in _INDEXES_1.items()]
    note = f"INSERT INTO {ledger('meta')} (version, migrated_at) VALUES ({OLDEST_LEDGER}, {_NOW})"
    found.append((f"note the ledger's version {OLDEST_LEDGER}", note))
    return [*found, *migrations.forward(OLDEST_LEDGER)]


def reference_types(layout: Layout) -> dict[str, str]:
    """Columns of a mapping's reference table and their types."""
    assert layout.reference is not None
    sources, targets = reference_columns(layout)
    kinds = [key_type(kind) for _, kind in layout.reference.columns]
    kinds += [stored_type(attribute.type) for attribute in key_attributes(layout.entity)]
    return dict(zip(sources + targets, kinds, strict=True))


def create_reference(layout: Layout) -> tuple[str, str]:
    """The reference table of a mapping: source key (primary key) → entity key, no second index."""
    assert layout.reference is not None
    sources, _ = reference_columns(layout)
    columns = [f"{quote(name)} {kind} NOT NULL" for name, kind in reference_types(layout).items()]
    columns.append(f"PRIMARY KEY ({listed(sources)})")
    table = ledger(layout.reference.name)
    sql = f"CREATE TABLE {table} ({', '.join(columns)}) STRICT, WITHOUT ROWID"
    return f"create the reference table of {layout.mapping}", sql
