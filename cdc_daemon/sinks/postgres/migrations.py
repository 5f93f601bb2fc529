"""The way of the ledger from each version to the next: small steps, carried out in order.

A new ledger goes the same way from the oldest version, so that there is no second description of
the present one. A step that was released is never edited; what changes is a step to come. All steps
that a database needs, and the note of its new version, are one transaction (``apply_plan``).
"""

from __future__ import annotations

from collections.abc import Iterator

from cdc_daemon.sinks.postgres.names import LEDGER, qualified
from cdc_daemon.sinks.versions import LEDGER_VERSION

Step = tuple[str, str]
"""What it does, in words and in SQL."""

_VERSION_2 = {
    "verification": """
        id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
        pipeline text NOT NULL,
        origin text NOT NULL,
        actor text NOT NULL,
        state text NOT NULL DEFAULT 'running',
        whole boolean NOT NULL DEFAULT true,
        started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        finished_at timestamptz,
        error text""",
    "verification_mapping": """
        verification bigint NOT NULL REFERENCES "cdc"."verification" (id) ON DELETE CASCADE,
        mapping text NOT NULL,
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
    "verification_difference": """
        verification bigint NOT NULL REFERENCES "cdc"."verification" (id) ON DELETE CASCADE,
        mapping text NOT NULL,
        number integer NOT NULL,
        kind text NOT NULL,
        key jsonb NOT NULL,
        source_row jsonb NOT NULL DEFAULT '[]',
        attributes jsonb NOT NULL DEFAULT '[]',
        reason text NOT NULL DEFAULT '',
        PRIMARY KEY (verification, mapping, number)""",
    "repair": """
        id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
        pipeline text NOT NULL,
        mapping text NOT NULL,
        command bigint NOT NULL,
        actor text NOT NULL,
        reason text NOT NULL,
        kind text NOT NULL,
        key jsonb NOT NULL,
        source_row jsonb NOT NULL,
        outcome text NOT NULL,
        detail text NOT NULL DEFAULT '',
        repaired_at timestamptz NOT NULL DEFAULT clock_timestamp()""",
    "copied_mapping": """
        pipeline text NOT NULL,
        mapping text NOT NULL,
        shape text NOT NULL,
        referenced boolean NOT NULL,
        version text NOT NULL,
        PRIMARY KEY (pipeline, mapping)""",
}
_VERSION_3 = {
    "child_row": """
        parent bytea NOT NULL,
        digest bytea NOT NULL,
        pipeline text NOT NULL,
        source_table text NOT NULL,
        tracked text NOT NULL,
        PRIMARY KEY (parent, digest)""",
}
_VERSION_4 = {
    "failure_edit": """
        id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
        failure bigint NOT NULL REFERENCES "cdc"."failure" (id) ON DELETE CASCADE,
        edited_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        actor text NOT NULL,
        reason text NOT NULL,
        payload jsonb NOT NULL""",
    "breaker": """
        pipeline text PRIMARY KEY,
        tripped_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        reason text NOT NULL,
        resumed_until timestamptz""",
    "failure_await": """
        pipeline text NOT NULL,
        digest bytea NOT NULL,
        failure bigint NOT NULL REFERENCES "cdc"."failure" (id) ON DELETE CASCADE,
        PRIMARY KEY (pipeline, digest, failure)""",
}

MIGRATIONS: dict[int, tuple[Step, ...]] = {
    1: (
        *(
            (f"create the ledger's table {LEDGER}.{name}",
             f"CREATE TABLE {qualified(LEDGER, name)} ({columns})")
            for name, columns in _VERSION_2.items()
        ),
        (
            "create the ledger's index verification_pipeline",
            'CREATE INDEX verification_pipeline ON "cdc"."verification" (pipeline, id)',
        ),
    ),
    2: tuple(
        (f"create the ledger's table {LEDGER}.{name}",
         f"CREATE TABLE {qualified(LEDGER, name)} ({columns})")
        for name, columns in _VERSION_3.items()
    ),
    3: (
        (
            "add what a parked change waits for",
            'ALTER TABLE "cdc"."failure" ADD COLUMN awaits bytea[] NOT NULL DEFAULT \'{}\'',
        ),
        (
            "add when a parked change is tried again",
            'ALTER TABLE "cdc"."failure" ADD COLUMN retry_at timestamptz',
        ),
        (
            "create the ledger's index failure_settled",
            'CREATE INDEX failure_settled ON "cdc"."failure" (pipeline, resolved_at)'
            " WHERE state <> 'parked'",
        ),
        *(
            (f"create the ledger's table {LEDGER}.{name}",
             f"CREATE TABLE {qualified(LEDGER, name)} ({columns})")
            for name, columns in _VERSION_4.items()
        ),
        (
            "create the ledger's index failure_edit_failure",
            'CREATE INDEX failure_edit_failure ON "cdc"."failure_edit" (failure)',
        ),
        (
            "create the ledger's index failure_await_failure",
            'CREATE INDEX failure_await_failure ON "cdc"."failure_await" (failure)',
        ),
        (
            "create the ledger's index failure_due",
            'CREATE INDEX failure_due ON "cdc"."failure" (pipeline, retry_at)'
            " WHERE state = 'parked' AND retry_at IS NOT NULL",
        ),
    ),
}  # fmt: skip
"""From that version to the next."""

ADDED_TABLES = (*_VERSION_2, *_VERSION_3, *_VERSION_4)
"""The tables that version 1 had not."""


def forward(version: int) -> Iterator[Step]:
    """The steps from that version to the present one, its note at the end."""
    for number in range(version, LEDGER_VERSION):
        yield from MIGRATIONS[number]
    note = f"UPDATE cdc.meta SET version = {LEDGER_VERSION}, migrated_at = now()"
    yield f"note the ledger's version {LEDGER_VERSION}", note


def fence() -> Step:
    """Whoever still works by the old version finds its epoch gone at its next commit."""
    return (
        "fence off workers of the old version",
        "UPDATE cdc.checkpoint SET epoch = epoch + 1",
    )
