"""The way of the ledger from each version to the next; the versions are those of every sink.

A new ledger goes the same way from the oldest version. A step that was released is never edited.
All steps that a database needs, and the note of its new version, are one transaction.
"""

from __future__ import annotations

from collections.abc import Iterator

from cdc_daemon.sinks.sqlite.names import ledger
from cdc_daemon.sinks.versions import LEDGER_VERSION

Step = tuple[str, str]
"""What it does, in words and in SQL."""

_NOW = "strftime('%Y-%m-%d %H:%M:%f000+00')"
_VERSION_2 = {
    "verification": """
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        pipeline TEXT NOT NULL,
        origin TEXT NOT NULL,
        actor TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT 'running',
        whole INTEGER NOT NULL DEFAULT 1,
        started_at TEXT NOT NULL,
        finished_at TEXT,
        error TEXT""",
    "verification_mapping": """
        verification INTEGER NOT NULL REFERENCES "cdc_verification" (id) ON DELETE CASCADE,
        mapping TEXT NOT NULL,
        source_rows INTEGER NOT NULL,
        target_rows INTEGER NOT NULL,
        matching INTEGER NOT NULL,
        missing INTEGER NOT NULL,
        extra INTEGER NOT NULL,
        different INTEGER NOT NULL,
        moving INTEGER NOT NULL,
        parked INTEGER NOT NULL,
        kept INTEGER NOT NULL,
        PRIMARY KEY (verification, mapping)""",
    "verification_difference": """
        verification INTEGER NOT NULL REFERENCES "cdc_verification" (id) ON DELETE CASCADE,
        mapping TEXT NOT NULL,
        number INTEGER NOT NULL,
        kind TEXT NOT NULL,
        key TEXT NOT NULL CHECK (json_valid(key)),
        source_row TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(source_row)),
        attributes TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(attributes)),
        reason TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (verification, mapping, number)""",
    "repair": """
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        pipeline TEXT NOT NULL,
        mapping TEXT NOT NULL,
        command INTEGER NOT NULL,
        actor TEXT NOT NULL,
        reason TEXT NOT NULL,
        kind TEXT NOT NULL,
        key TEXT NOT NULL CHECK (json_valid(key)),
        source_row TEXT NOT NULL CHECK (json_valid(source_row)),
        outcome TEXT NOT NULL,
        detail TEXT NOT NULL DEFAULT '',
        repaired_at TEXT NOT NULL""",
    "copied_mapping": """
        pipeline TEXT NOT NULL,
        mapping TEXT NOT NULL,
        shape TEXT NOT NULL,
        referenced INTEGER NOT NULL,
        version TEXT NOT NULL,
        PRIMARY KEY (pipeline, mapping)""",
}
_VERSION_3 = {
    "child_row": """
        parent BLOB NOT NULL,
        digest BLOB NOT NULL,
        pipeline TEXT NOT NULL,
        source_table TEXT NOT NULL,
        tracked TEXT NOT NULL,
        PRIMARY KEY (parent, digest)""",
}
_VERSION_4 = {
    "failure_edit": """
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        failure INTEGER NOT NULL REFERENCES "cdc_failure" (id) ON DELETE CASCADE,
        edited_at TEXT NOT NULL,
        actor TEXT NOT NULL,
        reason TEXT NOT NULL,
        payload TEXT NOT NULL CHECK (json_valid(payload))""",
    "breaker": """
        pipeline TEXT PRIMARY KEY,
        tripped_at TEXT NOT NULL,
        reason TEXT NOT NULL,
        resumed_until TEXT""",
    "failure_await": """
        pipeline TEXT NOT NULL,
        digest BLOB NOT NULL,
        failure INTEGER NOT NULL REFERENCES "cdc_failure" (id) ON DELETE CASCADE,
        PRIMARY KEY (pipeline, digest, failure)""",
}

MIGRATIONS: dict[int, tuple[Step, ...]] = {
    1: (
        *(
            (
                f"create the ledger's table cdc_{name}",
                f"CREATE TABLE {ledger(name)} ({columns}) STRICT",
            )
            for name, columns in _VERSION_2.items()
        ),
        (
            "create the ledger's index cdc_verification_pipeline",
            "CREATE INDEX cdc_verification_pipeline ON cdc_verification (pipeline, id)",
        ),
    ),
    2: tuple(
        (
            f"create the ledger's table cdc_{name}",
            f"CREATE TABLE {ledger(name)} ({columns}) STRICT, WITHOUT ROWID",
        )
        for name, columns in _VERSION_3.items()
    ),
    3: (
        (
            "add what a parked change waits for",
            "ALTER TABLE cdc_failure ADD COLUMN"
            " awaits TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(awaits))",
        ),
        (
            "add when a parked change is tried again",
            "ALTER TABLE cdc_failure ADD COLUMN retry_at TEXT",
        ),
        (
            "create the ledger's index cdc_failure_settled",
            "CREATE INDEX cdc_failure_settled ON cdc_failure (pipeline, resolved_at)"
            " WHERE state <> 'parked'",
        ),
        *(
            (
                f"create the ledger's table cdc_{name}",
                f"CREATE TABLE {ledger(name)} ({columns}) STRICT",
            )
            for name, columns in _VERSION_4.items()
        ),
        (
            "create the ledger's index cdc_failure_edit_failure",
            "CREATE INDEX cdc_failure_edit_failure ON cdc_failure_edit (failure)",
        ),
        (
            "create the ledger's index cdc_failure_await_failure",
            "CREATE INDEX cdc_failure_await_failure ON cdc_failure_await (failure)",
        ),
        (
            "create the ledger's index cdc_failure_due",
            "CREATE INDEX cdc_failure_due ON cdc_failure (pipeline, retry_at)"
            " WHERE state = 'parked' AND retry_at IS NOT NULL",
        ),
    ),
}
"""From that version to the next."""

ADDED_TABLES = (*_VERSION_2, *_VERSION_3, *_VERSION_4)
"""The tables that version 1 had not."""


def forward(version: int) -> Iterator[Step]:
    """The steps from that version to the present one, its note at the end."""
    for number in range(version, LEDGER_VERSION):
        yield from MIGRATIONS[number]
    note = f"UPDATE {ledger('meta')} SET version = {LEDGER_VERSION}, migrated_at = {_NOW}"
    yield f"note the ledger's version {LEDGER_VERSION}", note


def fence() -> Step:
    """Whoever still works by the old version finds its epoch gone at its next commit."""
    return "fence off workers of the old version", "UPDATE cdc_checkpoint SET epoch = epoch + 1"
