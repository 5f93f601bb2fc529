"""The ledger: schema ``cdc`` in the database being written, changed only with what it describes.

``meta`` holds its version: ``apply`` migrates (``migrations``), workers refuse any other. All
timestamps are by this database's clock.
"""

from __future__ import annotations

from cdc_daemon.model.effects import Layout
from cdc_daemon.sinks.postgres import migrations
from cdc_daemon.sinks.postgres.names import (
    LEDGER,
    column_type,
    key_attributes,
    listed,
    qualified,
    quote,
    reference_columns,
)
from cdc_daemon.sinks.versions import OLDEST_LEDGER

_TEXTUAL = ("text", "character varying")
_BYTEWISE = ' COLLATE "C"'  # keys compare by bytes: fast, and the same under every locale

_VERSION_1 = {
    "meta": """
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        version integer NOT NULL,
        migrated_at timestamptz NOT NULL DEFAULT now()""",
    "checkpoint": """
        pipeline text PRIMARY KEY,
        phase text NOT NULL DEFAULT 'new',
        epoch bigint NOT NULL DEFAULT 0,
        system text,
        timeline integer,
        database text,
        publication text,
        slot text,
        generation integer NOT NULL DEFAULT 0,
        generation_started timestamptz,
        position text,
        commit_time timestamptz,
        transactions bigint NOT NULL DEFAULT 0,
        changes bigint NOT NULL DEFAULT 0,
        holder text NOT NULL DEFAULT '',
        backend_pid integer,
        backend_start timestamptz,
        seen_at timestamptz,
        updated_at timestamptz NOT NULL DEFAULT now()""",
    "failure": """
        id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
        pipeline text NOT NULL,
        mapping text NOT NULL,
        entity text NOT NULL,
        source_table text NOT NULL,
        operation text NOT NULL,
        position text NOT NULL,
        sequence bigint NOT NULL,
        commit_time timestamptz,
        parked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        error_code text NOT NULL,
        error_message text NOT NULL,
        attempts integer NOT NULL DEFAULT 1,
        state text NOT NULL DEFAULT 'parked',
        payload jsonb NOT NULL,
        mapping_version text NOT NULL,
        lanes bytea[] NOT NULL DEFAULT '{}',
        resolved_at timestamptz,
        actor text,
        reason text""",
    "failure_lane": """
        pipeline text NOT NULL,
        digest bytea NOT NULL,
        failure bigint NOT NULL REFERENCES "cdc"."failure" (id) ON DELETE CASCADE,
        PRIMARY KEY (pipeline, digest, failure)""",
    "backfill_chunk": """
        pipeline text NOT NULL,
        generation integer NOT NULL,
        mapping text NOT NULL,
        number integer NOT NULL DEFAULT 0,
        rows bigint NOT NULL DEFAULT 0,
        finished_at timestamptz,
        PRIMARY KEY (pipeline, generation, mapping, number)""",
    "command": """
        id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
        pipeline text NOT NULL,
        verb text NOT NULL,
        arguments jsonb NOT NULL DEFAULT '{}',
        actor text NOT NULL,
        state text NOT NULL DEFAULT 'pending',
        result jsonb,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        finished_at timestamptz""",
}
_OPTIONS = {
    # One row per pipeline, updated with every unit: room for HOT, and vacuum soon.
    "checkpoint": (
        " WITH (fillfactor = 10, autovacuum_vacuum_threshold = 500,"
        " autovacuum_vacuum_scale_factor = 0)"
    )
}
_INDEXES_1 = {
    "failure_open": (
        'CREATE INDEX failure_open ON "cdc"."failure" (pipeline, id) WHERE state = \'parked\''
    ),
    "failure_lane_failure": ('CREATE INDEX failure_lane_failure ON "cdc"."failure_lane" (failure)'),
    "command_pending": (
        'CREATE INDEX command_pending ON "cdc"."command" (pipeline, id) WHERE state = \'pending\''
    ),
}

TABLES = (*_VERSION_1, *migrations.ADDED_TABLES)
"""The ledger's tables, without the reference tables that mappings bring."""


def create() -> list[tuple[str, str]]:
    """Statements for a ledger: the oldest version, then forward. (description, SQL)."""
    found = [
        (f"create the ledger's schema {LEDGER}", f"CREATE SCHEMA IF NOT EXISTS {quote(LEDGER)}")
    ]
    for name, columns in _VERSION_1.items():
        body = "\n".join(line.strip() for line in columns.strip().splitlines())
        sql = f"CREATE TABLE {qualified(LEDGER, name)} (\n{body}\n){_OPTIONS.get(name, '')}"
        found.append((f"create the ledger's table {LEDGER}.{name}", sql))
    found += [(f"create the ledger's index {name}", sql) for name, sql in _INDEXES_1.items()]
    note = f"INSERT INTO {qualified(LEDGER, 'meta')} (version) VALUES ({OLDEST_LEDGER})"
    found.append((f"note the ledger's version {OLDEST_LEDGER}", note))
    return [*found, *migrations.forward(OLDEST_LEDGER)]


def reference_types(layout: Layout) -> dict[str, str]:
    """Columns of a mapping's reference table and their types, as ``format_type`` spells them."""
    assert layout.reference is not None
    sources, targets = reference_columns(layout)
    kinds = [kind for _, kind in layout.reference.columns]
    kinds += [column_type(attribute.type) for attribute in key_attributes(layout.entity)]
    return dict(zip(sources + targets, kinds, strict=True))


def create_reference(layout: Layout) -> tuple[str, str]:
    """The reference table of a mapping: source key (primary key) → entity key, no second index."""
    assert layout.reference is not None
    sources, _ = reference_columns(layout)
    columns = [
        f"{quote(name)} {kind}{_BYTEWISE if kind.startswith(_TEXTUAL) else ''} NOT NULL"
        for name, kind in reference_types(layout).items()
    ]
    table = qualified(LEDGER, layout.reference.name)
    sql = f"CREATE TABLE {table} ({', '.join(columns)}, PRIMARY KEY ({listed(sources)}))"
    return f"create the reference table of {layout.mapping}", sql
